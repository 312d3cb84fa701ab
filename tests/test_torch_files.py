"""Files of torch.save, real ones and ones written here opcode by opcode, honest and hostile.

tests/data/torch_zip.pth and torch_stream.pth were written by PyTorch 2.13.0:

    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = collections.OrderedDict(
        whole=base, window=base[1:3, 1:5:2], turned=base.T, expanded=base[0, 5].expand(3),
        half=torch.tensor([0.5, -2.0]).half(), bfloat16=torch.tensor([1.5, -3.0]).bfloat16(),
        double=torch.tensor([0.1], dtype=torch.float64), long=torch.tensor(-7),
        int=torch.tensor([5]).int(), byte=torch.tensor([1, 255], dtype=torch.uint8),
        flags=torch.tensor([True, False]), empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.ones(2)),
    )
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    torch.save(state, "torch_zip.pth")
    torch.save(state, "torch_stream.pth", _use_new_zipfile_serialization=False)
"""

import os
import pathlib
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from torch_writers import (
    MAGIC,
    WRITERS,
    Op,
    build,
    call,
    dump,
    encode,
    named,
    parameter_built,
    storage,
    tensor_built,
    tensor_v1,
    tensor_v2,
    write_arrays,
    write_stream,
    write_zip,
)

from gmsrm_jax.foreign.torch_files import read_torch_state_dict
from gmsrm_jax.runtime.errors import UserError

DATA = pathlib.Path(__file__).parent / "data"
REAL = [DATA / "torch_zip.pth", DATA / "torch_stream.pth"]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_reads_what_pytorch_wrote(path):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = {
        "whole": base,
        "window": base[1:3, 1:5:2],
        "turned": base.T,
        "expanded": np.full(3, 5, np.float32),
        "half": np.array([0.5, -2], np.float16),
        "bfloat16": np.array([1.5, -3], np.float32),
        "double": np.array([0.1]),
        "long": np.array(-7),
        "int": np.array([5], np.int32),
        "byte": np.array([1, 255], np.uint8),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": np.ones(2, np.float32),
    }
    found = read_torch_state_dict(path)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)
        assert not found[name].flags.writeable


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("tensor", [tensor_v2, tensor_v1, tensor_built, parameter_built])
def test_reads_every_generation_of_tensors(tmp_path, writer, tensor):
    arrays = {
        "features.0.weight": np.random.default_rng(0).normal(size=(4, 3, 3, 2)).astype(np.float32),
        "features.0.bias": np.arange(4, dtype=np.float32),
    }
    write_arrays(writer, tmp_path / "a.pth", arrays, tensor)
    found = read_torch_state_dict(tmp_path / "a.pth")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def python_2(value):
    """A string as Python 2 pickled it."""
    return Op(b"U" + bytes([len(value)]) + value.encode())


def ordered_dict(*arguments):
    return call("collections.OrderedDict", *arguments)


def test_reads_what_python_2_wrote(tmp_path):
    """As LPIPS's published heads are: an OrderedDict made from a list, its state, other strings."""
    arrays = {"lin0.model.1.weight": np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1)}
    arrays["bias"] = np.ones(3, np.float32)
    items = [
        [python_2(name), tensor_v2(key, array)]
        for key, (name, array) in zip("01", arrays.items(), strict=True)
    ]
    versions = ordered_dict([[python_2("lin0"), {python_2("version"): 1}]])
    metadata = {python_2("_metadata"): versions}
    state = Op(ordered_dict(items) + encode(metadata) + b"b")
    write_stream(tmp_path / "a.pth", state, dict(zip("01", arrays.values(), strict=True)))
    found = read_torch_state_dict(tmp_path / "a.pth")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize(
    "state",
    [
        ordered_dict([["a"]]),
        ordered_dict([["a", 1, "b", 2], ["c"]]),
        ordered_dict([("a", 1)]),
        ordered_dict({"a": 1}),
        ordered_dict([["a", 1]], []),
        ordered_dict([[["a"], 1]]),
        ordered_dict("ab"),
    ],
    ids=str,
)
def test_odd_ordered_dicts_are_refused(tmp_path, state):
    write_stream(tmp_path / "a.pth", state, {})
    with pytest.raises(UserError, match="damaged pickle"):
        read_torch_state_dict(tmp_path / "a.pth")


def test_an_ordered_dict_cannot_be_multiplied(tmp_path):
    """One list of items, named a thousand times: a thousand full dictionaries would take 100 MB."""
    items = Op(encode([[f"{i}", i] for i in range(1000)]) + b"q\x01")
    again = named("collections.OrderedDict") + b"h\x01\x85R"
    write_stream(tmp_path / "a.pth", Op(b"(" + items + again * 1000 + b"t"), {})
    tracemalloc.start()
    with pytest.raises(UserError, match="no dictionary of tensors"):
        read_torch_state_dict(tmp_path / "a.pth")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_reads_a_view_of_a_storage(tmp_path):
    data = np.arange(10, dtype=np.float32)
    view = storage("root", 10, view=("view", 4, 5))
    state = {"a": call("torch._utils._rebuild_tensor", view, 1, (2, 2), (2, 1))}
    write_stream(tmp_path / "a.pth", state, {"root": data})
    found = read_torch_state_dict(tmp_path / "a.pth")["a"]
    np.testing.assert_array_equal(found, [[5, 6], [7, 8]])


@pytest.mark.parametrize("writer", WRITERS)
def test_every_truncation_is_a_user_error(tmp_path, writer):
    path, damaged = tmp_path / "whole.pth", tmp_path / "damaged.pth"
    write_arrays(writer, path, {"a": np.ones((2, 1), np.float32), "b": np.zeros(1, np.float32)})
    content = path.read_bytes()
    for length in range(len(content)):
        damaged.write_bytes(content[:length])
        with pytest.raises(UserError) as error:
            read_torch_state_dict(damaged)
        assert str(damaged) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_flipped_bytes_are_user_errors_or_harmless(tmp_path, path):
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged.pth"
    refused = 0
    for _ in range(400):
        content = bytearray(path.read_bytes())
        for position in rng.integers(0, len(content), rng.integers(1, 4)):
            content[position] ^= int(rng.integers(1, 256))
        damaged.write_bytes(content)
        try:
            read_torch_state_dict(damaged)
        except UserError:
            refused += 1
    assert 0 < refused < 400


class Evil:
    """An object whose unpickling makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("container", ["zip", "stream", "plain"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_malicious_pickles_are_refused_without_effect(tmp_path, container, protocol):
    folder, path = tmp_path / "made", tmp_path / "evil.pth"
    payload = pickle.dumps({"a": Evil(folder)}, protocol)
    if container == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("saved/data.pkl", payload)
    elif container == "stream":
        system = {"little_endian": True}
        path.write_bytes(b"".join(map(dump, (MAGIC, 1001, system))) + payload + dump([]))
    else:
        path.write_bytes(b"\x80\x02" + payload)
    with pytest.raises(UserError, match=r"mkdir.*nothing was run|opcode|no .* where one belongs"):
        read_torch_state_dict(path)
    assert not folder.exists()
    pickle.loads(payload)
    assert folder.exists()  # the payload is a live one


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"cbuiltins\neval\nX\x01\x00\x00\x001\x85R", "'builtins.eval'"),
        (b"X\x08\x00\x00\x00builtinsX\x04\x00\x00\x00eval\x93)R", "'builtins.eval'"),
        (b"(S'1'\nibuiltins\neval\n", "opcode STRING"),
        (b"(ibuiltins\neval\n", "opcode INST"),
        (b"ctorch\nFloatStorage.__class__\n", r"'torch.FloatStorage.__class__'"),
        (b"ctorch.nn.modules.conv\nConv2d\n)\x81", "'torch.nn.modules.conv.Conv2d'"),
        (b"\x82\x01", "opcode EXT1"),
    ],
)
def test_names_outside_the_list_are_refused_by_name(tmp_path, opcodes, message):
    write_zip(tmp_path / "a.pth", {"a": Op(opcodes)}, {})
    with pytest.raises(UserError, match=message) as error:
        read_torch_state_dict(tmp_path / "a.pth")
    assert str(tmp_path / "a.pth") in str(error.value)


def rebuilt(shape, strides, offset=0, count=4, **kwargs):
    source = storage("0", count, **kwargs)
    return call("torch._utils._rebuild_tensor", source, offset, shape, strides)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    "tensor",
    [
        rebuilt((5,), (1,)),
        rebuilt((2, 2), (3, 1)),
        rebuilt((4,), (1,), offset=1),
        rebuilt((4,), (1,), offset=-1),
        rebuilt((2,), (-1,), offset=1),
        rebuilt((-1,), (1,)),
        rebuilt((2, 2), (1,)),
        rebuilt((1 << 40, 1 << 40), (0, 0)),
        rebuilt((0, 1 << 40, 1 << 40), (0, 0, 0)),
        rebuilt((4,), (1,), count=1 << 40),
        rebuilt((1 << 40,), (1,), count=1 << 40),
        rebuilt((4,), (1,), count=1 << 200),
        rebuilt((4,), (1,), kind="Double"),
        rebuilt((1,) * 40, (1,) * 40),
        rebuilt((2,), (1,), view=("v", 3, 2)),
        call("torch._utils._rebuild_tensor", storage("1", 4), 0, (4,), (1,)),
        call("torch._utils._rebuild_tensor", "0", 0, (4,), (1,)),
        call("torch._utils._rebuild_tensor"),
        build("torch.FloatTensor", 1, 2, 3, 4),
        Op(named("torch.FloatTensor") + b")R"),
        Op(b"h\x07"),
        Op(b"R"),
        [rebuilt((4,), (1,))],
        {"nested": rebuilt((4,), (1,))},
        3,
    ],
    ids=str,
)
def test_lying_headers_are_refused_without_memory(tmp_path, writer, tensor):
    path = tmp_path / "a.pth"
    honest = rebuilt((2, 2), (2, 1))
    writer(path, {"good": honest}, {"0": np.arange(4, dtype=np.float32)})
    assert read_torch_state_dict(path)["good"].tolist() == [[0, 1], [2, 3]]
    writer(path, {"good": honest, "bad": tensor}, {"0": np.arange(4, dtype=np.float32)})
    tracemalloc.start()
    with pytest.raises(UserError):
        read_torch_state_dict(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_damaged_containers_name_the_fault(tmp_path):
    path = tmp_path / "a.pth"
    data = {"0": np.arange(4, dtype=np.float32)}
    state = {"a": rebuilt((4,), (1,))}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("saved/data.pkl", dump(state))
    with pytest.raises(UserError, match="compressed"):
        read_torch_state_dict(path)
    write_zip(path, state, data)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", dump(state))
    with pytest.raises(UserError, match=r"2 data\.pkl"):
        read_torch_state_dict(path)
    write_zip(path, state, data)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")  # that of data/0, whose sizes lie at 20 and 24
    content[entry + 20 : entry + 28] = b"\xff\xff\xff\x7f" * 2
    path.write_bytes(content)
    with pytest.raises(UserError, match="data/0 is compressed or larger than the file"):
        read_torch_state_dict(path)
    path.write_bytes(b"".join(map(dump, (MAGIC, 1001, {"little_endian": False}))))
    with pytest.raises(UserError, match="big-endian"):
        read_torch_state_dict(path)
    write_stream(path, state, {"0": np.arange(5, dtype=np.float32)})
    with pytest.raises(UserError, match="number of elements"):
        read_torch_state_dict(path)
    write_stream(path, {}, {})
    with pytest.raises(UserError, match="no dictionary of tensors"):
        read_torch_state_dict(path)
    write_stream(path, {"state_dict": state, "epoch": 3}, data)
    with pytest.raises(UserError, match=r"'state_dict' is a dict, not a tensor; .*state_dict\(\)"):
        read_torch_state_dict(path)
    path.write_bytes(b"<html>Not found</html>")
    with pytest.raises(UserError, match=r"not a PyTorch file .*<htm"):
        read_torch_state_dict(path)
    with pytest.raises(UserError, match="No such file"):
        read_torch_state_dict(tmp_path / "missing.pth")
    with pytest.raises(UserError, match="cannot be read"):
        read_torch_state_dict(tmp_path)
