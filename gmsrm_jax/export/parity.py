"""Whether an exported graph fills as the network does, on photographs."""

from collections.abc import Callable

import jax
import numpy as np

from gmsrm_jax.assets import asset_path
from gmsrm_jax.data.decoding import decode_image, resize_for_test
from gmsrm_jax.data.listing import list_images
from gmsrm_jax.data.masks.bins import center_mask
from gmsrm_jax.export.program import Program
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.pixels import to_signed

TOLERANCE = 1e-3
# Shares of the picture that the holes cover, one for each photograph.
_HOLES = (0.1, 0.25, 0.4, 0.6)


def photographs(program: Program) -> list[np.ndarray]:
    """Arguments of a program: bundled photographs with centre holes, and noise drawn by a seed."""
    size = program.shapes[0][0]
    paths = list_images(asset_path("facades/test"))[: len(_HOLES)]
    pictures = [
        resize_for_test(decode_image(path.read_bytes()), size, 1.25, "shorter_side")
        for path in paths
    ]
    masks = [center_mask(size, share) for share in _HOLES]
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=(len(_HOLES), *shape)) for shape in program.shapes[2:]]
    arrays = [to_signed(np.stack(pictures)), np.stack(masks), *noise]
    return [np.asarray(array, np.float32) for array in arrays]


def run_network(program: Program, inputs: list[np.ndarray]) -> np.ndarray:
    """What the network itself gives."""
    return np.asarray(jax.jit(program.function)(*inputs))


def check_parity(
    name: str,
    run: Callable[[list[np.ndarray]], np.ndarray],
    inputs: list[np.ndarray],
    expected: np.ndarray,
    batch: int | None,
) -> float:
    """Runs a graph on all pictures and compares.

    Args:
        name: of its file, for messages.
        run: the graph.
        inputs: of all pictures.
        expected: the network's own outputs, in [-1, 1].
        batch: pictures that the graph takes at once; None: any number.

    Returns:
        The largest difference.

    Raises:
        UserError: it is above TOLERANCE, or not a number.
    """
    differences = []
    for rows in _batches(len(expected), batch):
        filled = run([array[rows] for array in inputs])
        differences.append(np.abs(filled - expected[rows]).max())
    worst = float(np.max(differences))
    if not worst <= TOLERANCE:
        raise UserError(
            f"{name}: fills otherwise than the network, by up to {worst:.2g} in [-1, 1] (allowed: "
            f"{TOLERANCE:g}); nothing was written; export with the versions in constraints.txt"
        )
    return worst


def _batches(count: int, batch: int | None) -> list[np.ndarray]:
    """Rows of each batch; of two sizes for a graph that takes any, repeated to fill a fixed one."""
    if batch is None:
        return [np.arange(1), np.arange(1, count)]
    return list((np.arange(-(-count // batch) * batch) % count).reshape(-1, batch))
