"""An ONNX graph that is being written: its nodes, its constants, the open size of its batch."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from gmsrm_jax.runtime.errors import UserError

# The name of the open size.
BATCH = "n"

# A value is an array that is known here, or the name of a tensor that the graph computes.
Value = np.ndarray | str


class Graph:
    """Nodes and constants of an ONNX graph that is being written."""

    def __init__(self) -> None:
        """Begins an empty graph."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._names: dict[str, str] = {}
        self._batch: str | None = None
        self._count = 0

    def name(self, value: Value) -> str:
        """The name of a tensor; an array becomes a constant, once."""
        if isinstance(value, str):
            return value
        digest = hashlib.sha256(f"{value.dtype} {value.shape} ".encode())
        digest.update(value.tobytes())
        key = digest.hexdigest()
        if key not in self._names:
            self._names[key] = f"constant_{len(self.constants)}"
            tensor = numpy_helper.from_array(np.asarray(value, order="C"), self._names[key])
            self.constants[self._names[key]] = tensor
        return self._names[key]

    def add(self, op: str, *inputs: Value, **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        output = self.new(op)
        names = [self.name(value) for value in inputs]
        self.nodes.append(helper.make_node(op, names, [output], output, **attributes))
        return output

    def new(self, word: str) -> str:
        """A name that no other tensor has."""
        self._count += 1
        return f"{word}_{self._count - 1}"

    @contextlib.contextmanager
    def inside(self) -> Iterator[list[onnx.NodeProto]]:
        """Nodes that are added meanwhile make a graph of their own, within this one."""
        around, batch = self.nodes, self._batch
        self.nodes = []
        try:
            yield self.nodes
        finally:
            # What stands inside has no name outside.
            self.nodes, self._batch = around, batch

    def sizes(self, dims: Sequence[Any]) -> Value:
        """A tensor of sizes; an open one is that of the batch."""
        parts: list[Value] = []
        for dim in dims:
            if isinstance(dim, int | np.integer):
                parts.append(np.array([dim], np.int64))
            elif str(dim) == BATCH:
                parts.append(self._batch_size())
            else:
                raise UserError(f"the ONNX writer cannot express the size {dim}; use --batch 1")
        if any(isinstance(part, str) for part in parts):
            return self.add("Concat", *parts, axis=0)
        return np.array(dims, np.int64)

    def _batch_size(self) -> str:
        if self._batch is None:
            self._batch = self.add("Shape", "image", start=0, end=1)
        return self._batch


def shape_of(atom: Any) -> tuple[Any, ...]:
    """The shape of a variable or literal of a jaxpr; sizes may be open."""
    return atom.aval.shape


def is_open(dims: Sequence[Any]) -> bool:
    """Whether a shape has a size that is known only when the graph runs."""
    return any(not isinstance(dim, int | np.integer) for dim in dims)


def tensor_info(name: str, atom: Any) -> onnx.ValueInfoProto:
    """Name, format and shape of a variable of a jaxpr."""
    dims = [str(dim) if is_open([dim]) else int(dim) for dim in shape_of(atom)]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(atom.aval.dtype))
    return helper.make_tensor_value_info(name, kind, dims)
