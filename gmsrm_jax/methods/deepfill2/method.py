"""DeepFill V2 as a method: its fields, its one stage."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gmsrm_jax.methods.adversarial_stage import AdversarialStage
from gmsrm_jax.methods.base import Batch, Context, Method, StageSpec, TrainState, Variables, apply
from gmsrm_jax.methods.deepfill2 import network
from gmsrm_jax.methods.stage import steps_of
from gmsrm_jax.nn.adversarial import Adversary, Played
from gmsrm_jax.nn.contextual_attention import Grid
from gmsrm_jax.nn.gated import Start
from gmsrm_jax.runtime.fields import Betas, Channels, Section, setting
from gmsrm_jax.runtime.pixels import composite

_JUDGE = "discriminator"


class DeepFill2Fields(Section):
    """The section config.deepfill2."""

    width: int = setting(24, "channels at full size; four times as many inside", ge=2, local=8)
    fuse: bool = setting(True, "the attention prefers neighbours that look at neighbours")
    grid: Grid = setting(
        "even", "pixels kept when the attention halves a map; corners: as the authors' code"
    )
    start: Start = setting(
        "gained", "first weights; glorot: the authors', whose signal is lost in the layers"
    )
    discriminator_features: Channels = setting(
        (64, 128, 256, 256, 256, 256),
        "channels of the discriminator's layers",
        local=(16, 32, 32, 32),
    )
    activated_logits: bool = setting(
        True, "a leaky ReLU behind the discriminator's last layer, as in the authors' code"
    )
    coarse_weight: float = setting(1.0, "of the coarse output's L1", ge=0)
    refinement_weight: float = setting(1.0, "of the refined output's L1", ge=0)
    adversarial_weight: float = setting(
        1.0, "of the adversarial loss; 0: no discriminator", ge=0, local=0.1
    )
    learning_rate: float = setting(1e-4, "of both Adams", ge=0)
    betas: Betas = setting((0.5, 0.999), "of both Adams")
    ema: float = setting(0.0, "of the weights that fill; 0: the last weights", ge=0, le=1)
    length_kimg: float = setting(
        16000.0, "length, thousand pictures: a million steps of 16", gt=0, local=0.128
    )
    save_every: int = setting(2000, "steps between two checkpoints", gt=0, local=8)
    validate_every: int = setting(2000, "steps between two validations", gt=0, local=8)


class DeepFill2Stage(AdversarialStage):
    """Trains by the program "main"; see `base.Stage`."""

    salt = 1

    def __init__(self, config: ConfigDict, context: Context):
        """Prepares the stage.

        Args:
            config: the run's config.
            context: what the data say.
        """
        fields = config.deepfill2
        adam = optax.adam(fields.learning_rate, *fields.betas)
        judge = network.PatchDiscriminator(
            tuple(fields.discriminator_features),
            fields.activated_logits,
            dtype=config.compute_dtype,
        )
        super().__init__(
            "inpainting",
            DEEPFILL2,
            config,
            context,
            steps_of(fields.length_kimg, config.batch_size),
            fields,
            adam,
            (Adversary(_JUDGE, judge, "hinge", adam),) if fields.adversarial_weight else (),
        )
        self.network = network.build_network(config, self.dtype, remat=True)

    def init(self, key: jax.Array, given: Mapping[str, Any]) -> TrainState:
        """Drawn weights; see `base.Stage.init`."""
        del given
        keys, side = jax.random.split(key), self.config.image_size
        variables = network.init(self.config, keys[0])
        return self._begin_drawn(variables, keys[1], {_JUDGE: ((side, 3), (side, 1))})

    def _loss(
        self, state: TrainState, batch: Batch, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Played]:
        """The weighted sum of L1 over whole pictures and the adversarial loss of the composite.

            L = mean |Î₁ - I| + mean |Î₂ - I| - mean D(I · K + Î₂ · M, M)

        D learns the hinge loss (Sec. 3.2).
        """
        del batch
        image, mask = part["image"], part["mask"]
        first, second = apply(self.network, variables["network"], image, mask)
        rows = {"real": (image, mask), "fake": (composite(image, second, mask), mask)}
        terms = {
            "coarse": jnp.abs(first - image).mean(),
            "refinement": jnp.abs(second - image).mean(),
        }
        for adversary in self.adversaries:
            terms["adversarial"] = adversary.fooling_loss(state.variables, rows)
        return self._played(terms, {_JUDGE: rows})


def _stages(config: ConfigDict) -> tuple[StageSpec, ...]:
    return (StageSpec("inpainting", lambda context: DeepFill2Stage(config, context)),)


DEEPFILL2 = Method(
    name="deepfill2",
    title="DeepFill V2",
    priors="A",
    about="DeepFill V2 (Yu et al., arXiv 1806.03589) fills coarsely first, then refines by gated "
    "convolutions and by attention to patches of the known part.",
    fill=network.fill,
    takes_dtype=True,
    sections={"deepfill2": DeepFill2Fields},
    shared={"batch_size": 16},
    network_fields=("deepfill2.width", "deepfill2.fuse", "deepfill2.grid"),
    lengths=("deepfill2.length_kimg",),
    stages=_stages,
    init=network.init,
)
