"""A trained network as a function that fills holes: averaged weights of a checkpoint."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gmsrm_jax.checkpoints import Checkpoints
from gmsrm_jax.devices import replicated, to_devices
from gmsrm_jax.models.inpainting import build_network, join_frozen, split_frozen
from gmsrm_jax.models.memory import draw_noise, indexed_noise, memory_resolutions, noise_shapes
from gmsrm_jax.stages.base import apply


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
    """The weights that a training with this config begins with, but for what stage 1 learns."""
    return jax.jit(lambda: _draw(config), out_shardings=replicated(mesh))()


def trained_weights(
    config: ConfigDict, checkpoints: Checkpoints, step: int, mesh: Mesh
) -> dict[str, Any]:
    """Averaged weights of a checkpoint with the frozen memory; nothing else of it is read.

    Raises:
        UserError: the checkpoint is not one of this config.
    """
    shapes = jax.eval_shape(lambda: _draw(config))
    trained, frozen = split_frozen(shapes, config.inpainting.train_noise_strength)
    targets = {"average": {"network": trained}, "kept": {"network": frozen}}
    items = checkpoints.restore_items(step, targets, replicated(mesh))
    return join_frozen(items["average"]["network"], items["kept"]["network"])


def weights_sha256(params: Any) -> str:
    """SHA-256 (hex) over the names and bytes of all weights, in the order of their names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _draw(config: ConfigDict) -> Any:
    size = config.image_size
    image, mask = jnp.zeros((1, size, size, 3)), jnp.zeros((1, size, size, 1))
    key, key_noise = jax.random.split(jax.random.key(config.seed))
    noise = draw_noise(key_noise, 1, memory_resolutions(size))
    return build_network(config).init(key, image, mask, noise)["params"]
