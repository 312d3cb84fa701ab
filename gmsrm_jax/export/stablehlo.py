"""The network as StableHLO, by jax.export: one file for CPU, CUDA and TPU."""

import jax
import numpy as np
from jax import export

from gmsrm_jax.export.program import Program, abstract_inputs

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(program: Program, batch: int | None) -> bytes:
    """The serialized program, weights included.

    Args:
        program: to export.
        batch: pictures at once; None leaves it open.
    """
    symbol = export.symbolic_shape("n")[0] if batch is None else batch
    jitted = jax.jit(program.function)
    exported = export.export(jitted, platforms=PLATFORMS)(*abstract_inputs(program, symbol))
    return bytes(exported.serialize())


def run_stablehlo(data: bytes, inputs: list[np.ndarray]) -> np.ndarray:
    """Runs a serialized program on this machine's default device."""
    return np.asarray(export.deserialize(bytearray(data)).call(*inputs))
