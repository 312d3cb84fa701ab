"""MEDFE's generator: shallow features stand for texture, deep ones for structure.

Both are filled at an eighth of the size, joined, equalised, and given back to every level of a
U-Net. L levels: log2(S) - 2, from 4 to 6. The authors' structure group has three levels, from the
fourth on; in small pictures, which have fewer, the deepest takes the missing ones' places.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Noise, Variables, apply
from gmsrm_jax.methods.medfe.equalisation import INIT, Equalisation
from gmsrm_jax.nn.layers import LEAKY_SLOPE, PlainConv, instance_norm
from gmsrm_jax.nn.norms import AffineInstanceNorm
from gmsrm_jax.nn.partial import Known, PartialConv
from gmsrm_jax.nn.residual import ResidualBlock
from gmsrm_jax.nn.transposed import TransposedConv

TEXTURE_LEVELS, STRUCTURE_LEVELS = 3, 3
MIDDLE = 8  # S over the side at which features are filled
FILLING_KERNELS = (3, 5, 7)
HOLE_COLOUR = (123 / 127.5 - 1, 104 / 127.5 - 1, 117 / 127.5 - 1)


class Predicted(NamedTuple):
    """What the generator gives, float32 in [-1, 1].

    Attributes:
        picture: [N, S, S, 3].
        texture: the filled texture features as a picture, [N, S/8, S/8, 3].
        structure: the filled structure features as a picture, [N, S/8, S/8, 3].
    """

    picture: jax.Array
    texture: jax.Array
    structure: jax.Array


def resized(x: jax.Array, side: int) -> jax.Array:
    """[N, H, W, C] to [N, side, side, C]: bilinear, half-pixel centres, two pixels an axis."""
    shape = (x.shape[0], side, side, x.shape[-1])
    return jax.image.resize(x, shape, "bilinear", antialias=False)


def _leaky(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, LEAKY_SLOPE)


class _Chain(nn.Module):
    """Convolutions without bias, each with an instance norm, LeakyReLUs between them and behind.

    Attributes:
        features: channels of each.
        halving: 4×4 with stride 2 instead of 1×1.
        active: a LeakyReLU stands behind the last one too.
        side: of the output, which is resized between convolution and norm; None: as it comes. A
            1×1 convolution before or after it is the same.
    """

    features: tuple[int, ...]
    halving: bool
    active: bool = True
    side: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, stride, pad = (4, 2, 1) if self.halving else (1, 1, 0)
        for index, channels in enumerate(self.features):
            name = f"conv_{index}"
            x = PlainConv(channels, kernel, stride, pad, INIT, use_bias=False, name=name)(x)
            if self.side not in (None, x.shape[1]):
                x = resized(x, self.side)
            x = instance_norm(x)
            if self.active or index < len(self.features) - 1:
                x = _leaky(x)
        return x


class _Filling(nn.Module):
    """Partial convolutions with affine instance norms and LeakyReLUs."""

    kernel_size: int
    layers: int

    @nn.compact
    def __call__(self, x: Known) -> jax.Array:
        for index in range(self.layers):
            conv = PartialConv(
                x.values.shape[-1], self.kernel_size, kernel_init=INIT, name=f"conv_{index}"
            )
            y = conv(x)
            x = Known(_leaky(AffineInstanceNorm(name=f"norm_{index}")(y.values)), y.mask)
        return x.values


class _Middle(nn.Module):
    """Fills texture and structure with the same weights, as one batch, then joins them.

    Attributes:
        width: of `Generator`.
        layers: partial convolutions of each kernel size.
        released_layout: see `Equalisation`.
    """

    width: int
    layers: int
    released_layout: bool

    @nn.compact
    def __call__(
        self, levels: list[jax.Array], known: jax.Array
    ) -> tuple[list[jax.Array], jax.Array]:
        """Fills features of levels 1 to L.

        Args:
            levels: [N, S / 2^i, S / 2^i, C_i].
            known: float32 [N, S / 8, S / 8, 1], 1 where features are known.

        Returns:
            What is given back to every level, in their shapes; texture and structure as pictures,
            float32 [N, 2, S / 8, S / 8, 3].
        """
        w, side = self.width, known.shape[1]
        active = [_leaky(x) for x in levels]
        texture = [  # [N, S/8, S/8, 4w] each, and so are those of structure
            _Chain((2 * w, 4 * w), True, name="texture_1")(active[0]),
            _Chain((4 * w,), True, name="texture_2")(active[1]),
            _Chain((4 * w,), False, name="texture_3")(active[2]),
        ]
        deep = _Chain((4 * w,), False, side=side, name="structure")
        structure = [deep(x) for x in active[TEXTURE_LEVELS:]]
        structure += structure[-1:] * (STRUCTURE_LEVELS - len(structure))
        join = _Chain((4 * w,), False, name="join")
        # The examples stay in the first axis's order, so that devices keep theirs: [2N, …].
        both = join(_paired(jnp.concatenate(texture, -1), jnp.concatenate(structure, -1)))
        group = Known(both, _paired(known, known))
        fillings = [_Filling(k, self.layers, name=f"fill_{k}")(group) for k in FILLING_KERNELS]
        both = join(jnp.concatenate(fillings, -1))
        head = PlainConv(3, 1, 1, 0, INIT, result=jnp.float32, name="picture")
        pictures = _apart(nn.tanh(head(both)))
        filled = _apart(both)
        z = jnp.concatenate([filled[:, 1], filled[:, 0]], axis=-1)
        z = _Chain((8 * w,), False, name="fuse")(z)  # [N, S/8, S/8, 8w]
        z = Equalisation(self.released_layout, name="equalise")(z)
        given = []
        for index, x in enumerate(levels, start=1):
            if index <= TEXTURE_LEVELS:
                back = _Chain((x.shape[-1],), False, side=x.shape[1], name=f"back_{index}")
            else:
                steps = (8 * w,) * (index - TEXTURE_LEVELS)
                back = _Chain(steps, True, active=False, name=f"back_{index}")
            given.append(back(z))
        return given, pictures


def _paired(first: jax.Array, second: jax.Array) -> jax.Array:
    """Two arrays [N, …] as one, [2N, …], each example's two beside each other."""
    return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


def _apart(x: jax.Array) -> jax.Array:
    """[2N, …] of `_paired` as [N, 2, …]."""
    return x.reshape(-1, 2, *x.shape[1:])


class Generator(nn.Module):
    """Encoder, filling in the middle, decoder with skips.

    The encoder's LeakyReLUs work in place: what it hands on is activated, but for the last level.

    Attributes:
        levels: L, 4 to 6.
        width: channels of the first level; they double up to eight times it.
        blocks: residual blocks at the last level.
        layers: partial convolutions of each kernel size.
        released_layout: see `Equalisation`.
        dtype: format of feature maps, see `layers`.
    """

    levels: int
    width: int
    blocks: int = 4
    layers: int = 5
    released_layout: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, shown: jax.Array, known: jax.Array) -> Predicted:
        """Predicts the picture.

        Args:
            shown: the picture with a constant colour in its hole, and its known places three
                times, [N, S, S, 6].
            known: float32 [N, S / 8, S / 8, 1], 1 where features are known.
        """
        x, levels = shown.astype(self.dtype), []
        for index in range(1, self.levels + 1):
            x = PlainConv(self._channels(index), 4, 2, 1, INIT, name=f"encoder_{index}")(x)
            if 1 < index < self.levels:
                x = AffineInstanceNorm(name=f"encoder_norm_{index}")(x)
            if index < self.levels:
                x = _leaky(x)
                levels.append(x)
        dilation = 2 if x.shape[1] > 2 else 1  # whose mirrored border must lie inside
        for index in range(self.blocks):
            x = ResidualBlock(dilation, INIT, use_bias=False, name=f"residual_{index}")(x)
        levels.append(x)
        middle = _Middle(self.width, self.layers, self.released_layout, name="middle")
        given, pictures = middle(levels, known)
        skips = [x + back for x, back in zip(levels, given, strict=True)]
        x = skips.pop()
        for index in range(self.levels, 1, -1):
            x = TransposedConv(self._channels(index - 1), INIT, name=f"decoder_{index}")(nn.relu(x))
            x = AffineInstanceNorm(name=f"decoder_norm_{index}")(x)
            x = jnp.concatenate([x, skips.pop()], axis=-1)
        x = nn.relu(x).astype(jnp.float32)
        picture = nn.tanh(TransposedConv(3, INIT, name="decoder_1")(x))
        return Predicted(picture, pictures[:, 0], pictures[:, 1])

    def _channels(self, index: int) -> int:
        return self.width * min(1 << (index - 1), 8)


def levels_of(size: int) -> int:
    """L: down to 4×4, but at least four levels and at most the authors' six."""
    return min(max(int(math.log2(size)) - 2, 4), 6)


def generator(config: ConfigDict, dtype: DTypeLike = jnp.float32) -> Generator:
    """The generator that a config describes."""
    fields = config.medfe
    return Generator(
        levels_of(config.image_size),
        fields.width,
        fields.residual_blocks,
        fields.filling_layers,
        fields.released_layout,
        dtype,
    )


def inputs(config: ConfigDict, image: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What the generator takes, of pictures [N, S, S, 3] in [-1, 1] and masks [N, S, S, 1]."""
    known = 1.0 - mask
    colour = jnp.asarray(HOLE_COLOUR, jnp.float32)[None, None, None, :]
    shown = jnp.concatenate([image * known + colour * mask, known, known, known], axis=-1)
    coarse = known[:, ::MIDDLE, ::MIDDLE]
    return shown, coarse if config.medfe.filling_mask == "hole" else jnp.ones_like(coarse)


def fill(config: ConfigDict, variables: Variables, image: Any, mask: Any, noise: Noise) -> Any:
    """Î, see `Method.fill`."""
    del noise
    shown, known = inputs(config, image, mask)
    return apply(generator(config), variables["network"], shown, known).picture


def init(config: ConfigDict, key: jax.Array) -> Variables:
    """Kernels N(0, 0.02²), biases 0."""
    side = config.image_size
    shown, known = jnp.zeros((1, side, side, 6)), jnp.ones((1, side // MIDDLE, side // MIDDLE, 1))
    return {"network": dict(generator(config).init(key, shown, known))}
