"""Published weights to this project's file (see `converted`), by the table in `networks`."""

import importlib
import os
import pathlib
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from gmsrm_jax.foreign.converted import Params, write_converted
from gmsrm_jax.foreign.networks import NETWORKS, NORMED, Layer, Part
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import file_sha256

_EPSILON = 0.001  # of Inception's batch normalisations
_RESAVE = "load it with the program that wrote it and torch.save(model.state_dict(), FILE)"


def convert(
    name: str,
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    any_file: bool = False,
    last_layer: str = "",
) -> str:
    """Converts published weights to a .safetensors file of this project.

    Args:
        name: of `NETWORKS`.
        inputs: a file for each of the network's parts.
        output: the file to write; its folder is made if missing.
        any_file: accept other files than the published ones, if their arrays fit.
        last_layer: the last one to keep; "" for all.

    Returns:
        One line that says what was written.

    Raises:
        UserError: a file cannot be read or written, is not the published one, or does not fit.
    """
    network = NETWORKS[name]
    layers = list(network.layers)
    if pathlib.Path(output).suffix != ".safetensors":
        raise UserError(f"{output}: the name of converted weights ends in .safetensors")
    if last_layer and last_layer not in layers:
        raise UserError(f"last layer {last_layer!r}: name one of {', '.join(layers)}")
    kept = layers[: layers.index(last_layer) + 1] if last_layer else layers
    params: Params = {}
    sources = []
    for part, path in zip(network.parts, map(pathlib.Path, inputs), strict=True):
        sources.append(_source(path, part, any_file))
        state = read_state_dict(path)
        for name_here in (each for each in part.layers if each in kept):
            layer = part.layers[name_here]
            cure = f"give {part.file.name} of {network.title}"
            arrays = {
                role: _array(state, f"{layer.published}.{key}", _shape(layer, role), path, cure)
                for role, key in part.arrays.items()
            }
            params[name_here] = _folded(arrays) if part.arrays is NORMED else arrays
            if not all(np.isfinite(array).all() for array in params[name_here].values()):
                raise UserError(
                    f"{path}: {layer.published} holds NaN, infinity or a negative variance; fetch "
                    "it again"
                )
    normalisation = network.normalisations[0]
    digest = write_converted(output, name, normalisation, params, sources)
    return (
        f"wrote {output}: {network.title}, {len(params)} layers to {kept[-1]}, normalisation"
        f" {normalisation}, SHA-256 of the contents {digest}"
    )


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads what torch.save(module.state_dict(), path) wrote, by torch.load(weights_only=True).

    Returns:
        Arrays by name; floating point of any width as float32, the rest as it is.

    Raises:
        UserError: torch is not installed; or the file is missing or damaged, holds no dictionary of
            tensors, or something that torch does not read without running code.
    """
    try:
        torch = importlib.import_module("torch")
        # Before 2.6 weights_only let code through: CVE-2025-32434.
        if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
            raise ImportError
    except ImportError as error:
        raise UserError(
            f"{path}: PyTorch's files are read by torch 2.6 or newer; pip install"
            ' "gmsrm-jax[convert]"'
        ) from error
    # Torch's own words are not passed on: they advise to read the file by running what is in it.
    try:
        with warnings.catch_warnings(action="ignore"):
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise UserError(f"{path}: holds no dictionary of tensors; {_RESAVE}")
        return {
            name: (value.float() if value.is_floating_point() else value).numpy()
            for name, value in state.items()
            if isinstance(value, torch.Tensor)
        }
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UserError:
        raise
    except Exception as error:  # for damaged files it may be any
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and asked:
            raise UserError(
                f"{path}: asks to run {asked[1]!r}, which no dictionary of tensors needs; nothing"
                f" was run. If you trust the file, {_RESAVE}"
            ) from error
        if ".tar" in str(error):
            raise UserError(
                f"{path}: a .tar file of PyTorch before 0.1.10, which torch does not read without"
                f" running code; {_RESAVE}"
            ) from error
        raise UserError(f"{path}: damaged, or no file of PyTorch's; fetch it again") from error


def _source(path: pathlib.Path, part: Part, any_file: bool) -> dict[str, str]:
    """Name, address and SHA-256 of a file, which must be the published one unless `any_file`."""
    try:
        found = file_sha256(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); check {part.option}"
        ) from error
    published = found.startswith(part.file.sha256)
    if not published and not any_file:
        raise UserError(
            f"{path}: SHA-256 is {found}, that of {part.file.name} is {part.file.sha256}; fetch it"
            f" from {part.file.url}, or pass --any-file if another network is meant"
        )
    named = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if named and not found.startswith(named[1]):
        raise UserError(
            f"{path}: SHA-256 starts with {found[:8]}, not with the {named[1]} in its name, so the"
            " download is damaged; fetch it again"
        )
    return {"file": path.name, "url": part.file.url if published else "", "sha256": found}


def _shape(layer: Layer, role: str) -> tuple[int, ...]:
    """A kernel's [O, I, H, W], or [O] for the rest."""
    height, width, inputs, outputs = layer.kernel
    return (outputs, inputs, height, width) if role == "kernel" else (outputs,)


def _array(
    state: Mapping[str, np.ndarray],
    key: str,
    shape: tuple[int, ...],
    path: pathlib.Path,
    cure: str,
) -> np.ndarray:
    """An array of that shape as float32, kernels as [H, W, I, O]; a UserError if it is none."""
    array = state.get(key)
    if array is None:
        raise UserError(f"{path}: no {key} in it, only {', '.join(list(state)[:3])}, ...; {cure}")
    if array.shape != shape or not np.issubdtype(array.dtype, np.floating):
        raise UserError(
            f"{path}: {key} is {array.dtype} {array.shape} instead of float {shape}; {cure}"
        )
    return np.ascontiguousarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array, "<f4")


def _folded(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A convolution and the batch normalisation behind it as one convolution, in float64.

    k * x → gain · (k * x - mean) / √(variance + ε) + offset; k [H, W, I, O], the others [O].
    """
    with np.errstate(invalid="ignore"):
        deviation = np.sqrt(arrays["variance"].astype(np.float64) + _EPSILON)
    scale = arrays["gain"] / deviation
    return {
        "kernel": (arrays["kernel"] * scale).astype(np.float32),
        "bias": (arrays["offset"] - arrays["mean"] * scale).astype(np.float32),
    }
