"""Writes files in torch.save's two formats opcode by opcode, for tests without PyTorch."""

import struct
import zipfile

MAGIC = 0x1950A86A20F9469CFC6C


class Op(bytes):
    """Pickle opcodes that leave one value on the stack."""


def encode(value):
    """A value as protocol-2 opcodes."""
    match value:
        case Op():
            return bytes(value)
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(content)]) + content
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(encode, value)) + b"t"
        case list():
            return b"](" + b"".join(map(encode, value)) + b"e"
        case dict():
            return b"}(" + b"".join(encode(k) + encode(v) for k, v in value.items()) + b"u"
    raise TypeError(value)


def dump(value):
    return b"\x80\x02" + encode(value) + b"."


def named(name):
    module, _, attribute = name.rpartition(".")
    return Op(b"c" + f"{module}\n{attribute}\n".encode())


def call(name, *arguments):
    return Op(named(name) + encode(arguments) + b"R")


def build(name, *state):
    """An empty object made by NEWOBJ and filled by BUILD, as PyTorch 0.1 wrote tensors."""
    return Op(named(name) + b")\x81" + encode(state) + b"b")


def storage(key, count, kind="Float", view=None):
    return Op(encode(("storage", named(f"torch.{kind}Storage"), key, "cpu", count, view)) + b"Q")


def tensor_v2(key, array):
    strides = tuple(s // array.itemsize for s in array.strides)
    hooks = call("collections.OrderedDict")
    fields = (storage(key, array.size), 0, array.shape, strides, False, hooks)
    return call("torch._utils._rebuild_tensor_v2", *fields)


def tensor_v1(key, array):
    strides = tuple(s // array.itemsize for s in array.strides)
    return call("torch._utils._rebuild_tensor", storage(key, array.size), 0, array.shape, strides)


def tensor_built(key, array):
    strides = tuple(s // array.itemsize for s in array.strides)
    return build("torch.cuda.FloatTensor", storage(key, array.size), 0, array.shape, strides)


def parameter_built(key, array):
    return build("torch.nn.parameter.Parameter", tensor_built(key, array), None, None, True, None)


def write_stream(path, state, storages):
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    with path.open("wb") as file:
        for value in (MAGIC, 1001, system, state, list(storages)):
            file.write(dump(value))
        for array in storages.values():
            file.write(struct.pack("<q", array.size) + array.tobytes())


def write_zip(path, state, storages):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("saved/data.pkl", dump(state))
        archive.writestr("saved/byteorder", "little")
        for key, array in storages.items():
            archive.writestr(f"saved/data/{key}", array.tobytes())


WRITERS = [write_stream, write_zip]


def write_arrays(writer, path, arrays, tensor=tensor_v2):
    state = {name: tensor(str(i), array) for i, (name, array) in enumerate(arrays.items())}
    writer(path, state, {str(i): array for i, array in enumerate(arrays.values())})
