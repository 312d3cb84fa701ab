"""One block of each kind of GM-SRM in JAX, for the comparison with the same block in PyTorch."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from benchmarks.stages import random_vgg19
from gmsrm_jax.foreign.networks import TORCHVISION
from gmsrm_jax.methods.gm_srm.encoder_decoder import DecoderBlock, ResidualAttention
from gmsrm_jax.methods.gm_srm.memory import SynthesisLayer, ToRGB, channel_table
from gmsrm_jax.methods.gm_srm.memory_discriminator import ResidualDown
from gmsrm_jax.methods.gm_srm.network import Fusion
from gmsrm_jax.nn.layers import (
    LEAKY_SLOPE,
    Conv,
    PlainConv,
    fir_upsample,
    instance_norm,
)
from gmsrm_jax.nn.losses import perceptual_loss
from gmsrm_jax.nn.vgg import VggWeights, features

_VGG_LAYERS = ("relu1_1", "relu2_1", "relu3_1")


class EncoderBlock(nn.Module):
    """A halving of the encoder (Eq. 2), as `Encoder` composes it."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Maps [N, r, r, C] to [N, r/2, r/2, features]."""
        x = Conv(self.features, stride=2, use_bias=False, name="down")(x)
        return [ResidualAttention(name="block")(nn.relu(instance_norm(x)))]


class MemoryBlock(nn.Module):
    """A level of the memory, as `GenerativeMemory` composes it."""

    features: int

    @nn.compact
    def __call__(
        self, x: jax.Array, image: jax.Array, code: jax.Array, *noise: jax.Array
    ) -> list[jax.Array]:
        """Maps feature and image [N, r/2, r/2, ·] to those of r px."""
        x = SynthesisLayer(self.features, True, 0.1, name="up")(x, code, noise[0])
        x = SynthesisLayer(self.features, False, 0.1, name="conv")(x, code, noise[1])
        return [x, fir_upsample(image) + ToRGB(name="rgb")(x, code)]


class PatchBlock(nn.Module):
    """A convolution of the patch discriminator, without the spectral norm of its kernel."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Maps [N, r, r, C] to [N, r/2, r/2, features]."""
        return [nn.leaky_relu(PlainConv(self.features, 4, 2, 1, name="conv")(x), LEAKY_SLOPE)]


@dataclasses.dataclass(frozen=True)
class Block:
    """A function of weights and inputs, with both.

    Attributes:
        kind: which function it is, for the twin.
        resolution: of its larger feature maps [px].
        function: maps (params, *inputs) to a list of arrays.
        params: float32 arrays.
        inputs: float32 arrays, NHWC or [N, D].
        moving: which inputs a gradient is taken for.
        trained: whether gradients are taken for the params too.
        uses: how often a training step of each stage runs it forward and backward.
    """

    kind: str
    resolution: int
    function: Callable[..., list[jax.Array]]
    params: Any
    inputs: list[np.ndarray]
    moving: tuple[int, ...]
    trained: bool
    uses: dict[str, int]

    @property
    def name(self) -> str:
        """Kind and resolution."""
        return f"{self.kind}, {self.resolution} px"


def make_blocks(config: ConfigDict, largest: int, batch: int) -> list[Block]:
    """Every kind of block at 8, 16, … `largest` px, with the config's channels."""
    rng = np.random.default_rng(0)
    channels = channel_table(config.image_size, config.model.channel_base, config.model.channel_max)
    features_of_patch = (3, *config.inpainting.discriminator_features)

    def maps(r: int, c: int) -> np.ndarray:
        return rng.standard_normal((batch, r, r, c), np.float32)

    def trained(
        kind: str,
        r: int,
        module: nn.Module,
        inputs: list[np.ndarray],
        moving: tuple[int, ...],
        **uses: int,
    ) -> Block:
        as_list = kind == "decoder"

        def run(params: Any, *given: jax.Array) -> list[jax.Array]:
            out: Any = module.apply({"params": params}, *([list(given)] if as_list else given))
            return out if isinstance(out, list) else [out]

        given = [inputs] if as_list else inputs
        shapes = jax.eval_shape(module.init, jax.random.key(0), *given)["params"]
        params = jax.tree.map(lambda leaf: _drawn(rng, leaf.shape), shapes)
        return Block(kind, r, run, params, inputs, moving, True, uses)

    blocks = []
    code = rng.standard_normal((batch, config.model.code_dim), np.float32)
    resolutions = [r for r in sorted(channels, reverse=True) if 8 <= r <= largest]
    for r in resolutions:
        c, half = channels[r], channels[r // 2]
        low = maps(r // 2, half)
        blocks.append(
            trained("encoder", r, EncoderBlock(half), [maps(r, c)], (0,), memory=1, inpainting=1)
        )
        inputs = [low, maps(r // 2, 3), code, maps(r, 1), maps(r, 1)]
        blocks.append(
            trained("memory", r, MemoryBlock(c), inputs, (0, 1, 2), memory=1, inpainting=1)
        )
        inputs = [maps(r // 2, half) for _ in range(3)]
        blocks.append(trained("decoder", r, DecoderBlock(c), inputs, (0, 1, 2), inpainting=1))
        inputs = [maps(r, c), maps(r, c)]
        blocks.append(trained("fusion", r, Fusion(), inputs, (0, 1), inpainting=1))
        blocks.append(trained("discriminator", r, ResidualDown(half), [maps(r, c)], (0,), memory=3))
        level = config.image_size.bit_length() - r.bit_length()
        if level < len(features_of_patch) - 2:
            module = PatchBlock(features_of_patch[level + 1])
            inputs = [maps(r, features_of_patch[level])]
            blocks.append(trained("patch", r, module, inputs, (0,), inpainting=3))
    blocks.append(_vgg_block(resolutions[0], maps(resolutions[0], 3), maps(resolutions[0], 3)))
    return blocks


def _vgg_block(resolution: int, image: np.ndarray, target: np.ndarray) -> Block:
    def run(params: Any, image: jax.Array, target: jax.Array) -> list[jax.Array]:
        given = VggWeights(params, TORCHVISION)
        seen, wanted = (features(given, x, _VGG_LAYERS) for x in (image, target))
        return [perceptual_loss(seen, wanted)[None]]

    params = random_vgg19(_VGG_LAYERS)
    return Block("vgg", resolution, run, params, [image, target], (0,), False, {"inpainting": 1})


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Kernels of unit gain, other weights around 0.1."""
    scale = 1.0 / float(np.prod(shape[:-1])) ** 0.5 if len(shape) > 1 else 0.1
    return np.asarray(scale * rng.standard_normal(shape), np.float32)


class JaxBlock:
    """A block compiled forward and backward."""

    def __init__(self, block: Block, optimization_level: int):
        """Compiles it and draws what its output is weighted with."""
        rng = np.random.default_rng(1)
        self.block = block
        shapes = jax.eval_shape(block.function, block.params, *block.inputs)
        self.weights = [np.asarray(rng.standard_normal(s.shape), np.float32) for s in shapes]
        places = ((0,) if block.trained else ()) + tuple(1 + k for k in block.moving)

        def loss(*given: Any) -> jax.Array:
            outputs = block.function(*given)
            terms = [(y * w).sum() for y, w in zip(outputs, self.weights, strict=True)]
            return jnp.stack(terms).sum()

        lowered: Any = jax.jit(jax.value_and_grad(loss, places)).lower(block.params, *block.inputs)
        self.flops = float(lowered.cost_analysis()["flops"])
        self._compiled = lowered.compile(
            {"xla_backend_optimization_level": str(optimization_level)}
        )
        self._given = jax.device_put((block.params, *block.inputs))

    def __call__(self) -> Any:
        """Runs it once, to the end: the weighted sum of outputs, and gradients."""
        return jax.block_until_ready(self._compiled(*self._given))

    def write(self, path: pathlib.Path) -> None:
        """Writes weights, inputs, outputs and gradients as .npz, for the twin."""
        block = self.block
        arrays = _flat("params", block.params)
        arrays |= {f"input/{k}": x for k, x in enumerate(block.inputs)}
        arrays |= {f"weight/{k}": x for k, x in enumerate(self.weights)}
        outputs = jax.jit(block.function)(*self._given)
        arrays |= {f"output/{k}": np.asarray(x) for k, x in enumerate(outputs)}
        _, gradients = self()
        if block.trained:
            arrays |= _flat("gradient/params", gradients[0])
        for place, gradient in zip(block.moving, gradients[block.trained :], strict=True):
            arrays[f"gradient/input/{place}"] = np.asarray(gradient)
        named: dict[str, Any] = dict(arrays)
        np.savez(path, **named)


def _flat(prefix: str, tree: Any) -> dict[str, np.ndarray]:
    flat = traverse_util.flatten_dict(dict(tree), sep="/")
    return {f"{prefix}/{name}": np.asarray(leaf) for name, leaf in flat.items()}
