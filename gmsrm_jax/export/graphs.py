"""The graph files of an export, each made and then checked against the network."""

import importlib
from collections.abc import Callable

import jax
import numpy as np

from gmsrm_jax.export.parity import check_parity, photographs, run_network
from gmsrm_jax.export.program import fill_program
from gmsrm_jax.export.stablehlo import PLATFORMS, run_stablehlo, to_stablehlo
from gmsrm_jax.networks.card import ONNX_FILE, STABLEHLO_FILE
from gmsrm_jax.networks.folder import MODEL_FILE, Pretrained
from gmsrm_jax.runtime.errors import UserError


def check_packages() -> None:
    """Checks that ONNX files can be written and run.

    Raises:
        UserError: a package is missing.
    """
    for package in ("onnx", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise UserError(
                f"ONNX needs the package {package}: pip install 'gmsrm-jax[export]'"
            ) from error


def make_graphs(
    network: Pretrained, stablehlo: bool, onnx: bool, batch: int | None, say: Callable[[str], None]
) -> tuple[dict[str, bytes], list[str]]:
    """Makes graph files and compares each with the network on bundled photographs.

    Args:
        network: to write, with the weights as they are stored.
        stablehlo: make STABLEHLO_FILE.
        onnx: make ONNX_FILE.
        batch: pictures at once; None: any number.
        say: is told each note as it comes.

    Returns:
        Files by name, and a line about each for people.

    Raises:
        UserError: a graph fills otherwise than the network, or cannot be made.
    """
    program = fill_program(network)
    files: dict[str, bytes] = {}
    notes: list[str] = []
    inputs = photographs(program)
    expected = run_network(program, inputs)

    def keep(
        name: str, data: bytes, form: str, run: Callable[[list[np.ndarray]], np.ndarray]
    ) -> None:
        worst = check_parity(name, run, inputs, expected, batch)
        takes = "any number of pictures" if batch is None else f"{batch} at once"
        note = (
            f"`{name}`: {form}, {takes}; largest difference from the network on "
            f"{len(expected)} photographs, in [-1, 1]: {worst:.1e}"
        )
        files[name] = data
        notes.append(note)
        say(note)

    if stablehlo:
        data = to_stablehlo(program, batch)
        form = f"StableHLO by jax.export {jax.__version__} for {', '.join(PLATFORMS)}"
        keep(STABLEHLO_FILE, data, form, lambda arrays: run_stablehlo(data, arrays))
    if onnx:
        from gmsrm_jax.export.onnx_file import OPSET, run_onnx, to_onnx

        model = to_onnx(program, batch, {"weights_sha256": network.sha256})
        form = f"ONNX of opset {OPSET}"
        keep(ONNX_FILE, model, form, lambda arrays: run_onnx(model, program, arrays))
    return files, notes


def rounding_note(network: Pretrained, stored: Pretrained) -> str:
    """How much the stored weights' fillings differ from the network's own."""
    program = fill_program(network)
    inputs = photographs(program)
    fillings = [run_network(fill_program(n), inputs) for n in (network, stored)]
    worst = float(np.abs(fillings[0] - fillings[1]).max())
    return (
        f"`{MODEL_FILE}`: rounded weights; largest difference of fillings from those of float32 on "
        f"{len(inputs[0])} photographs, in [-1, 1]: {worst:.1e}"
    )
