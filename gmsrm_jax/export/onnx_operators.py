"""JAX primitives as ONNX nodes: those that the networks use, and no others.

Each function takes the graph, the equation and its inputs, and returns the output's tensor.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.extend import core
from onnx import helper

from gmsrm_jax.export.onnx_graph import Graph, Value, is_open, shape_of
from gmsrm_jax.runtime.errors import UserError

Operator = Callable[[Graph, core.JaxprEqn, list[Value]], Value]


def _elementwise(*ops: str) -> Operator:
    """Nodes one after the other, the first with all inputs; both sides broadcast alike."""

    def operator(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
        value = graph.add(ops[0], *inputs)
        for op in ops[1:]:
            value = graph.add(op, value)
        return value

    return operator


def _as_it_is(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    return inputs[0]


def _square(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    return graph.add("Mul", inputs[0], inputs[0])


def _expm1(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    return graph.add("Sub", graph.add("Exp", inputs[0]), np.ones((), np.float32))


def _select(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    which, if_false, if_true = inputs
    return graph.add("Where", which, if_true, if_false)


def _convert(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    atom: Any = equation.invars[0]
    source, target = atom.aval.dtype, equation.params["new_dtype"]
    if source == target:
        return inputs[0]
    return graph.add("Cast", inputs[0], to=helper.np_dtype_to_tensor_dtype(np.dtype(target)))


def _reshaped(graph: Graph, value: Value, shape: Any) -> Value:
    """The value in another shape, of which one size may be open."""
    sizes = [-1 if is_open([size]) else int(size) for size in shape]
    if sizes.count(-1) > 1:
        raise UserError("the ONNX writer cannot reshape to two open sizes; use --batch 1")
    return graph.add("Reshape", value, np.array(sizes, np.int64))


def _reshape(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    return _reshaped(graph, inputs[0], shape_of(equation.outvars[0]))


def _broadcast(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    """Axes of size 1 first, then what they are repeated to."""
    before = shape_of(equation.invars[0])
    after = shape_of(equation.outvars[0])
    aligned: list[Any] = [1] * len(after)
    for axis, size in zip(equation.params["broadcast_dimensions"], before, strict=True):
        aligned[axis] = size
    value = inputs[0]
    if isinstance(value, np.ndarray):
        value = value.reshape(aligned)
    elif len(before) != len(after):
        value = _reshaped(graph, value, aligned)
    repeated = [1 if str(old) == str(new) else new for old, new in zip(aligned, after, strict=True)]
    if all(str(size) == "1" for size in repeated):
        return value
    return graph.add("Expand", value, graph.sizes(repeated))


def _tile(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    return graph.add("Tile", inputs[0], graph.sizes(equation.params["reps"]))


def _transpose(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    return _permuted(graph, inputs[0], equation.params["permutation"])


def _permuted(graph: Graph, value: Value, order: Any) -> Value:
    if list(order) == sorted(order):
        return value
    if isinstance(value, np.ndarray):
        return value.transpose(order)
    return graph.add("Transpose", value, perm=[int(axis) for axis in order])


def _squeeze(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    return graph.add("Squeeze", inputs[0], np.array(equation.params["dimensions"], np.int64))


def _concatenate(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    return graph.add("Concat", *inputs, axis=equation.params["dimension"])


def _stack(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    axis = np.array([equation.params["axis"]], np.int64)
    parts = [graph.add("Unsqueeze", value, axis) for value in inputs]
    return graph.add("Concat", *parts, axis=int(axis[0]))


def _reduce_sum(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    axes = np.array(equation.params["axes"], np.int64)
    return graph.add("ReduceSum", inputs[0], axes, keepdims=0)


def _reduce_max(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    axes = [int(axis) for axis in equation.params["axes"]]
    return graph.add("ReduceMax", inputs[0], axes=axes, keepdims=0)


def _reversed(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    axes = np.array(equation.params["dimensions"], np.int64)
    last, before_first = np.full_like(axes, -1), np.full_like(axes, np.iinfo(np.int64).min)
    return graph.add("Slice", inputs[0], last, before_first, axes, np.full_like(axes, -1))


def _pad(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    low, high, between = zip(*equation.params["padding_config"], strict=True)
    if any(between) or min(low + high) < 0:
        raise UserError("the ONNX writer pads at the edges only; use --stablehlo")
    return graph.add("Pad", inputs[0], np.array(low + high, np.int64), inputs[1])


def _slice(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    """Cuts the axes that are not kept whole; an open one is kept whole."""
    params, shape = equation.params, shape_of(equation.invars[0])
    steps = params["strides"] or (1,) * len(shape)
    limits = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
    cuts = [
        (start, limit, step, axis)
        for axis, (start, limit, step) in enumerate(limits)
        if (str(start), str(limit), str(step)) != ("0", str(shape[axis]), "1")
    ]
    if not cuts:
        return inputs[0]
    starts, ends, strides, axes = (np.array(part, np.int64) for part in zip(*cuts, strict=True))
    return graph.add("Slice", inputs[0], starts, ends, axes, strides)


def _gather(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    """One block at a known place: what indexing such as x[:, k] becomes when the batch is open."""
    numbers, shape = equation.params["dimension_numbers"], shape_of(equation.invars[0])
    x, place = inputs
    if isinstance(place, str) or place.ndim != 1 or numbers.operand_batching_dims:
        raise UserError("the ONNX writer knows indexing at known places only; use --stablehlo")
    axes = [
        axis
        for axis, (cut, size) in enumerate(zip(equation.params["slice_sizes"], shape, strict=True))
        if str(cut) != str(size)
    ]
    begins = dict(zip(numbers.start_index_map, place.tolist(), strict=True))
    starts = np.array([begins.get(axis, 0) for axis in axes], np.int64)
    sizes = np.array([equation.params["slice_sizes"][axis] for axis in axes], np.int64)
    x = graph.add("Slice", x, starts, starts + sizes, np.array(axes, np.int64))
    return _reshaped(graph, x, shape_of(equation.outvars[0]))


def _conv(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    """Any layout, by way of NCHW and OIHW; runtimes take out transposes that undo each other."""
    params = equation.params
    if any(d != 1 for d in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise UserError("the ONNX writer has no transposed convolution; use --stablehlo")
    layout = params["dimension_numbers"]
    x = _permuted(graph, inputs[0], layout.lhs_spec)
    kernel = _permuted(graph, inputs[1], layout.rhs_spec)
    low, high = zip(*params["padding"], strict=True)
    y = graph.add(
        "Conv",
        x,
        kernel,
        strides=list(params["window_strides"]),
        dilations=list(params["rhs_dilation"]),
        pads=[int(pad) for pad in low + high],
        group=params["feature_group_count"],
    )
    return _permuted(graph, y, np.argsort(layout.out_spec).tolist())


def _dot(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> Value:
    """A product over one axis of each side: with a matrix, or of a matrix for each example."""
    (left_axes, right_axes), (left_batch, right_batch) = equation.params["dimension_numbers"]
    ranks = [len(shape_of(atom)) for atom in equation.invars]
    of_examples = left_batch and ranks == [len(left_batch) + 2] * 2
    if len(left_axes) != 1 or not (of_examples or (not left_batch and 2 in ranks)):
        raise UserError("the ONNX writer knows products of matrices only; use --stablehlo")
    left, right = inputs
    if of_examples:
        # [batch, m, k] times [batch, k, n].
        (rows,) = set(range(ranks[0])) - {*left_batch, *left_axes}
        (columns,) = set(range(ranks[1])) - {*right_batch, *right_axes}
        x = _permuted(graph, left, (*left_batch, rows, *left_axes))
        return graph.add("MatMul", x, _permuted(graph, right, (*right_batch, *right_axes, columns)))
    left_last = _moved(ranks[0], left_axes[0], ranks[0] - 1)
    if ranks[1] == 2:
        x = _permuted(graph, left, left_last)
        return graph.add("MatMul", x, _permuted(graph, right, (right_axes[0], 1 - right_axes[0])))
    # [k, m] with [..., k, ...] has m first: as [..., k] times [k, m], m comes last.
    x = _permuted(graph, right, _moved(ranks[1], right_axes[0], ranks[1] - 1))
    y = graph.add("MatMul", x, _permuted(graph, left, (left_axes[0], 1 - left_axes[0])))
    return _permuted(graph, y, _moved(ranks[1], ranks[1] - 1, 0))


def _moved(rank: int, source: int, target: int) -> list[int]:
    """The order of axes in which `source` comes to stand at `target`."""
    order = [axis for axis in range(rank) if axis != source]
    order.insert(target, source)
    return order


OPERATORS: dict[str, Operator] = {
    "add": _elementwise("Add"),
    "sub": _elementwise("Sub"),
    "mul": _elementwise("Mul"),
    "div": _elementwise("Div"),
    "max": _elementwise("Max"),
    "min": _elementwise("Min"),
    "ge": _elementwise("GreaterOrEqual"),
    "gt": _elementwise("Greater"),
    "eq": _elementwise("Equal"),
    "and": _elementwise("And"),
    "neg": _elementwise("Neg"),
    "pow": _elementwise("Pow"),
    "lt": _elementwise("Less"),
    "abs": _elementwise("Abs"),
    "exp": _elementwise("Exp"),
    "expm1": _expm1,
    "tanh": _elementwise("Tanh"),
    "atanh": _elementwise("Atanh"),
    "logistic": _elementwise("Sigmoid"),
    "sqrt": _elementwise("Sqrt"),
    "rsqrt": _elementwise("Sqrt", "Reciprocal"),
    "square": _square,
    "stop_gradient": _as_it_is,
    "select_n": _select,
    "convert_element_type": _convert,
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast,
    "tile": _tile,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "concatenate": _concatenate,
    "stack": _stack,
    "reduce_sum": _reduce_sum,
    "reduce_max": _reduce_max,
    "rev": _reversed,
    "pad": _pad,
    "slice": _slice,
    "gather": _gather,
    "conv_general_dilated": _conv,
    "dot_general": _dot,
}
