"""The file of converted weights: safetensors that say where they came from and check themselves.

It holds float32 arrays "LAYER/kernel" [height, width, inputs, outputs] and "LAYER/bias" [outputs].
Its metadata has one entry, "gmsrm_jax", JSON: the network and its normalisation (see `networks`),
the files that it was made from with their addresses and SHA-256, and the SHA-256 of everything that
the features depend on.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import safetensors
import safetensors.numpy

from gmsrm_jax.foreign.networks import NETWORKS
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically

Params = dict[str, dict[str, np.ndarray]]
# One, since safetensors writes several in any order: equal weights give equal files.
_ENTRY = "gmsrm_jax"


def write_converted(
    path: str | os.PathLike[str],
    name: str,
    normalisation: str,
    params: Params,
    sources: Sequence[Mapping[str, str]],
) -> str:
    """Writes a converted file; its folder is made if missing.

    Args:
        path: where to.
        name: of `NETWORKS`.
        normalisation: one of the network's.
        params: {"LAYER": {"kernel": float32 array, ...}, ...}.
        sources: "file", "url" ("" for another file than the published one) and "sha256" of each
            file that it was made from.

    Returns:
        The SHA-256 of the contents.

    Raises:
        UserError: it cannot be written.
    """
    arrays = {f"{layer}/{kind}": params[layer][kind] for layer in params for kind in params[layer]}
    digest = _content_sha256(name, normalisation, arrays)
    about = {
        "network": name,
        "normalisation": normalisation,
        "sources": list(sources),
        "sha256": digest,
    }
    data = safetensors.numpy.save(arrays, metadata={_ENTRY: json.dumps(about)})
    try:
        write_atomically(path, data)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); check --output") from error
    return digest


def read_converted(path: str | os.PathLike[str], name: str) -> tuple[Params, str]:
    """Reads a converted file and verifies its SHA-256.

    Args:
        path: the file.
        name: of `NETWORKS`, which it must be.

    Returns:
        {"LAYER": {"kernel": float32 array, ...}, ...} in the network's order, and the
        normalisation.

    Raises:
        UserError: missing, damaged, or no converted file of this network; the message says what to
            fetch and which command makes the file.
    """
    path, network = pathlib.Path(path), NETWORKS[name]
    if not path.is_file():
        raise UserError(f"{path}: no {network.title} weights there; {network.recipe(path)}")
    cure = f"convert it again: {network.convert_command(path)}"
    if path.suffix == ".npz":
        raise UserError(f"{path}: an .npz, but converted weights are .safetensors; {cure}")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            about = json.loads((file.metadata() or {})[_ENTRY])
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        found, normalisation, recorded = (
            about[key] for key in ("network", "normalisation", "sha256")
        )
        digest = _content_sha256(found, normalisation, arrays)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); {cure}") from error
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged, or no converted weights ({error}); {cure}") from error
    if digest != recorded:
        raise UserError(f"{path}: damaged, SHA-256 is {digest}, recorded is {recorded}; {cure}")
    if found != name:
        raise UserError(f"{path}: weights of {found}, not {name}; name another file, or {cure}")
    params: Params = {}
    for layer in network.layers:
        kinds = {kind: arrays.get(f"{layer}/{kind}") for kind in ("kernel", "bias")}
        if kinds["kernel"] is not None:
            params[layer] = {kind: array for kind, array in kinds.items() if array is not None}
    return params, normalisation


def _content_sha256(name: str, normalisation: str, arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over both and, in the order of their names, arrays' name, type, shape and bytes."""
    digest = hashlib.sha256(f"{name} {normalisation}".encode())
    for key, array in sorted(arrays.items()):
        digest.update(f"\n{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
