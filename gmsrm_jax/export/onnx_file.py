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
from gmsrm_jax.export.onnx_graph import BATCH, Graph, Value, is_open, shape_of
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

    def info(name: str, atom: Any) -> onnx.ValueInfoProto:
        dims = [str(dim) if is_open([dim]) else int(dim) for dim in shape_of(atom)]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "gmsrm",
            [info(name, atom) for name, atom in zip(program.names, jaxpr.invars, strict=True)],
            [info(OUTPUT, jaxpr.outvars[0])],
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
