"""LISK as a method: its fields and its stage."""

from typing import Literal

from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Method, StageSpec
from gmsrm_jax.methods.lisk import network
from gmsrm_jax.methods.lisk.stage import LiskStage
from gmsrm_jax.nn.optimizers import Schedule
from gmsrm_jax.nn.vgg import PERCEPTUAL_LAYERS, VGG19_FILE
from gmsrm_jax.runtime.fields import Betas, Channels, Layers, Section, setting


class LiskFields(Section):
    """The section config.lisk; weights are those of the authors' config."""

    width: int = setting(64, "channels of the generator at full size", gt=0, local=8)
    residual_blocks: int = setting(8, "at a quarter of the size", ge=0, local=2)
    head_norm: network.HeadNorm = setting(
        "instance",
        "norms behind the heads, as in the released networks; with them every picture"
        " has the same mean and deviation in front of tanh",
    )
    structure_inputs: Literal["known", "complete"] = setting(
        "known",
        "what gradients and edges are shown of; complete: the picture with what lies in "
        "its hole, as the released code does",
    )
    small_pictures: bool = setting(
        False, "pictures at a quarter and half too, with an L1; 0 times it in the released config"
    )
    sigma: float = setting(1.5, "σ of Canny's Gaussian [px]", gt=0, local=1.0)
    discriminator_features: Channels = setting(
        (64, 128, 256, 512), "channels of its hidden layers", local=(8, 16, 16, 16)
    )
    # The released sums are divided by the mask's pixels alone, not by 3 channels and 4 pictures.
    l1_weight: float = setting(12.0, "of the mean L1 in the hole and in the known part", ge=0)
    structure_weight: float = setting(1.0, "of the pyramid structure loss", ge=0)
    adversarial_weight: float = setting(0.4, "of the hinge loss of composites", ge=0)
    content_weight: float = setting(0.1, "of squared differences of VGG features", ge=0)
    style_weight: float = setting(250.0, "of squared differences of their Gram matrices", ge=0)
    vgg_layers: Layers = setting(
        PERCEPTUAL_LAYERS, "VGG-19's, of both", local=PERCEPTUAL_LAYERS[:3]
    )
    vgg: str = VGG19_FILE
    learning_rate: float = setting(1e-4, "of both Adams", ge=0)
    schedule: Schedule = setting(
        "half_linear", "of the learning rate; half_linear: to 0 over the second half"
    )
    betas: Betas = setting((0.0, 0.9), "of both Adams")
    ema: float = setting(0.0, "decay of the weights that fill; 0: the last ones", ge=0, le=1)
    # The authors tell of fine-tuning alone: 10 epochs at 1e-5.
    length_kimg: float = setting(4000.0, "length, thousand pictures", gt=0, local=0.128)
    save_every: int = setting(2000, "steps between two checkpoints", gt=0, local=8)
    validate_every: int = setting(2000, "steps between two validations", gt=0, local=8)


def _stages(config: ConfigDict) -> tuple[StageSpec, ...]:
    return (StageSpec("inpainting", lambda context: LiskStage(LISK, config, context)),)


LISK = Method(
    name="lisk",
    title="LISK",
    priors="A",
    about=(
        "Yang et al., AAAI 2020: one generator predicts the picture and its gradients at three "
        "scales, and embeds what it knows of structure into the picture's features."
    ),
    fill=network.fill,
    sections={"lisk": LiskFields},
    shared={"batch_size": 4},
    network_fields=(
        "lisk.width",
        "lisk.residual_blocks",
        "lisk.head_norm",
        "lisk.structure_inputs",
        "lisk.small_pictures",
        "lisk.sigma",
    ),
    lengths=("lisk.length_kimg",),
    stages=_stages,
    init=network.init,
)
