"""MEDFE as a method: its fields and its stage."""

from typing import Literal

from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Method, StageSpec
from gmsrm_jax.methods.medfe import network
from gmsrm_jax.methods.medfe.stage import MedfeStage
from gmsrm_jax.nn.vgg import PERCEPTUAL_LAYERS, VGG16_FILE
from gmsrm_jax.runtime.fields import Betas, Channels, Layers, Section, setting


class MedfeFields(Section):
    """The section config.medfe; weights are those of the authors' options."""

    width: int = setting(
        64, "channels of the first level; they double up to eight times it", gt=0, local=4
    )
    residual_blocks: int = setting(4, "at the last level", ge=0, local=1)
    filling_layers: int = setting(5, "partial convolutions of each kernel size", gt=0, local=2)
    filling_mask: Literal["hole", "none"] = setting(
        "hole", "what partial convolutions take for unknown; none: nothing, as in the released code"
    )
    released_layout: bool = setting(
        False, "equalised features in the mixed-up order of the released code"
    )
    discriminator_features: Channels = setting(
        (64, 128, 256, 512), "channels of both discriminators' hidden layers", local=(8, 16, 16, 16)
    )
    l1_weight: float = setting(1.0, "of L1", ge=0)
    # Both 3 in effect in the released code.
    structure_weight: float = setting(1.0, "of the small smoothed picture's L1", ge=0)
    texture_weight: float = setting(1.0, "of the small picture's L1", ge=0)
    smoothing: float = setting(0.015, "λ of the smoothed picture, for values in [0, 1]", ge=0)
    smoothing_sigma: float = setting(3.0, "σ of its first window [px]", gt=0, local=1.0)
    adversarial_weight: float = setting(0.2, "of both relativistic losses", ge=0)
    perceptual_weight: float = setting(0.2, "of the L1 of VGG features", ge=0)
    style_weight: float = setting(250.0, "of the L1 of their Gram matrices", ge=0)
    perceptual_layers: Layers = setting(
        PERCEPTUAL_LAYERS, "VGG-16's, of the perceptual loss", local=PERCEPTUAL_LAYERS[:3]
    )
    style_layers: Layers = setting(
        ("relu2_2", "relu3_3", "relu4_3", "relu5_2"),
        "VGG-16's, of the style loss",
        local=("relu2_2",),
    )
    vgg: str = VGG16_FILE
    learning_rate: float = setting(2e-4, "of every Adam", ge=0)
    betas: Betas = setting((0.5, 0.999), "of every Adam")
    length_kimg: float = setting(
        894.0, "length, thousand pictures: 60 epochs of Paris StreetView", gt=0, local=0.128
    )
    constant_share: float = setting(
        1 / 3, "first share of the steps, before the rate falls linearly to 0", ge=0, le=1
    )
    ema: float = setting(0.0, "decay of the weights that fill; 0: the last ones", ge=0, le=1)
    save_every: int = setting(2000, "steps between two checkpoints", gt=0, local=8)
    validate_every: int = setting(2000, "steps between two validations", gt=0, local=8)


def _stages(config: ConfigDict) -> tuple[StageSpec, ...]:
    return (StageSpec("inpainting", lambda context: MedfeStage(MEDFE, config, context)),)


MEDFE = Method(
    name="medfe",
    title="MEDFE",
    priors="A",
    about=(
        "Liu et al., ECCV 2020: shallow features stand for texture and deep ones for structure; "
        "both are filled by partial convolutions of three sizes and equalised by bilateral sums."
    ),
    fill=network.fill,
    sections={"medfe": MedfeFields},
    network_fields=(
        "medfe.width",
        "medfe.residual_blocks",
        "medfe.filling_layers",
        "medfe.filling_mask",
        "medfe.released_layout",
    ),
    lengths=("medfe.length_kimg",),
    stages=_stages,
    init=network.init,
)
