"""The weights of the network that a config describes: drawn anew, only their shapes, their hash."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.methods.gm_srm.memory import memory_resolutions, noise_shapes
from gmsrm_jax.methods.gm_srm.network import build_network


def draw_weights(config: ConfigDict) -> Any:
    """The weights that a training with this config begins with, but for what stage 1 learns."""
    size = config.image_size
    image, mask = jnp.zeros((1, size, size, 3)), jnp.zeros((1, size, size, 1))
    key, _ = jax.random.split(jax.random.key(config.seed))
    noise = [jnp.zeros(shape) for shape in noise_shapes(1, memory_resolutions(size))]
    return build_network(config).init(key, image, mask, noise)["params"]


def weight_shapes(config: ConfigDict) -> Any:
    """Shapes and types of the weights, in the same tree; nothing is computed."""
    return jax.eval_shape(lambda: draw_weights(config))


def weights_sha256(params: Any) -> str:
    """SHA-256 (hex) over the names and bytes of all weights, in the order of their names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
