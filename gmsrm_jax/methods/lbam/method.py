"""LBAM as a method: its fields, its one stage."""

import math
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
    Scalars,
    StageSpec,
    TrainState,
    Variables,
    apply,
)
from gmsrm_jax.methods.lbam.maps import MapStart, keep_in_ranges
from gmsrm_jax.methods.lbam.network import Critic, LBAMNetwork, Start
from gmsrm_jax.methods.stage import steps_of
from gmsrm_jax.nn import losses
from gmsrm_jax.nn.adversarial import Adversary, Played
from gmsrm_jax.nn.vgg import features, load_poolings
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.fields import Betas, Section, setting
from gmsrm_jax.runtime.pixels import composite

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
    vgg: str = setting(
        "weights/lpips_vgg.safetensors",
        "VGG-16, of `gmsrm convert lpips --net vgg`; or bundled, VGG-19 to conv3_1 in its place",
        local="bundled",
    )
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


def levels_of(config: ConfigDict) -> int:
    """L: what the config says, or log2(S) - 1."""
    return config.lbam.levels or int(math.log2(config.image_size)) - 1


def build_network(config: ConfigDict, dtype: DTypeLike = jnp.float32, **start: Any) -> LBAMNetwork:
    """The network that a config describes; `start` says how it is drawn."""
    fields = config.lbam
    return LBAMNetwork(levels_of(config), fields.width, fields.batch_norm, dtype=dtype, **start)


def check(config: ConfigDict) -> None:
    """Refuses more levels than a picture has halvings."""
    most = int(math.log2(config.image_size))
    if levels_of(config) > most:
        raise UserError(
            f"config.lbam.levels = {config.lbam.levels}; pictures of {config.image_size} px can "
            f"be halved {most} times, use at most that, or 0"
        )


def init(config: ConfigDict, key: jax.Array) -> Variables:
    """Drawn weights; running means 0 and variances 1."""
    fields, size = config.lbam, 1 << levels_of(config)
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


def unit(image: jax.Array) -> jax.Array:
    """Values in [-1, 1] to [0, 1]."""
    return 0.5 * image + 0.5


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
    return apply(build_network(config, dtype), variables["network"], unit(image), mask)


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
        b1, b2 = fields.critic_betas
        critic = (ReleasedAdversary if released else Adversary)(
            _CRITIC,
            Critic(fields.critic_width, released, config.compute_dtype),
            "wasserstein",
            optax.adam(fields.critic_learning_rate, b1=b1, b2=b2),
            fields.penalty_weight,
        )
        b1, b2 = fields.betas
        super().__init__(
            "inpainting",
            LBAM,
            config,
            context,
            steps_of(fields.length_kimg, config.batch_size),
            fields,
            optax.chain(optax.adam(fields.learning_rate, b1=b1, b2=b2), keep_in_ranges()),
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
        variables = init(self.config, keys[0])["network"]
        return self._begin("network", variables, keys[1], {_CRITIC: ((side, 3), (side, 1))})

    def _derived(self, state: TrainState, image: jax.Array, mask: jax.Array) -> dict[str, Any]:
        """α of the gradient penalty, a number an example and step."""
        del mask
        key = jax.random.fold_in(jax.random.key(self.seed), self.salt)
        key = jax.random.fold_in(key, state.step)
        return {"alpha": jax.random.uniform(key, (len(image), 1, 1, 1))}

    def _loss(
        self, state: TrainState, batch: Batch, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Played]:
        """The weighted sum, its terms and moved statistics; no term of weight 0.

            L = valid + 6 · hole + 0.01 · perceptual + 120 · style + 0.1 · adversarial

        Perceptual and style compare both the output and the composite with the picture; the critic
        sees the output.
        """
        fields, image, mask = self.fields, part["image"], part["mask"]
        raw, statistics = self.network.apply(
            variables["network"], unit(image), mask, True, mutable=["batch_stats"]
        )
        truth, made = unit(image), unit(raw)
        between = part["alpha"] * truth + (1.0 - part["alpha"]) * made
        rows = {"real": (truth, mask), "fake": (made, mask), "between": (between, mask)}
        scalars: Scalars = {}
        if fields.valid_weight:
            scalars["valid"] = losses.masked_l1_loss(made, truth, 1.0 - mask)
        if fields.hole_weight:
            scalars["hole"] = losses.masked_l1_loss(made, truth, mask)
        if "vgg" in batch:
            target, *seen = (
                features(batch["vgg"], x, self.taps, self.dtype)
                for x in (image, raw, composite(image, raw, mask))
            )
            for name, term in (
                ("perceptual", losses.perceptual_loss),
                ("style", losses.style_loss),
            ):
                if fields[f"{name}_weight"]:
                    scalars[name] = jnp.stack([term(maps, target) for maps in seen]).sum()
        for adversary in self.adversaries:
            fake, _ = adversary.judge(state.variables[_CRITIC], rows["fake"])
            scalars["adversarial"] = adversary.generator_loss(fake)
        total = jnp.zeros(())
        for name, value in scalars.items():
            total += fields[f"{name}_weight"] * value
        named = {f"loss/{name}": value for name, value in scalars.items()}
        renewed = {"network": dict(statistics)}
        return total, Played(named | {"loss/total": total}, renewed, {_CRITIC: rows})


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
    check=check,
    stages=_stages,
    init=init,
)
