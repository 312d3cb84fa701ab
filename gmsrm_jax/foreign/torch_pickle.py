"""Reads the pickles inside PyTorch files without running anything that they name.

`pickletools.genops` of the standard library only decodes opcodes. This module gives a meaning to
the few opcodes and names that a dictionary of tensors needs and refuses every other one, so a file
cannot call code. A tensor becomes a `TensorRecord`: where its elements lie, all bounds checked
against the size that its storage claims; the storage's own size is checked against the file by
whoever reads the elements.
"""

import dataclasses
import pathlib
import pickletools
from typing import Any

from gmsrm_jax.runtime.errors import UserError

# The element types, by the first half of the names torch.FloatStorage and torch.FloatTensor.
DTYPES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Byte": "uint8",
    "Char": "int8",
    "Short": "int16",
    "Int": "int32",
    "Long": "int64",
    "Bool": "bool",
}
RESAVE = "load it with a current PyTorch and save its plain state_dict() again"

_STORAGES = {f"{m}.{k}Storage": v for k, v in DTYPES.items() for m in ("torch", "torch.cuda")}
_REBUILD_TENSOR = "torch._utils._rebuild_tensor"  # 2017 and 2018
_REBUILD_TENSOR_V2 = "torch._utils._rebuild_tensor_v2"
_REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
_ORDERED_DICT = "collections.OrderedDict"
_SIZE = "torch.Size"
# Before _rebuild_tensor, a tensor was an empty object whose fields followed in a BUILD opcode.
_BUILT_LATER = {
    "torch.nn.parameter.Parameter",
    *(f"{m}.{k}Tensor" for k in DTYPES for m in ("torch", "torch.cuda")),
}
_ALLOWED = {
    *_STORAGES,
    *_BUILT_LATER,
    _REBUILD_TENSOR,
    _REBUILD_TENSOR_V2,
    _REBUILD_PARAMETER,
    _ORDERED_DICT,
    _SIZE,
}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINSTRING", "SHORT_BINSTRING"),  # Python 2's strings, as in LPIPS's published heads
}
_CONTAINERS: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
# The opcodes that take values from the stack: how many, or None for all above the last mark.
_OPERANDS: dict[str, int | None] = {
    **dict.fromkeys(("TUPLE", "SETITEMS", "APPENDS"), None),
    **dict.fromkeys(("TUPLE1", "APPEND", "BUILD", "BINPERSID"), 1),
    **dict.fromkeys(("TUPLE2", "SETITEM", "STACK_GLOBAL", "REDUCE", "NEWOBJ"), 2),
    "TUPLE3": 3,
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_MAX_PICKLE_BYTES = 1 << 24  # a tensor takes about 150 bytes
_MAX_INT = 1 << 48
_MAX_RANK = 32


@dataclasses.dataclass(frozen=True)
class Storage:
    """Elements `start` to `start + count` of the `total` elements stored under `key`."""

    key: str
    dtype: str
    total: int
    start: int
    count: int


@dataclasses.dataclass(frozen=True)
class TensorRecord:
    """A tensor's place in its storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass
class BuiltLater:
    """An empty tensor or parameter of the oldest files, until its BUILD opcode fills `record`."""

    record: TensorRecord | None = None


@dataclasses.dataclass(frozen=True)
class _Global:
    """A name from the allow-list."""

    name: str


def read_pickle(stream: Any, path: pathlib.Path) -> tuple[Any, dict[str, tuple[str, int]]]:
    """Reads one pickle and leaves the stream behind it.

    Args:
        stream: has read, readline and tell, and holds its bytes in memory (BytesIO or mmap), so
            that a lying length cannot ask for more memory than the file's.
        path: the file that error messages name.

    Returns:
        The value, of dicts, lists, tuples, strings, numbers, None, `TensorRecord` and `BuiltLater`;
        and, for every storage named in the pickle, key -> (dtype, total elements).

    Raises:
        UserError: damaged, or names something outside the allow-list.
    """
    interpreter = _Interpreter(path)
    try:
        return interpreter.run(stream), interpreter.storages
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: damaged pickle ({error}); fetch the file again") from error


class _Interpreter:
    """A pickle machine with a stack, a stack of marks and a memo, and no access to any module."""

    def __init__(self, path: pathlib.Path):
        self.storages: dict[str, tuple[str, int]] = {}
        self._path = path
        self._stack: list[Any] = []
        self._below_marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: Any) -> Any:
        start = stream.tell()
        for opcode, argument, _ in pickletools.genops(stream):
            if stream.tell() - start > _MAX_PICKLE_BYTES:
                raise ValueError("longer than any state dict")
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        return self._stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _CONTAINERS:
            self._stack.append(_CONTAINERS[name]())
        elif name == "MARK":
            self._below_marks.append(self._stack)
            self._stack = []
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            if argument not in self._memo:
                raise ValueError("a reference to nothing")
            self._stack.append(self._memo[argument])
        elif name == "GLOBAL":
            self._stack.append(self._global(*argument.split(" ", 1)))
        elif name in _OPERANDS:
            self._apply(name, self._pop(_OPERANDS[name]))
        elif name not in ("PROTO", "FRAME"):
            raise UserError(
                f"{self._path}: the pickle opcode {name} is not one of a state dict's; {RESAVE}"
            )

    def _pop(self, count: int | None) -> list[Any]:
        """The uppermost `count` values, lowest first; those above the last mark for None."""
        if count is None:
            values, self._stack = self._stack, self._below_marks.pop()
            return values
        if len(self._stack) < count:
            raise ValueError("stack underflow")
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _apply(self, name: str, operands: list[Any]) -> None:
        match name:
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._stack.append(tuple(operands))
            case "SETITEM" | "SETITEMS":
                _set_items(self._stack[-1], operands)
            case "APPEND" | "APPENDS":
                _expect(self._stack[-1], list, "list").extend(operands)
            case "STACK_GLOBAL":
                self._stack.append(self._global(*operands))
            case "REDUCE" | "NEWOBJ":
                self._stack.append(_call(*operands))
            case "BUILD":
                _build(self._stack[-1], operands[0])
            case "BINPERSID":
                self._stack.append(self._storage(operands[0]))

    def _global(self, module: Any, attribute: Any) -> _Global:
        name = f"{_expect(module, str, 'a module name')}.{_expect(attribute, str, 'a name')}"
        if name not in _ALLOWED:
            raise UserError(
                f"{self._path}: asks to run {name!r}, which no dictionary of tensors needs; nothing"
                f" was run. If you trust the file, {RESAVE}"
            )
        return _Global(name)

    def _storage(self, saved: Any) -> Storage:
        """From ("storage", type, key, device, elements[, None or (key, first, elements)])."""
        if len(_expect(saved, tuple, "storage's name")) not in (5, 6) or saved[0] != "storage":
            raise ValueError("unknown kind of storage")
        dtype = _STORAGES.get(_expect(saved[1], _Global, "storage type").name)
        if dtype is None:
            raise ValueError("unknown type of storage")
        key = _expect(saved[2], str, "storage's key")
        total = _count(saved[4])
        if self.storages.setdefault(key, (dtype, total)) != (dtype, total):
            raise ValueError("one storage with two sizes or types")
        start, count = 0, total
        if len(saved) == 6 and saved[5] is not None:
            if len(_expect(saved[5], tuple, "view")) != 3:
                raise ValueError("unknown kind of view")
            _, start, count = saved[5]
            if _count(start) + _count(count) > total:
                raise ValueError("a view outside its storage")
        return Storage(key, dtype, total, start, count)


def _expect(value: Any, kind: type, what: str) -> Any:
    if type(value) is not kind:
        raise ValueError(f"no {what} where one belongs")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MAX_INT:
        raise ValueError("a size or offset out of range")
    return value


def _set_items(target: Any, items: list[Any]) -> None:
    _expect(target, dict, "dict")
    if len(items) % 2:
        raise ValueError("a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, int):
            raise ValueError("a key that is neither a string nor an integer")
        target[key] = value


def _call(function: Any, arguments: Any) -> Any:
    """The value that an allowed name makes of its arguments."""
    name = _expect(function, _Global, "allowed name").name
    _expect(arguments, tuple, "arguments")
    if name == _ORDERED_DICT:
        return _ordered_dict(arguments)
    if name in _BUILT_LATER and not arguments:
        return BuiltLater()
    if name == _SIZE and len(arguments) == 1:
        return _expect(arguments[0], tuple, "shape")
    if name == _REBUILD_PARAMETER and len(arguments) == 3:
        return _expect(arguments[0], TensorRecord, "tensor")
    if name == _REBUILD_TENSOR and len(arguments) == 4:
        return _tensor(arguments)
    # storage, offset, shape, strides, requires_grad, hooks[, {"conj": bool, "neg": bool}]
    if name == _REBUILD_TENSOR_V2 and len(arguments) in (6, 7) and not any(arguments[6:]):
        return _tensor(arguments[:4])
    raise ValueError(f"{name} with unknown arguments")


def _ordered_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """An OrderedDict: empty, to be filled by opcodes, or of Python 2's list of [key, value].

    The list is emptied, so that a file cannot multiply its size by naming one list many times.
    """
    result: dict[Any, Any] = {}
    if arguments:
        (pairs,) = arguments
        for pair in _expect(pairs, list, "list of items"):
            _set_items(result, _expect(pair, list, "item"))
        pairs.clear()
    return result


def _build(target: Any, state: Any) -> None:
    """Fills a `BuiltLater`; the state of an OrderedDict (its modules' versions) is not needed."""
    if type(target) is dict:
        return
    _expect(target, BuiltLater, "object to fill")
    match state:
        case (TensorRecord() as data, _, _, _, _):
            target.record = data
        case (BuiltLater(record=TensorRecord() as data), _, _, _, _):
            target.record = data
        case (Storage(), _, _, _):
            target.record = _tensor(state)
        case _:
            raise ValueError("unknown fields of a tensor")


def _tensor(fields: tuple[Any, ...]) -> TensorRecord:
    storage, offset, shape, strides = fields
    _expect(storage, Storage, "storage")
    _expect(shape, tuple, "shape")
    _expect(strides, tuple, "strides")
    if len(shape) != len(strides) or len(shape) > _MAX_RANK:
        raise ValueError("shape and strides do not fit")
    last = _count(offset) + sum(
        (_count(n) - 1) * _count(s) for n, s in zip(shape, strides, strict=True)
    )
    if 0 not in shape and last >= storage.count:
        raise ValueError("a tensor outside its storage")
    return TensorRecord(storage, offset, shape, strides)
