"""PConv (Liu et al., ECCV 2018, arXiv 1804.07723): a U-Net of partial convolutions.

The layer is the authors' own (rescaled by n / s), network and biases are those that the public
implementations share, with log2(S) - 1 levels. The network works on ImageNet-normalised images,
which the paper's loss weights belong to; only `fill` maps its output back to [-1, 1].

The second part of the training freezes the norms of the encoder, scale, shift and statistics alike:
until then these are of batches whose holes are zeros.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from gmsrm_jax.foreign.networks import TORCHVISION
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
from gmsrm_jax.methods.stage import steps_of
from gmsrm_jax.nn import losses
from gmsrm_jax.nn.adversarial import Played
from gmsrm_jax.nn.layers import LEAKY_SLOPE, nearest_upsample
from gmsrm_jax.nn.norms import batch_norm
from gmsrm_jax.nn.partial import Known, PartialConv, dilated
from gmsrm_jax.nn.vgg import VGG16_FILE, denormalise, features, load_poolings, normalise
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.fields import Betas, Section, setting
from gmsrm_jax.runtime.pixels import composite

Part = Literal["encoder", "decoder"]
ENCODER_KERNELS = (7, 5, 5)  # of the first levels; further ones have 3


class PConvFields(Section):
    """The network of PConv and its training."""

    levels: int = setting(0, "halvings of the picture; 0: log2(image_size) - 1", ge=0, le=12)
    width: int = setting(
        64, "channels of the first level; they double up to eight times it", gt=0, local=16
    )
    length_kimg: float = setting(
        16000.0, "length, thousand pictures: a million steps of 16", gt=0, local=0.128
    )
    learning_rate: float = setting(2e-4, "of Adam", ge=0)
    finetune_share: float = setting(
        0.2, "last share of the steps, with the encoder's norms frozen", ge=0, le=1
    )
    finetune_learning_rate: float = setting(5e-5, "of Adam in that share", ge=0)
    betas: Betas = setting((0.9, 0.999), "of Adam")
    valid_weight: float = setting(1.0, "of the L1 in the known part", ge=0)
    hole_weight: float = setting(6.0, "of the L1 in the hole", ge=0)
    perceptual_weight: float = setting(0.05, "of the L1 of VGG features", ge=0)
    style_weight: float = setting(120.0, "of the L1 of their Gram matrices", ge=0)
    variation_weight: float = setting(0.1, "of the total variation in and around the hole", ge=0)
    vgg: str = VGG16_FILE
    ema: float = setting(0.0, "of the weights that fill; 0: the last weights", ge=0, le=1)
    save_every: int = setting(2000, "steps between two checkpoints", gt=0, local=8)
    validate_every: int = setting(2000, "steps between two validations", gt=0, local=8)


class _Block(nn.Module):
    """Partial convolution, batch norm where `normed`, activation."""

    features: int
    kernel_size: int
    stride: int
    normed: bool
    activation: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, *groups: Known, of_batch: bool) -> Known:
        y = PartialConv(self.features, self.kernel_size, self.stride, name="conv")(*groups)
        x = batch_norm(y.values, of_batch, "norm") if self.normed else y.values
        # Shifts of the norm stand in unknown places now; the next layer does not look at them.
        return Known(self.activation(x), y.mask)


class PConvNetwork(nn.Module):
    """The U-Net of Sec. 3.2: strided encoder, decoder with skips of features and masks.

    Level i = 1 … L: the encoder halves to S / 2^i with C_i = width · min(2^(i-1), 8) channels; the
    decoder's level i doubles, nearest, joins the encoder's level i - 1, and has C_(i-1) channels.
    Level 1 joins the picture itself and gives the output.

    Attributes:
        levels: L, at most log2(S).
        width: C_1.
        dtype: format of feature maps, see `layers`.
    """

    levels: int
    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, image: jax.Array, mask: jax.Array, of_batch: tuple[Part, ...] = ()
    ) -> jax.Array:
        """Predicts the picture.

        Args:
            image: float32 [N, S, S, 3], ImageNet-normalised; its hole is not looked at.
            mask: float32 [N, S, S, 1], 1 in the hole; what lies between counts from 0.5 on.
            of_batch: parts whose norms take the batch's statistics and move "batch_stats".

        Returns:
            float32 [N, S, S, 3], ImageNet-normalised, linear; the mean colour (0) where no level
            knows anything.
        """
        known = 1.0 - (mask >= 0.5).astype(jnp.float32)
        x = Known(image.astype(self.dtype), known)
        skips = [x]
        for i in range(self.levels):
            kernel = ENCODER_KERNELS[i] if i < len(ENCODER_KERNELS) else 3
            block = _Block(self._channels(i), kernel, 2, i > 0, nn.relu, name=f"encoder_{i + 1}")
            x = block(x, of_batch="encoder" in of_batch)  # [N, S / 2^(i+1), ·, C_(i+1)]
            skips.append(x)
        x = skips.pop()
        for i in reversed(range(1, self.levels)):
            block = _Block(self._channels(i - 1), 3, 1, True, _leaky, name=f"decoder_{i + 1}")
            # [N, S / 2^i, ·, C_i]
            x = block(_doubled(x), skips.pop(), of_batch="decoder" in of_batch)
        last = PartialConv(3, 3, use_bias=True, result=jnp.float32, name="decoder_1")
        return last(_doubled(x), skips.pop()).values

    def _channels(self, i: int) -> int:
        return self.width * min(1 << i, 8)


def _leaky(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, LEAKY_SLOPE)


def _doubled(x: Known) -> Known:
    return Known(nearest_upsample(x.values), nearest_upsample(x.mask))


def levels_of(fields: ConfigDict, size: int) -> int:
    """L: what a section says of it, or log2(S) - 1."""
    return fields.levels or int(math.log2(size)) - 1


def check_levels(section: str, config: ConfigDict) -> None:
    """Refuses more levels than a picture has halvings.

    Args:
        section: with the field `levels`.
        config: the run's config.

    Raises:
        UserError: there are more.
    """
    levels, size = config[section].levels, config.image_size
    if levels > math.log2(size):
        raise UserError(
            f"config.{section}.levels = {levels}; pictures of {size} px can be halved "
            f"{int(math.log2(size))} times, use at most that, or 0"
        )


def build_network(config: ConfigDict, dtype: DTypeLike = jnp.float32) -> PConvNetwork:
    """The network that a config describes."""
    fields = config.pconv
    return PConvNetwork(levels_of(fields, config.image_size), fields.width, dtype)


def init(config: ConfigDict, key: jax.Array) -> Variables:
    """He-normal weights; running means 0 and variances 1."""
    size = 1 << levels_of(config.pconv, config.image_size)
    image, mask = jnp.zeros((1, size, size, 3)), jnp.zeros((1, size, size, 1))
    return {"network": dict(build_network(config).init(key, image, mask))}


def fill(
    config: ConfigDict,
    variables: Variables,
    image: Any,
    mask: Any,
    noise: Noise,
    dtype: DTypeLike = jnp.float32,
) -> Any:
    """The network's output, clipped to [-1, 1]."""
    del noise
    shown = normalise(image, TORCHVISION)
    raw = apply(build_network(config, dtype), variables["network"], shown, mask)
    return jnp.clip(denormalise(raw), -1.0, 1.0)


class PConvStage(AdversarialStage):
    """Trains by the program "main", and in the last steps by "frozen"; see `base.Stage`.

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
            UserError: pconv.vgg cannot be used.
        """
        fields = config.pconv
        total = steps_of(fields.length_kimg, config.batch_size)
        super().__init__(
            "inpainting", PCONV, config, context, total, fields, _adam(fields, frozen=False)
        )
        self.frozen_from = total - round(fields.finetune_share * total)
        self.network = build_network(config, self.dtype)
        if fields.perceptual_weight or fields.style_weight:
            self.constants["vgg"], self.taps = load_poolings(fields.vgg, field="pconv.vgg")
        due = {name for step in (0, total - 1) for name in self.due(step)}
        programs = {"frozen": self._frozen_step, "main": self._main_step}
        self.programs = {name: program for name, program in programs.items() if name in due}

    def init(self, key: jax.Array, given: Mapping[str, Any]) -> TrainState:
        """Drawn weights; see `base.Stage.init`."""
        del given
        return self.begin(init(self.config, key), {})

    def due(self, step: int) -> tuple[str, ...]:
        """The last share of the steps has the encoder's norms frozen."""
        return ("frozen",) if step >= self.frozen_from else ("main",)

    def _frozen_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        """A step in which the encoder's norms stay, scale, shift and statistics."""
        loss = functools.partial(self._loss, frozen=True)
        return self._moved(state, batch, loss, _adam(self.fields, frozen=True))

    def _loss(
        self,
        state: TrainState,
        batch: Batch,
        variables: Variables,
        part: Batch,
        frozen: bool = False,
    ) -> tuple[jax.Array, Played]:
        """The weighted sum (Eq. 7), its terms and the moved statistics; no term of weight 0.

            L = 1 · valid + 6 · hole + 0.05 · perceptual + 120 · style + 0.1 · variation

        L1 and variation (Eq. 6) are of ImageNet-normalised images.
        """
        del state
        fields, image, mask = self.fields, part["image"], part["mask"]
        truth = normalise(image, TORCHVISION)
        network = variables["network"]
        if frozen:
            params = _encoder_norms(jax.lax.stop_gradient, network["params"])
            network = {**network, "params": params}
        raw, moved = self.network.apply(
            network,
            truth,
            mask,
            of_batch=("decoder",) if frozen else ("encoder", "decoder"),
            mutable=["batch_stats"],
        )
        pasted = composite(truth, raw, mask)
        terms = pixel_terms(fields, raw, truth, mask)
        if "vgg" in batch:
            look = functools.partial(features, batch["vgg"], taps=self.taps, dtype=self.dtype)
            terms |= vgg_terms(fields, look, image, denormalise(raw), denormalise(pasted))
        if fields.variation_weight:
            terms["variation"] = losses.total_variation_loss(pasted, dilated(mask))
        told = {"optimizer/learning_rate": _rate(fields, frozen)}
        return self._played(terms, statistics={"network": dict(moved)}, told=told)


def pixel_terms(
    fields: ConfigDict, raw: jax.Array, truth: jax.Array, mask: jax.Array
) -> dict[str, jax.Array]:
    """L_valid and L_hole of Sec. 3.3 as "valid" and "hole".

    Args:
        fields: with valid_weight and hole_weight; no term of weight 0 is computed.
        raw: [N, S, S, 3], in any range.
        truth: likewise.
        mask: [N, S, S, 1], 1 in the hole.
    """
    terms = {}
    if fields.valid_weight:
        terms["valid"] = losses.masked_l1_loss(raw, truth, 1.0 - mask)
    if fields.hole_weight:
        terms["hole"] = losses.masked_l1_loss(raw, truth, mask)
    return terms


def vgg_terms(
    fields: ConfigDict,
    look: Callable[[jax.Array], Sequence[jax.Array]],
    image: jax.Array,
    *filled: jax.Array,
) -> dict[str, jax.Array]:
    """L_perceptual (Eq. 3) and L_style (Eq. 4 and 5) as "perceptual" and "style".

    Args:
        fields: with perceptual_weight and style_weight; no term of weight 0 is computed.
        look: gives features of pictures in [-1, 1].
        image: the truth, [N, S, S, 3].
        filled: raw output and composite.
    """
    target, *seen = (look(x) for x in (image, *filled))
    kinds = {"perceptual": losses.perceptual_loss, "style": losses.style_loss}
    return {
        name: jnp.stack([loss(maps, target) for maps in seen]).sum()
        for name, loss in kinds.items()
        if fields[f"{name}_weight"]
    }


def _rate(fields: ConfigDict, frozen: bool) -> float:
    return fields.finetune_learning_rate if frozen else fields.learning_rate


def _adam(fields: ConfigDict, *, frozen: bool) -> optax.GradientTransformation:
    """Adam; with one state for both parts of the training."""
    # Moments from before the freeze would still move the encoder's norms.
    stays = functools.partial(_encoder_norms, jnp.zeros_like) if frozen else lambda tree: tree
    return optax.chain(
        optax.scale_by_adam(*fields.betas, eps=1e-8),
        optax.stateless(lambda updates, params: stays(updates)),
        optax.scale(-_rate(fields, frozen)),
    )


def _encoder_norms(
    change: Callable[[jax.Array], jax.Array], tree: Mapping[str, Any]
) -> dict[str, Any]:
    """A tree of the network's parameters with scale and shift of the encoder's norms changed."""
    return {
        name: {**block, "norm": jax.tree.map(change, block["norm"])}
        if name.startswith("encoder") and "norm" in block
        else block
        for name, block in tree.items()
    }


def _stages(config: ConfigDict) -> tuple[StageSpec, ...]:
    return (StageSpec("inpainting", lambda context: PConvStage(config, context)),)


PCONV = Method(
    name="pconv",
    title="PConv",
    priors="A",
    about=(
        "Liu et al., ECCV 2018: a U-Net of partial convolutions, which see known pixels only and "
        "close a hole layer by layer; no adversary."
    ),
    fill=fill,
    takes_dtype=True,
    sections={"pconv": PConvFields},
    shared={"batch_size": 16},
    network_fields=("pconv.levels", "pconv.width"),
    lengths=("pconv.length_kimg",),
    check=functools.partial(check_levels, "pconv"),
    stages=_stages,
    init=init,
)
