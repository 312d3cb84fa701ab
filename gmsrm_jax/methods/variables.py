"""Variables as a whole: drawn anew, only their shapes, their number, their hash."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Method, Variables


def draw_variables(method: Method, config: ConfigDict) -> Variables:
    """Untrained variables, drawn by config.seed; pure."""
    key, _ = jax.random.split(jax.random.key(config.seed))
    return method.init(config, key)


def variable_shapes(method: Method, config: ConfigDict) -> Variables:
    """Shapes and types of the variables, in the same tree; nothing is computed."""
    return jax.eval_shape(lambda: draw_variables(method, config))


def parted(tree: dict[str, Any], second: Callable[[tuple[str, ...]], bool]) -> tuple[dict, dict]:
    """Two nested dicts whose union is a tree; those paths for which `second` is true are the other.

    Args:
        tree: nested dicts.
        second: of a leaf's path.
    """
    parts: tuple[dict, dict] = ({}, {})
    for path, leaf in traverse_util.flatten_dict(tree).items():
        parts[second(path)][path] = leaf
    return traverse_util.unflatten_dict(parts[0]), traverse_util.unflatten_dict(parts[1])


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `parted`: two trees without a path in common as one."""
    flat = {**traverse_util.flatten_dict(first), **traverse_util.flatten_dict(second)}
    return traverse_util.unflatten_dict(flat)


def weights_sha256(tree: Any) -> str:
    """SHA-256 (hex) over the names and bytes of all arrays, in the order of their names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def count_parameters(method: Method, config: ConfigDict, variables: Variables) -> tuple[int, int]:
    """Numbers of trained and of frozen parameters; statistics are none.

    Args:
        method: which of its parameters its last stage moves.
        config: of the training.
        variables: arrays or shapes.
    """
    counts = [0, 0]
    for path, leaf in traverse_util.flatten_dict(variables).items():
        if path[1] == "params":
            counts[method.frozen(config, path)] += int(np.prod(leaf.shape))
    return counts[0], counts[1]
