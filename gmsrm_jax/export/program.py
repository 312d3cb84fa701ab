"""What an exported graph computes: (image, mask, noise maps) to the filled picture."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gmsrm_jax.methods.base import apply
from gmsrm_jax.methods.gm_srm.memory import memory_resolutions, noise_shapes
from gmsrm_jax.methods.gm_srm.network import build_network
from gmsrm_jax.methods.gm_srm.variants import VARIANTS
from gmsrm_jax.networks.folder import Pretrained

OUTPUT = "filled"


@dataclasses.dataclass(frozen=True)
class Program:
    """A network with its weights as one function of arrays.

    Attributes:
        function: image [N, S, S, 3] in [-1, 1], mask [N, S, S, 1] with 1 in the hole, and the noise
            maps, each an argument of its own, to the picture with its hole filled; known pixels
            are those of the image.
        names: of the arguments: image, mask, noise_4, noise_8_0, noise_8_1, …
        shapes: of the arguments without the first axis, which is the batch.
    """

    function: Callable[..., jax.Array]
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]


def fill_program(network: Pretrained) -> Program:
    """The program of a trained network; every product in it is taken in full float32."""
    size = network.config.image_size
    module, params = build_network(network.config), network.params
    names, shapes = ["image", "mask"], [(size, size, 3), (size, size, 1)]
    if VARIANTS[network.config.variant].memory:
        maps = [shape[1:] for shape in noise_shapes(1, memory_resolutions(size))]
        shapes += maps
        names += [
            f"noise_{r}_{k % 2}" if k >= 0 else f"noise_{r}" for k, (r, _, _) in enumerate(maps, -1)
        ]

    def function(image: jax.Array, mask: jax.Array, *noise: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            raw = apply(module, params, image, mask, list(noise)).image
        return image * (1.0 - mask) + raw * mask

    return Program(function, tuple(names), tuple(shapes))


def abstract_inputs(program: Program, batch: object) -> list[jax.ShapeDtypeStruct]:
    """Shapes of the arguments for a batch of a fixed or a symbolic size."""
    return [jax.ShapeDtypeStruct((batch, *shape), jnp.float32) for shape in program.shapes]
