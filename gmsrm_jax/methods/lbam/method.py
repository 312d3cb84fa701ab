"""LBAM as a method: its fields, its one stage."""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from gmsrm_jax.methods.adversarial_stage import AdversarialStage
from gmsrm_jax.methods.base import (
    Batch,
    Context,
    Method,
    Noise,
    StageSpec,
    TrainState,
    Variables,
    apply,
)
from gmsrm_jax.methods.lbam.maps import MapStart, keep_in_ranges
from gmsrm_jax.methods.lbam.network import Critic, LBAMNetwork, Start
from gmsrm_jax.methods.pconv import check_levels, levels_of, pixel_terms, vgg_terms
from gmsrm_jax.methods.stage import steps_of
from gmsrm_jax.nn.adversarial import Adversary, Played
from gmsrm_jax.nn.vgg import VGG16_FILE, features, load_poolings
from gmsrm_jax.runtime.fields import Betas, Section, setting
from gmsrm_jax.runtime.pixels import composite, to_unit

_CRITIC = "critic"


class LBAMFields(Section):
    """The section config.lbam; pictures are in [0, 1] where L1, VGG and the critic see them."""

    levels: int = setting(0, "halvings of the picture; 0: log2(image_size) - 1", ge=0, le=12)
    width: int = setting(
        64, "channels of the first level; they double up to eight times it", gt=0, local=16
    )
    batch_norm: bool = setting(True, "as in the paper; the authors' released weights have none")
    start: Start = setting(
        "normal", "first kernels; positive: those of masks, for a network without batch norms"
    )
    forward_map: MapStart = setting((1.1, 2.0, 1.0, 1.0), "first a, μ, γ_l, γ_r of known maps")
    reverse_map: MapStart = setting(
        (1.1, 1.0, 0.5, 0.5), "of the holes' maps, as in the authors' code"
    )
    valid_weight: float = setting(1.0, "of the L1 in the known part", ge=0)
    hole_weight: float = setting(6.0, "of the L1 in the hole", ge=0)
    perceptual_weight: float = setting(0.01, "of the L1 of VGG features", ge=0)
    style_weight: float = setting(120.0, "of the L1 of their Gram matrices", ge=0)
    adversarial_weight: float = setting(0.1, "of the adversarial loss; 0: no critic", ge=0)
    adversarial_form: Literal["wasserstein", "released"] = setting(
        "wasserstein",
        "released: the authors' signs, sigmoid and batch norms, with which both sides pull alike",
    )
    penalty_weight: float = setting(10.0, "of the critic's gradient penalty", ge=0)
    vgg: str = VGG16_FILE
    learning_rate: float = setting(1e-4, "of Adam", ge=0)
    betas: Betas = setting((0.5, 0.9), "of Adam")
    critic_width: int = setting(64, "channels of the critic's first layers", gt=0, local=8)
    critic_learning_rate: float = setting(1e-5, "of the critic's Adam", ge=0)
    critic_betas: Betas = setting((0.0, 0.9), "of the critic's Adam")
    ema: float = setting(0.0, "of the weights that fill; 0: the last weights", ge=0, le=1)
    length_kimg: float = setting(
        7450.0, "length, thousand pictures: 500 epochs of Paris StreetView", gt=0, local=0.128
    )
    save_every: int = setting(2000, "steps between two checkpoints", gt=0, local=8)
    validate_every: int = setting(2000, "steps between two validations", gt=0, local=8)


class ReleasedAdversary(Adversary):
    """The signs of the authors' code: both sides make D of made pictures small."""

    def generator_loss(self, fake: jax.Array, real: jax.Array | None = None) -> jax.Array:
        """Mean D(fake)."""
        del real
        return fake.mean()

    def discriminator_loss(self, real: jax.Array, fake: jax.Array) -> jax.Array:
        """Mean D(real) + mean D(fake)."""
        return real.mean() + fake.mean()


def build_network(config: ConfigDict, dtype: DTypeLike = jnp.float32, **start: Any) -> LBAMNetwork:
    """The network that a config describes; `start` says how it is drawn."""
    fields = config.lbam
    levels = levels_of(fields, config.image_size)
    return LBAMNetwork(levels, fields.width, fields.batch_norm, dtype=dtype, **start)


def init(config: ConfigDict, key: jax.Array) -> Variables:
    """Drawn weights; running means 0 and variances 1."""
    fields, size = config.lbam, 1 << levels_of(config.lbam, config.image_size)
    network = build_network(
        config,
        start=fields.start,
        forward_map=tuple(fields.forward_map),
        reverse_map=tuple(fields.reverse_map),
    )
    return {
        "network": dict(
            network.init(key, jnp.zeros((1, size, size, 3)), jnp.zeros((1, size, size, 1)))
        )
    }


def fill(
    config: ConfigDict,
    variables: Variables,
    image: Any,
    mask: Any,
    noise: Noise,
    dtype: DTypeLike = jnp.float32,
) -> Any:
    """The network's output, see `Method.fill`."""
    del noise
    return apply(build_network(config, dtype), variables["network"], to_unit(image), mask)


class LBAMStage(AdversarialStage):
    """Trains by the program "main"; see `base.Stage`.

    With micro-batches the norms see each of them alone, and running statistics move by the mean of
    their statistics.
    """

    salt = 1

    def __init__(self, config: ConfigDict, context: Context):
        """Prepares the stage; reads the VGG.

        Args:
            config: the run's config.
            context: what the data say.

        Raises:
            UserError: lbam.vgg cannot be used.
        """
        fields, released = config.lbam, config.lbam.adversarial_form == "released"
        critic = (ReleasedAdversary if released else Adversary)(
            _CRITIC,
            Critic(fields.critic_width, released, config.compute_dtype),
            "wasserstein",
            optax.adam(fields.critic_learning_rate, *fields.critic_betas),
            fields.penalty_weight,
        )
        super().__init__(
            "inpainting",
            LBAM,
            config,
            context,
            steps_of(fields.length_kimg, config.batch_size),
            fields,
            optax.chain(optax.adam(fields.learning_rate, *fields.betas), keep_in_ranges()),
            (critic,) if fields.adversarial_weight else (),
        )
        self.network = build_network(config, self.dtype)
        if fields.perceptual_weight or fields.style_weight:
            self.constants["vgg"], self.taps = load_poolings(
                fields.vgg, unit_input=True, field="lbam.vgg"
            )

    def init(self, key: jax.Array, given: Mapping[str, Any]) -> TrainState:
        """Drawn weights; see `base.Stage.init`."""
        del given
        keys, side = jax.random.split(key), self.config.image_size
        return self._begin_drawn(
            init(self.config, keys[0]), keys[1], {_CRITIC: ((side, 3), (side, 1))}
        )

    def _derived(self, state: TrainState, image: jax.Array, mask: jax.Array) -> dict[str, Any]:
        """α of the gradient penalty, a number an example and step, [N, 1, 1, 1]."""
        del mask
        return {"alpha": jax.random.uniform(self._key(state), (len(image), 1, 1, 1))}

    def _loss(
        self, state: TrainState, batch: Batch, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Played]:
        """The weighted sum (Sec. 3.5), its terms and moved statistics; no term of weight 0.

            L = valid + 6 · hole + 0.01 · perceptual + 120 · style + 0.1 · adversarial

        The critic sees the output.
        """
        fields, image, mask = self.fields, part["image"], part["mask"]
        raw, statistics = self.network.apply(
            variables["network"], to_unit(image), mask, True, mutable=["batch_stats"]
        )
        truth, made = to_unit(image), to_unit(raw)
        between = part["alpha"] * truth + (1.0 - part["alpha"]) * made
        rows = {"real": (truth, mask), "fake": (made, mask), "between": (between, mask)}
        terms = pixel_terms(fields, made, truth, mask)
        if "vgg" in batch:
            look = functools.partial(features, batch["vgg"], taps=self.taps, dtype=self.dtype)
            terms |= vgg_terms(fields, look, image, raw, composite(image, raw, mask))
        for adversary in self.adversaries:
            terms["adversarial"] = adversary.fooling_loss(state.variables, rows)
        return self._played(terms, {_CRITIC: rows}, {"network": dict(statistics)})


def _stages(config: ConfigDict) -> tuple[StageSpec, ...]:
    return (StageSpec("inpainting", lambda context: LBAMStage(config, context)),)


LBAM = Method(
    name="lbam",
    title="LBAM",
    priors="A",
    about="LBAM (Xie et al., arXiv 1909.00968): a U-Net whose encoder attends to what is known and "
    "whose decoder attends to the hole, by maps learned from both masks.",
    fill=fill,
    takes_dtype=True,
    sections={"lbam": LBAMFields},
    shared={"batch_size": 16},
    network_fields=("lbam.levels", "lbam.width", "lbam.batch_norm"),
    lengths=("lbam.length_kimg",),
    check=functools.partial(check_levels, "lbam"),
    stages=_stages,
    init=init,
)
