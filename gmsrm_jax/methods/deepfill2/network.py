"""The networks of DeepFill V2, and how they fill together.

A coarse network predicts the picture; what it predicts is pasted into the hole, and a second
network refines it in two branches, one dilated, one with contextual attention, that are joined
before a decoder. Neither has skips or norms. Inside, maps have a quarter of the picture's size.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Noise, Variables, apply
from gmsrm_jax.nn.contextual_attention import Grid, contextual_attention
from gmsrm_jax.nn.gated import GatedConv, Start
from gmsrm_jax.nn.layers import LEAKY_SLOPE, PlainConv, nearest_upsample
from gmsrm_jax.nn.spectral import spectral
from gmsrm_jax.runtime.pixels import composite

DILATIONS = (2, 4, 8, 16)


class Body(nn.Module):
    """What both networks have in common: gated layers by name, and the decoder.

    Attributes:
        width: w, channels at full size.
        start: see `GatedConv`.
        dtype: format of feature maps, see `layers`.
    """

    width: int
    start: Start = "gained"
    dtype: DTypeLike = jnp.float32

    def _gated(
        self,
        name: str,
        x: jax.Array,
        channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        activation: Callable[[jax.Array], jax.Array] = nn.elu,
    ) -> jax.Array:
        layer = GatedConv(
            channels, kernel_size, stride, dilation, activation, self.start, name=name
        )
        return layer(x)

    def _dilated(self, x: jax.Array) -> jax.Array:
        for dilation in DILATIONS:
            x = self._gated(f"dilated_{dilation}", x, 4 * self.width, dilation=dilation)
        return x

    def _decoded(self, x: jax.Array) -> jax.Array:
        """From a quarter of the size, [N, S/4, S/4, C], to the picture, float32 in [-1, 1]."""
        w = self.width
        x = self._gated("up_half", nearest_upsample(x), 2 * w)
        x = self._gated("half", x, 2 * w)
        x = self._gated("up_whole", nearest_upsample(x), w)
        x = self._gated("whole", x, w // 2)
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        if self.start == "glorot":
            init = nn.initializers.glorot_uniform()
        return nn.tanh(PlainConv(3, 3, 1, "SAME", init, result=jnp.float32, name="out")(x))


class CoarseNetwork(Body):
    """The first network: gated convolutions, four of them dilated."""

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array) -> jax.Array:
        """Predicts the picture.

        Args:
            image: [N, S, S, 3] in [-1, 1], 0 in the hole.
            mask: [N, S, S, 1], 1 in the hole.

        Returns:
            Î₁, float32 [N, S, S, 3].
        """
        w = self.width
        # Outside the picture are zeros: the plane of ones shows where it ends.
        x = jnp.concatenate([image, jnp.ones_like(mask), mask], axis=-1).astype(self.dtype)
        x = self._gated("in", x, w, 5)  # [N, S, S, w]
        x = self._gated("down_half", x, 2 * w, stride=2)  # [N, S/2, S/2, 2w]
        x = self._gated("in_half", x, 2 * w)
        x = self._gated("down_quarter", x, 4 * w, stride=2)  # [N, S/4, S/4, 4w]
        for name in ("quarter_1", "quarter_2"):
            x = self._gated(name, x, 4 * w)
        x = self._dilated(x)
        for name in ("quarter_3", "quarter_4"):
            x = self._gated(name, x, 4 * w)
        return self._decoded(x)


class RefinementNetwork(Body):
    """The second network: a dilated branch and one with contextual attention, one decoder.

    Attributes:
        fuse: of `contextual_attention`.
        grid: of `contextual_attention`.
        remat: compute the attention again in the backward pass instead of storing it.
    """

    fuse: bool = True
    grid: Grid = "even"
    remat: bool = False

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array) -> jax.Array:
        """Refines a picture.

        Args:
            image: [N, S, S, 3] in [-1, 1], the hole filled with Î₁.
            mask: [N, S, S, 1], 1 in the hole; only the attention looks at it.

        Returns:
            Î₂, float32 [N, S, S, 3].
        """
        w, x = self.width, image.astype(self.dtype)
        dilated = self._branch("dilated", x, (w, w, 2 * w, 2 * w, 4 * w))
        dilated = self._dilated(self._gated("dilated_quarter", dilated, 4 * w))
        attended = self._branch("attention", x, (w, w, 2 * w, 4 * w, 4 * w))
        attended = self._gated("attention_quarter", attended, 4 * w, activation=nn.relu)

        def attend(x: jax.Array, mask: jax.Array) -> jax.Array:
            return contextual_attention(x, mask, fuse=self.fuse, grid=self.grid)

        attended = (jax.checkpoint(attend) if self.remat else attend)(attended, mask)
        for name in ("attended_1", "attended_2"):
            attended = self._gated(name, attended, 4 * w)
        x = jnp.concatenate([dilated, attended], axis=-1)  # [N, S/4, S/4, 8w]
        for name in ("joined_1", "joined_2"):
            x = self._gated(name, x, 4 * w)
        return self._decoded(x)

    def _branch(self, name: str, x: jax.Array, channels: tuple[int, ...]) -> jax.Array:
        """Five layers from the picture [N, S, S, 3] to [N, S/4, S/4, channels[-1]]."""
        sizes = ("in", "down_half", "half", "down_quarter", "in_quarter")
        for index, (size, count) in enumerate(zip(sizes, channels, strict=True)):
            stride = 2 if size.startswith("down") else 1
            x = self._gated(f"{name}_{size}", x, count, 3 if index else 5, stride)
        return x


class PatchDiscriminator(nn.Module):
    """SN-PatchGAN (Sec. 3.2): 5×5 convolutions of stride 2, every output of the last a logit.

    Attributes:
        features: channels of each convolution.
        activated: the last one's leaky ReLU stays, so that logits below 0 count a fifth.
        spectral: divide every kernel by its largest singular value.
        dtype: format of feature maps, see `layers`.
    """

    features: tuple[int, ...]
    activated: bool = True
    spectral: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array, *, update_stats: bool) -> jax.Array:
        """Judges patches and channels of them.

        Args:
            image: [N, S, S, 3] in [-1, 1].
            mask: [N, S, S, 1], 1 in the hole.
            update_stats: run one power iteration and store its vectors ("batch_stats").

        Returns:
            Logits, float32 [N, s, s, features[-1]], s = ⌈S / 2^layers⌉: 4 at 256 px.
        """
        x = jnp.concatenate([image, mask], axis=-1).astype(self.dtype)
        for index, channels in enumerate(self.features):
            layer = PlainConv(
                channels, 5, 2, "SAME", nn.initializers.glorot_uniform(), name=f"conv_{index}"
            )
            x = spectral(layer, x, update_stats=update_stats) if self.spectral else layer(x)
            if self.activated or index + 1 < len(self.features):
                x = nn.leaky_relu(x, LEAKY_SLOPE)
        return x.astype(jnp.float32)


class DeepFill2Network(nn.Module):
    """Both networks, one after the other; attributes are theirs."""

    width: int
    fuse: bool = True
    grid: Grid = "even"
    start: Start = "gained"
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Predicts the picture twice.

            Î₁ = G₁([I · K, 1, M]), Î₂ = G₂(I · K + Î₁ · M)

        Args:
            image: float32 [N, S, S, 3] in [-1, 1]; its hole is not looked at.
            mask: float32 [N, S, S, 1], 1 in the hole.

        Returns:
            Î₁ and Î₂, float32 [N, S, S, 3] in [-1, 1].
        """
        body = (self.width, self.start, self.dtype)
        first = CoarseNetwork(*body, name="coarse")(image * (1.0 - mask), mask)
        refine = RefinementNetwork(*body, self.fuse, self.grid, self.remat, name="refinement")
        return first, refine(composite(image, first, mask), mask)


def build_network(
    config: ConfigDict, dtype: DTypeLike = jnp.float32, **training: Any
) -> DeepFill2Network:
    """The network that a config describes; `training` says what matters there alone."""
    fields = config.deepfill2
    return DeepFill2Network(fields.width, fields.fuse, fields.grid, dtype=dtype, **training)


def fill(
    config: ConfigDict,
    variables: Variables,
    image: Any,
    mask: Any,
    noise: Noise,
    dtype: DTypeLike = jnp.float32,
) -> Any:
    """Î₂, see `Method.fill`."""
    del noise
    return apply(build_network(config, dtype), variables["network"], image, mask)[1]


def init(config: ConfigDict, key: jax.Array) -> Variables:
    """Drawn weights, zero biases."""
    side = (1, config.image_size, config.image_size)
    network = build_network(config, start=config.deepfill2.start)
    return {"network": dict(network.init(key, jnp.zeros((*side, 3)), jnp.zeros((*side, 1))))}
