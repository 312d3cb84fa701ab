"""Reads a state dict that PyTorch saved, in either of its two formats, without PyTorch.

Since 1.6 torch.save writes a zip archive: NAME/data.pkl and one member NAME/data/KEY for every
storage, all stored uncompressed. Before that it wrote a stream: four pickles (a magic number, the
protocol, the writer's byte order and sizes, the object), the list of storage keys as a fifth, then
for every key the number of elements as int64 and the elements. The published
vgg19-dcbb9e9d.pth is such a stream.
"""

import collections.abc
import io
import math
import mmap
import os
import pathlib
import struct
import zipfile
from typing import Any

import numpy as np

from gmsrm_jax.foreign.torch_pickle import RESAVE, BuiltLater, TensorRecord, read_pickle
from gmsrm_jax.runtime.errors import UserError

_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_PROTOCOL = 1001
_ZIP_START = b"PK\x03\x04"
# What zipfile raises for damaged archives, besides BadZipFile.
_ZIP_ERRORS = (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, struct.error, OSError)


def read_torch_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a file written by torch.save(module.state_dict(), path).

    Nothing in the file is executed (see `torch_pickle`), and no size in it is believed before it
    is compared with the file's own.

    Returns:
        name -> array, in the file's order. The arrays are read-only and may share memory, as the
        tensors did. float16, float32, float64, bool and integers keep their type; bfloat16, which
        NumPy lacks, becomes float32 (exactly).

    Raises:
        UserError: the file is missing, damaged, truncated, not a flat dictionary of tensors, or
            names a type or function that such a dictionary does not need.
    """
    path = pathlib.Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(_ZIP_START))
            size = os.fstat(file.fileno()).st_size
            if start == _ZIP_START:
                return _read_zip(path, size)
            if start[:1] != b"\x80":
                raise UserError(
                    f"{path}: not a PyTorch file (it starts with {start!r}); fetch it again"
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return _read_stream(mapped, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _damaged(path: pathlib.Path, what: str) -> UserError:
    return UserError(f"{path}: damaged PyTorch file ({what}); fetch it again")


def _read_zip(path: pathlib.Path, size: int) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive, path, size)
    except _ZIP_ERRORS as error:
        raise _damaged(path, str(error)) from error


def _read_archive(archive: zipfile.ZipFile, path: pathlib.Path, size: int) -> dict[str, np.ndarray]:
    members = {info.filename: info for info in archive.infolist()}
    roots = [name.removesuffix("/data.pkl") for name in members if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise UserError(
            f"{path}: a zip archive with {len(roots)} data.pkl inside; torch.save has 1"
        )
    budget = size

    def read(name: str) -> bytes:
        nonlocal budget
        info = members.get(f"{roots[0]}/{name}")
        if info is None:
            raise _damaged(path, f"no {name}")
        # Members that overlap, or claim more than the file holds, would multiply its size.
        budget -= max(info.file_size, info.compress_size)
        if info.compress_type != zipfile.ZIP_STORED or budget < 0:
            raise _damaged(path, f"{name} is compressed or larger than the file")
        return archive.read(info)

    if f"{roots[0]}/byteorder" in members and read("byteorder") != b"little":
        raise UserError(f"{path}: written on a big-endian machine; {RESAVE} on a little-endian one")
    state, storages = read_pickle(io.BytesIO(read("data.pkl")), path)
    data = {
        key: _elements(read(f"data/{key}"), dtype, total, path)
        for key, (dtype, total) in storages.items()
    }
    return _arrays(state, data, size, path)


def _read_stream(mapped: mmap.mmap, path: pathlib.Path) -> dict[str, np.ndarray]:
    magic, _ = read_pickle(mapped, path)
    if magic != _STREAM_MAGIC:
        raise UserError(f"{path}: a pickle that torch.save did not write; {RESAVE}")
    protocol, _ = read_pickle(mapped, path)
    system, _ = read_pickle(mapped, path)
    if protocol != _STREAM_PROTOCOL or type(system) is not dict:
        raise _damaged(path, "unknown protocol")
    if system.get("little_endian") is not True:
        raise UserError(f"{path}: written on a big-endian machine; {RESAVE} on a little-endian one")
    state, storages = read_pickle(mapped, path)
    keys, _ = read_pickle(mapped, path)
    if type(keys) is not list or any(type(key) is not str for key in keys):
        raise _damaged(path, "no list of storages")
    if sorted(keys) != sorted(storages):
        raise _damaged(path, "the list of storages does not fit the tensors")
    data = {}
    for key in keys:
        dtype, total = storages[key]
        header = mapped.read(8)
        if len(header) != 8 or int.from_bytes(header, "little") != total:
            raise _damaged(path, "the number of elements of a storage is missing or differs")
        data[key] = _elements(
            mapped.read(total * _stored_dtype(dtype).itemsize), dtype, total, path
        )
    return _arrays(state, data, mapped.size(), path)


def _stored_dtype(dtype: str) -> np.dtype:
    return np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")


def _elements(content: bytes, dtype: str, total: int, path: pathlib.Path) -> np.ndarray:
    """A storage's elements as a read-only array [total]."""
    stored = _stored_dtype(dtype)
    if len(content) != total * stored.itemsize:
        raise _damaged(path, f"{len(content)} bytes where {total} elements of {dtype} belong")
    if dtype == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(content, stored).astype(np.uint32) << 16).view(np.float32)
    if dtype == "bool":
        return np.frombuffer(content, np.uint8) != 0
    return np.frombuffer(content, stored)


def _arrays(
    state: Any, data: collections.abc.Mapping[str, np.ndarray], size: int, path: pathlib.Path
) -> dict[str, np.ndarray]:
    if type(state) is not dict or not state:
        raise UserError(f"{path}: holds no dictionary of tensors; {RESAVE}")
    result = {}
    for name, value in state.items():
        record = value.record if isinstance(value, BuiltLater) else value
        if not isinstance(record, TensorRecord) or not isinstance(name, str):
            raise UserError(
                f"{path}: its entry {name!r} is a {type(value).__name__}, not a tensor; {RESAVE}"
            )
        # Strides of 0 (expanded tensors) and sizes of 0 hide any number of elements.
        if math.prod(max(n, 1) for n in record.shape) > size:
            raise _damaged(path, f"{name!r} has more elements than the file has bytes")
        storage = record.storage
        elements = data[storage.key][storage.start : storage.start + storage.count]
        result[name] = np.lib.stride_tricks.as_strided(
            elements[record.offset :],
            record.shape,
            [stride * elements.itemsize for stride in record.strides],
            writeable=False,
        )
    return result
