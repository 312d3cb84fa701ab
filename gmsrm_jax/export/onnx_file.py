"""The network as ONNX: its jaxpr, equation by equation, as nodes of a graph.

Following the jaxpr, the graph is of the model as it is written, with no second description of it to
keep in step. Whatever depends on weights alone is computed here and stored as a constant, so that
interpolation matrices, scaled kernels and the like cost nothing later.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
from jax import export
from jax.extend import core
from onnx import TensorProto, helper

import gmsrm_jax
from gmsrm_jax.export.onnx_graph import BATCH, Graph, Value, is_open, shape_of, tensor_info
from gmsrm_jax.export.onnx_operators import OPERATORS
from gmsrm_jax.export.program import OUTPUT, Program, abstract_inputs
from gmsrm_jax.runtime.errors import UserError

OPSET, _IR_VERSION = 17, 8
# A protocol buffer ends at 2 GiB.
MAX_BYTES = 2_000_000_000


def to_onnx(program: Program, batch: int | None, properties: dict[str, str]) -> bytes:
    """The serialized model, checked by onnx.

    Args:
        program: to write; its arrays stay NHWC at the interface.
        batch: pictures at once; None leaves it open.
        properties: texts to keep in the model.

    Raises:
        UserError: the model has an operation that has no ONNX form here, or more than 2 GB.
    """
    size = export.symbolic_shape(BATCH)[0] if batch is None else batch
    arguments = abstract_inputs(program, size)
    closed = jax.jit(program.function).trace(*arguments).jaxpr
    graph, jaxpr = Graph(), closed.jaxpr
    consts = [np.asarray(const) for const in closed.consts]
    (result,) = _walk(graph, jaxpr, consts, list(program.names))
    graph.nodes.append(helper.make_node("Identity", [graph.name(result)], [OUTPUT], OUTPUT))
    if sum(len(tensor.raw_data) for tensor in graph.constants.values()) > MAX_BYTES:
        raise UserError("the network has more than 2 GB of weights, which no ONNX file holds")

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "gmsrm",
            [tensor_info(n, atom) for n, atom in zip(program.names, jaxpr.invars, strict=True)],
            [tensor_info(OUTPUT, jaxpr.outvars[0])],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="gmsrm-jax",
        producer_version=gmsrm_jax.__version__,
    )
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def run_onnx(data: bytes, program: Program, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Runs a serialized model on the CPU; inputs in the order of the program's arguments."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], dict(zip(program.names, inputs, strict=True)))[0]


def _walk(
    graph: Graph, jaxpr: core.Jaxpr, consts: Sequence[Value], inputs: Sequence[Value]
) -> list[Value]:
    """Follows the equations of a jaxpr and returns its outputs."""
    values: dict[Any, Value] = dict(zip(jaxpr.constvars, consts, strict=True))
    values |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Value:
        if isinstance(atom, core.Literal):
            aval: Any = atom.aval
            return np.asarray(atom.val, aval.dtype)
        return values[atom]

    for equation in jaxpr.eqns:
        results = _equation(graph, equation, [read(atom) for atom in equation.invars])
        values |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    name, params = equation.primitive.name, equation.params
    if name == "while":
        return _loop(graph, equation, inputs)
    inner = params.get("jaxpr", params.get("call_jaxpr"))
    if inner is not None:
        if isinstance(inner, core.ClosedJaxpr):
            consts = [np.asarray(const) for const in inner.consts]
            return _walk(graph, inner.jaxpr, consts, inputs)
        return _walk(graph, inner, [], inputs)
    known = [value for value in inputs if not isinstance(value, str)]
    if len(known) == len(inputs) and not is_open(shape_of(equation.outvars[0])):
        results = equation.primitive.bind(*known, **params)
        several = equation.primitive.multiple_results
        return [np.asarray(result) for result in (results if several else [results])]
    if name not in OPERATORS:
        raise UserError(
            f"the network has the operation {name}, which the ONNX writer does not know; "
            "use --stablehlo"
        )
    return [OPERATORS[name](graph, equation, inputs)]


def _loop(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    """A loop; its body is a graph within the graph, whose tensors it sees."""
    params, carries = equation.params, equation.outvars
    of_condition, of_body = params["cond_nconsts"], params["body_nconsts"]
    begin = of_condition + of_body

    def walked(part: str, given: Sequence[Value]) -> list[Value]:
        closed = params[part]
        return _walk(graph, closed.jaxpr, [np.asarray(const) for const in closed.consts], given)

    def goes_on(values: Sequence[Value]) -> Value:
        (condition,) = walked("cond_jaxpr", [*inputs[:of_condition], *values])
        return condition

    def infos(names: Sequence[str], atoms: Sequence[Any]) -> list[onnx.ValueInfoProto]:
        return [tensor_info(name, atom) for name, atom in zip(names, atoms, strict=True)]

    first, before = goes_on(inputs[begin:]), [graph.new("carried") for _ in carries]
    with graph.inside() as nodes:
        moved = walked("body_jaxpr", [*inputs[of_condition:begin], *before])
        after = [graph.add("Identity", value) for value in (goes_on(moved), *moved)]
    count, condition = graph.new("count"), graph.new("condition")
    body = helper.make_graph(
        nodes,
        graph.new("body"),
        [
            helper.make_tensor_value_info(count, TensorProto.INT64, ()),
            helper.make_tensor_value_info(condition, TensorProto.BOOL, ()),
            *infos(before, carries),
        ],
        [
            helper.make_tensor_value_info(after[0], TensorProto.BOOL, ()),
            *infos(after[1:], carries),
        ],
    )
    results = [graph.new("Loop") for _ in carries]
    given = [graph.name(value) for value in (first, *inputs[begin:])]
    graph.nodes.append(helper.make_node("Loop", ["", *given], results, body=body))
    return list(results)
