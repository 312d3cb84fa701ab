"""Small networks for tests, with weights that no initialiser drew."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gmsrm_jax.methods.gm_srm.memory import channel_table, noise_shapes
from gmsrm_jax.methods.gm_srm.network import InpaintingNetwork

SIZE, LEVELS = 32, [4, 8, 16]
CHANNELS = channel_table(SIZE, 128, 8)
# A test runs its programs once or twice, so XLA's slow optimisations do not pay.
compiled = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def filled_by_hand(shapes: Any, seed: int = 0, scale: float = 1.0) -> Any:
    """Normal weights for every parameter, the zero-initialised ones too, over sqrt(fan-in)."""
    rng = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 4.0
        return jnp.float32(scale * rng.normal(size=leaf.shape) / np.sqrt(fan_in))

    return jax.tree.map(draw, shapes)


def shapes_of(module: nn.Module, *inputs: Any, **options: Any) -> Any:
    return jax.eval_shape(functools.partial(module.init, **options), jax.random.key(0), *inputs)[
        "params"
    ]


def weights_for(module: nn.Module, *inputs: Any, seed: int = 0) -> Any:
    return filled_by_hand(shapes_of(module, *inputs), seed)


def applied(module: nn.Module, params: Any, *inputs: Any, **options: Any) -> Any:
    return compiled(functools.partial(module.apply, **options))({"params": params}, *inputs)


def small(variant: str, **fields: Any) -> InpaintingNetwork:
    return InpaintingNetwork(CHANNELS, variant, code_dim=8, code_channels=4, **fields)


def inputs(count: int = 2) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    image = np.random.default_rng(1).uniform(-1, 1, (count, SIZE, SIZE, 3)).astype(np.float32)
    mask = np.zeros((count, SIZE, SIZE, 1), np.float32)
    mask[:, 8:24, 4:20] = 1
    noise = [normal(2 + k, *shape) for k, shape in enumerate(noise_shapes(count, [*LEVELS, SIZE]))]
    return image, mask, noise


def abstract(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.float32)


def abstract_inputs(size: int, count: int = 2) -> tuple[Any, Any, list[Any]]:
    levels = [2**k for k in range(2, size.bit_length())]  # the memory is asked at full size too
    noise = [abstract(*shape) for shape in noise_shapes(count, levels)]
    return abstract(count, size, size, 3), abstract(count, size, size, 1), noise
