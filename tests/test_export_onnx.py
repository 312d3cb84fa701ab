"""ONNX files: the same fillings in onnxruntime as in JAX, for every network there is."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from exported_networks import SIZE, tiny_network
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from small_networks import applied, compiled, inputs, normal

from gmsrm_jax.export import onnx_file
from gmsrm_jax.export.onnx_file import to_onnx
from gmsrm_jax.export.program import Program, fill_program
from gmsrm_jax.methods.gm_srm.network import build_network
from gmsrm_jax.nn.layers import fir_upsample
from gmsrm_jax.runtime.errors import UserError


def session(data: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def run(data: bytes, names: tuple[str, ...], arrays: list[np.ndarray]) -> np.ndarray:
    return session(data).run(None, dict(zip(names, arrays, strict=True)))[0]


def composite_by_hand(network: Any, image: Any, mask: Any, noise: Any) -> np.ndarray:
    """The network's raw output in the hole, the image elsewhere."""
    params = network.variables["network"]["params"]
    raw = applied(build_network(network.config), params, image, mask, noise).image
    return np.where(mask > 0, np.asarray(raw), image)


@pytest.mark.parametrize("variant", ["base", "gm_bm", "gm_csv", "gm_srm"])
@pytest.mark.parametrize("code_source", ["encoder", "mapping"])
def test_every_network(variant: str, code_source: str) -> None:
    network = tiny_network(variant, code_source)
    program = fill_program(network)
    data = to_onnx(program, None, {"weights_sha256": network.sha256})
    image, mask, noise = inputs(3)
    expected = composite_by_hand(network, image, mask, noise)
    arrays = [image, mask, *noise][: len(program.names)]
    assert len(arrays) == (2 if variant == "base" else 9)
    for rows in (slice(0, 1), slice(1, 3)):
        filled = run(data, program.names, [array[rows] for array in arrays])
        np.testing.assert_allclose(filled, expected[rows], atol=1e-4)
        known = np.broadcast_to(mask[rows] == 0, filled.shape)
        np.testing.assert_array_equal(filled[known], image[rows][known])
    assert np.abs(expected - image).max() > 0.5
    model = onnx.load_from_string(data)
    assert {p.key: p.value for p in model.metadata_props} == {"weights_sha256": network.sha256}


def test_the_noise_is_an_input() -> None:
    network = tiny_network()
    program = fill_program(network)
    assert program.names == (
        *("image", "mask", "noise_4", "noise_8_0", "noise_8_1"),
        *("noise_16_0", "noise_16_1", "noise_32_0", "noise_32_1"),
    )
    run_time = session(to_onnx(program, None, {}))

    def filled(*arrays: np.ndarray) -> np.ndarray:
        return run_time.run(None, dict(zip(program.names, arrays, strict=True)))[0]

    image, mask, noise = inputs(1)
    first = filled(image, mask, *noise)
    for index, name in enumerate(program.names[2:]):
        other = [0 * map_ if k == index else map_ for k, map_ in enumerate(noise)]
        assert np.abs(filled(image, mask, *other) - first).max() > 1e-3, name


def test_interface() -> None:
    program = fill_program(tiny_network())
    shapes = {4: (4, 4, 1), 8: (8, 8, 1), 16: (16, 16, 1)}
    for batch, size in ((None, "n"), (2, 2)):
        run_time = session(to_onnx(program, batch, {}))
        found = {node.name: tuple(node.shape) for node in run_time.get_inputs()}
        assert list(found) == list(program.names)
        assert found["image"] == (size, SIZE, SIZE, 3)
        assert found["mask"] == (size, SIZE, SIZE, 1)
        assert found["noise_8_1"] == (size, *shapes[8])
        (output,) = run_time.get_outputs()
        assert (output.name, tuple(output.shape)) == ("filled", (size, SIZE, SIZE, 3))


def test_what_depends_on_weights_alone_is_stored() -> None:
    network = tiny_network()
    model = onnx.load_from_string(to_onnx(fill_program(network), None, {}))
    stored = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(network.variables))
    assert stored < 1.5 * weights
    assert {node.op_type for node in model.graph.node}.isdisjoint({"Range", "Abs", "And"})


OPERATIONS: dict[str, tuple[Callable[..., jax.Array], tuple[int, ...]]] = {
    "strides": (
        lambda x: jax.lax.conv_general_dilated(
            x,
            normal(5, 3, 3, 2, 4),
            (2, 1),
            [(1, 0), (2, 1)],
            rhs_dilation=(1, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ),
        (6, 7, 2),
    ),
    "groups and layouts": (
        lambda x: jax.lax.conv_general_dilated(
            x,
            normal(5, 6, 2, 3, 2),
            (1, 1),
            "VALID",
            dimension_numbers=("NWHC", "OWHI", "CNHW"),
            feature_group_count=2,
        ),
        (6, 7, 4),
    ),
    "matrix on the left": (lambda x: jnp.einsum("kh,nhwc->knwc", normal(5, 3, 6), x), (6, 5, 2)),
    "matrix on the right": (lambda x: jnp.einsum("nhwc,kw->nhck", x, normal(5, 3, 5)), (6, 5, 2)),
    "matrices of each example": (
        lambda x: jnp.einsum("nkc,nqc->nqk", x[:, :3], x) @ x[:, :3],
        (5, 4),
    ),
    "two tensors": (lambda x: jnp.tensordot(x, normal(5, 2, 3), 1) + x[..., :1], (5, 2)),
    "padding": (lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 3)), constant_values=7.0), (4, 5)),
    "slices": (lambda x: jax.lax.slice_in_dim(x, 1, 6, 2, 1), (7, 2)),
    "one of an axis": (lambda x: x[:, 2] * 2, (4, 3)),
    "from the end": (lambda x: x[:, -1], (4, 3)),
    "a block": (lambda x: x[:, 1:3, 2], (4, 3)),
    "sums": (lambda x: x.sum((1, 3)) + x.mean((1, 2, 3))[:, None], (3, 4, 5)),
    "stack": (lambda x: jnp.stack([x, x * x, 1 - x], 2).reshape(x.shape[0], -1), (3, 4)),
    "shapes": (lambda x: x.reshape(x.shape[0], 2, 3, 4).transpose(0, 3, 1, 2), (6, 4)),
    "repeat": (lambda x: jnp.tile(normal(5, 1, 3), (x.shape[0], 2)) + x, (6,)),
    "spread": (lambda x: jnp.broadcast_to(x[:, :, None], (x.shape[0], 4, 5)), (4,)),
    "constants": (lambda x: jnp.concatenate([x, jnp.full((x.shape[0], 2), 3.0)], 1), (4,)),
    "choice": (lambda x: jnp.where(x >= 0.2, jnp.exp(x), jnp.minimum(x / 3, -0.5)), (9,)),
    "curves": (lambda x: jnp.tanh(x) + jax.nn.sigmoid(x) + jax.lax.rsqrt(x * x + 1), (9,)),
    "powers": (lambda x: jnp.where(x > 0.1, jnp.abs(x) ** 0.8, jnp.expm1(-x)), (9,)),
    "less": (lambda x: jnp.where(x < 0.2, x, -x), (9,)),
    "roots": (lambda x: jnp.sqrt(x * x + 1), (9,)),
    "clip": (lambda x: jnp.clip(x, -0.5, 0.5) + jax.nn.relu(x), (9,)),
    "types": (lambda x: (x >= 0).astype(jnp.float32) * 2, (9,)),
    "comparisons": (
        lambda x: jnp.where((x > 0) & ((x >= 0.5) == (x > -1.0)), jnp.abs(x), 7.0 * x),
        (9,),
    ),
    "mirror": (lambda x: jnp.pad(x, [(0, 0), (2, 1), (0, 0)], mode="reflect"), (4, 3)),
    "largest": (lambda x: x.max((1, 3)) + x.max(), (3, 4, 5)),
    "loop": (
        lambda x: (
            jax.lax.while_loop(
                lambda carry: carry[0].max() > carry[1],
                lambda carry: (
                    carry[0] * 0.5 + jnp.ones_like(x) * normal(4, 5)[0],
                    carry[1] + 0.125,
                ),
                (jnp.abs(x) * 8.0, jnp.float32(0.25)),
            )[0]
            + x
        ),
        (4, 5),
    ),
    "loop that does not begin": (
        lambda x: jax.lax.while_loop(lambda y: y.max() > 1e9, lambda y: y + x, x) * 2.0,
        (4,),
    ),
    "no gradient": (lambda x: jax.lax.stop_gradient(x) * x, (9,)),
    "own gradient": (fir_upsample, (4, 4, 2)),
    "resize": (lambda x: jax.image.resize(x, (x.shape[0], 8, 6, 2), "bilinear"), (4, 3, 2)),
}


@pytest.mark.parametrize("name", list(OPERATIONS))
@pytest.mark.parametrize("batch", [None, 3])
def test_operations(name: str, batch: int | None) -> None:
    function, shape = OPERATIONS[name]
    x = normal(1, 3, *shape)
    expected = np.asarray(compiled(function)(x))
    filled = run(to_onnx(Program(function, ("image",), (shape,)), batch, {}), ("image",), [x])
    assert filled.shape == expected.shape
    np.testing.assert_allclose(filled, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: jnp.sort(x, 1), "operation sort, which the ONNX writer does not know"),
        (lambda x: jnp.einsum("nab,nab->n", x, x), "products of matrices only"),
        (lambda x: jax.lax.pad(x, 0.0, [(0, 0, 0), (0, 0, 1), (0, 0, 0)]), "at the edges only"),
        (
            lambda x: jax.lax.conv_transpose(
                x,
                np.ones((3, 4, 4), np.float32),
                (2,),
                "SAME",
                dimension_numbers=("NHC", "HIO", "NHC"),
            ),
            "no transposed convolution",
        ),
    ],
)
def test_what_cannot_be_written_is_named(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        to_onnx(Program(function, ("image",), ((4, 4),)), 2, {})


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="more than 2 GB"):
        to_onnx(fill_program(tiny_network("base")), None, {})


def test_a_fixed_batch_refuses_others() -> None:
    program = fill_program(tiny_network("base"))
    data = to_onnx(program, 1, {})
    image, mask, _ = inputs(2)
    assert run(data, program.names, [image[:1], mask[:1]]).shape == (1, SIZE, SIZE, 3)
    with pytest.raises(InvalidArgument, match="Got: 2 Expected: 1"):
        run(data, program.names, [image, mask])
