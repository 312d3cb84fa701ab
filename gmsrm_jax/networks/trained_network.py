"""A trained network as a function that fills holes: averaged weights of a checkpoint."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gmsrm_jax.checkpoints.store import Checkpoints
from gmsrm_jax.methods.base import apply
from gmsrm_jax.methods.gm_srm.memory import indexed_noise, memory_resolutions, noise_shapes
from gmsrm_jax.methods.gm_srm.network import build_network, join_frozen, split_frozen
from gmsrm_jax.methods.network_weights import draw_weights, weight_shapes
from gmsrm_jax.runtime.devices import replicated, to_devices


def network_fill(config: ConfigDict, mesh: Mesh, mean_noise: bool) -> Callable[..., np.ndarray]:
    """A method of an evaluation (`batches.Fill`) with the weights as its first argument.

    Args:
        config: the run's config; the noise of an example is a function of `evaluation.seed` and
            its index alone.
        mesh: devices that share a batch.
        mean_noise: fill with ε = 0.
    """
    network, resolutions = build_network(config), memory_resolutions(config.image_size)

    def fill(params: Any, image: jax.Array, mask: jax.Array, index: jax.Array) -> jax.Array:
        if mean_noise:
            noise = [jnp.zeros(shape) for shape in noise_shapes(len(image), resolutions)]
        else:
            noise = indexed_noise(config.evaluation.seed, index, resolutions)
        return apply(network, params, image, mask, noise).image

    compiled = jax.jit(fill)

    def method(
        params: Any, image: np.ndarray, mask: np.ndarray, example_index: np.ndarray
    ) -> np.ndarray:
        batch = to_devices({"image": image, "mask": mask, "index": example_index}, mesh)
        return np.asarray(compiled(params, batch["image"], batch["mask"], batch["index"]))

    return method


def untrained_weights(config: ConfigDict, mesh: Mesh) -> Any:
    """`draw_weights` on all devices of the mesh."""
    return jax.jit(lambda: draw_weights(config), out_shardings=replicated(mesh))()


def trained_weights(
    config: ConfigDict, checkpoints: Checkpoints, step: int, mesh: Mesh
) -> dict[str, Any]:
    """Averaged weights of a checkpoint with the frozen memory; nothing else of it is read.

    Raises:
        UserError: the checkpoint is not one of this config.
    """
    shapes = weight_shapes(config)
    trained, frozen = split_frozen(shapes, config.inpainting.train_noise_strength)
    targets = {"average": {"network": trained}, "kept": {"network": frozen}}
    items = checkpoints.restore_items(step, targets, replicated(mesh))
    return join_frozen(items["average"]["network"], items["kept"]["network"])
