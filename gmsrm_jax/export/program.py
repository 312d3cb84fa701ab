"""What an exported graph computes: (image, mask, noise maps) to the filled picture."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gmsrm_jax.networks.folder import Pretrained

OUTPUT = "filled"


@dataclasses.dataclass(frozen=True)
class Program:
    """A network with its weights as one function of arrays.

    Attributes:
        function: image [N, S, S, 3] in [-1, 1], mask [N, S, S, 1] with 1 in the hole, and the noise
            maps, each an argument of its own, to the picture with its hole filled; known pixels
            are those of the image.
        names: of the arguments: image, mask, and the noise maps of the method.
        shapes: of the arguments without the first axis, which is the batch.
    """

    function: Callable[..., jax.Array]
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]


def fill_program(network: Pretrained) -> Program:
    """The program of a trained network; every product in it is taken in full float32."""
    function, arguments = network.filler().graph()
    return Program(function, tuple(arguments), tuple(arguments.values()))


def abstract_inputs(program: Program, batch: object) -> list[jax.ShapeDtypeStruct]:
    """Shapes of the arguments for a batch of a fixed or a symbolic size."""
    return [jax.ShapeDtypeStruct((batch, *shape), jnp.float32) for shape in program.shapes]
