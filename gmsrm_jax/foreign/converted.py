"""The project's file of converted weights: an .npz that says where it came from and checks itself.

It holds float32 arrays "LAYER/kernel", "LAYER/bias" and so on, and a JSON string "metadata": the
format, the variant of the network, the files that it was made from with their SHA-256, and the
SHA-256 of everything that the features depend on.
"""

import collections.abc
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import zipfile

import numpy as np

from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import file_sha256, write_atomically
from gmsrm_jax.runtime.unreadable import UNREADABLE_NPZ

Params = dict[str, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of converted file.

    Attributes:
        name: the metadata's "format".
        network: what messages call the network.
        variant_key: the metadata's name for the variant of the network.
        variants: the variants there are.
    """

    name: str
    network: str
    variant_key: str
    variants: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """A public file of weights: its name, its address and the SHA-256 of its bytes."""

    name: str
    url: str
    sha256: str


def published_sha256(
    path: pathlib.Path, published: PublishedFile, any_file: bool, option: str
) -> str:
    """The SHA-256 of a downloaded file, which must be the published one's unless `any_file`.

    Args:
        path: the file.
        published: what it should be.
        any_file: accept other files too.
        option: the command's option that named the file, for messages.

    Raises:
        UserError: the file cannot be read or is another one.
    """
    found = given_sha256(path, option)
    if found != published.sha256 and not any_file:
        raise UserError(
            f"{path}: SHA-256 is {found}, that of {published.name} is {published.sha256}; fetch it"
            f" from {published.url}, or pass --any-file if another network is meant"
        )
    return found


def given_sha256(path: pathlib.Path, option: str) -> str:
    """The SHA-256 of a file that an option names; a UserError that names it if it is unreadable."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check {option}") from error


def checked_array(
    array: np.ndarray,
    shape: collections.abc.Sequence[int],
    what: str,
    path: pathlib.Path,
    cure: str,
) -> np.ndarray:
    """The array as contiguous float32.

    Args:
        array: from a foreign file, kernels already [H, W, I, O].
        shape: what it must be.
        what: the array's name.
        path: the file it is from.
        cure: what to do about another shape; it follows the shape that was expected.

    Raises:
        UserError: it is not of floating point, of another shape, or not finite.
    """
    if array.shape != tuple(shape) or not np.issubdtype(array.dtype, np.floating):
        raise UserError(
            f"{path}: {what} is {array.dtype} {array.shape} (HWIO) instead of float"
            f" {tuple(shape)}; {cure}"
        )
    if not np.isfinite(array).all():
        raise UserError(f"{path}: {what} holds NaN or infinity; fetch it again")
    return np.ascontiguousarray(array, np.float32)


def output_path(output: str | os.PathLike[str]) -> pathlib.Path:
    """The path of a file to write; a UserError unless its name ends in .npz."""
    output = pathlib.Path(output)
    if output.suffix != ".npz":
        raise UserError(f"{output}: the name of converted weights ends in .npz")
    return output


def write_converted(
    path: pathlib.Path,
    file_format: Format,
    variant: str,
    params: Params,
    sources: collections.abc.Mapping[str, str],
) -> str:
    """Writes a converted file; its folder is made if missing.

    Args:
        path: where to.
        file_format: which kind of file it is.
        variant: one of the format's variants.
        params: {"LAYER": {"kernel": float32 array, ...}, ...}.
        sources: further metadata, about the files that it was made from.

    Returns:
        The SHA-256 of the contents.

    Raises:
        UserError: it cannot be written.
    """
    digest = _content_sha256(params, variant)
    metadata = {
        "format": file_format.name,
        file_format.variant_key: variant,
        **sources,
        "sha256": digest,
    }
    arrays = {f"{name}/{kind}": array for name in params for kind, array in params[name].items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, metadata=np.array(json.dumps(metadata)), **arrays)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); check --output") from error
    return digest


def read_converted(
    path: str | os.PathLike[str], file_format: Format, command: str
) -> tuple[Params, str]:
    """Reads a converted file and verifies its SHA-256.

    Args:
        path: the file.
        file_format: which kind it must be.
        command: the command that makes such a file, for messages.

    Returns:
        {"LAYER": {"kernel": float32 array, ...}, ...}, and the variant.

    Raises:
        UserError: missing, damaged, or not a converted file of this kind.
    """
    path = pathlib.Path(path)
    network, cure = file_format.network, f"convert it again: {command}"
    arrays = read_npz(path)
    if "metadata" not in arrays:
        raise UserError(f"{path}: not a file of converted {network} weights (no metadata); {cure}")
    try:
        metadata = json.loads(str(arrays.pop("metadata")))
        params: Params = {}
        for key, array in arrays.items():
            layer, kind = key.split("/")
            params.setdefault(layer, {})[kind] = array
        variant, digest = metadata[file_format.variant_key], metadata["sha256"]
        if metadata["format"] != file_format.name or variant not in file_format.variants:
            raise ValueError("another format")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not converted {network} weights ({error}); {cure}") from error
    found = _content_sha256(params, variant)
    if found != digest:
        raise UserError(f"{path}: damaged, SHA-256 is {found}, recorded is {digest}; {cure}")
    return params, variant


def read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz whose checksums hold; a UserError otherwise."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"CRC of {damaged}")
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (*UNREADABLE_NPZ, RuntimeError) as error:
        raise UserError(f"{path}: damaged or not an .npz ({error}); make it again") from error


def _content_sha256(params: Params, variant: str) -> str:
    """SHA-256 over the variant and, by name, every array's name, type, shape and bytes."""
    digest = hashlib.sha256(variant.encode())
    for name in sorted(params):
        for kind in sorted(params[name]):
            array = params[name][kind]
            digest.update(f"\n{name}/{kind} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
