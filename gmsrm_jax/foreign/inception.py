"""FID's Inception-v3 in this project's file format, and the conversion of the published file.

The network of 2015-12-05 with which FID is defined (Heusel et al., arXiv 1706.08500) exists as a
PyTorch file of the project pytorch-fid, whose layers have torchvision's names. Every convolution
there is followed by batch normalisation with epsilon 0.001 and fixed statistics; both together are
one convolution with a bias, which is what a converted file (see `converted`) holds:
"Mixed_5b.branch1x1/kernel" [kh, kw, I, O], "Mixed_5b.branch1x1/bias" [O]. The classifier is left
out.
"""

import dataclasses
import os
import pathlib

import numpy as np

from gmsrm_jax.foreign.converted import (
    Format,
    Params,
    PublishedFile,
    checked_array,
    output_path,
    published_sha256,
    read_converted,
    write_converted,
)
from gmsrm_jax.foreign.torch_files import read_torch_state_dict
from gmsrm_jax.runtime.errors import UserError

PUBLISHED_FILE = PublishedFile(
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
CONVERT_COMMAND = f"gmsrm convert inception --input {PUBLISHED_FILE.name} --output {{output}}"

_FORMAT = Format("gmsrm-inception-1", "Inception", "network", ("inception-2015-12-05",))
_EPSILON = 0.001


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution's channels and its kernel's height and width."""

    inputs: int
    outputs: int
    kernel: tuple[int, int]


def _chain(name: str, inputs: int, *layers: tuple[str, int, int, int]) -> dict[str, Convolution]:
    """Convolutions one behind the other, each (suffix, outputs, kernel height, kernel width)."""
    table = {}
    for suffix, outputs, height, width in layers:
        table[name + suffix] = Convolution(inputs, outputs, (height, width))
        inputs = outputs
    return table


def _block_a(inputs: int, pooled: int) -> dict[str, Convolution]:
    return {
        **_chain("branch1x1", inputs, ("", 64, 1, 1)),
        **_chain("branch5x5", inputs, ("_1", 48, 1, 1), ("_2", 64, 5, 5)),
        **_chain("branch3x3dbl", inputs, ("_1", 64, 1, 1), ("_2", 96, 3, 3), ("_3", 96, 3, 3)),
        **_chain("branch_pool", inputs, ("", pooled, 1, 1)),
    }


def _block_b(inputs: int) -> dict[str, Convolution]:
    return {
        **_chain("branch3x3", inputs, ("", 384, 3, 3)),
        **_chain("branch3x3dbl", inputs, ("_1", 64, 1, 1), ("_2", 96, 3, 3), ("_3", 96, 3, 3)),
    }


def _block_c(inputs: int, c: int) -> dict[str, Convolution]:
    return {
        **_chain("branch1x1", inputs, ("", 192, 1, 1)),
        **_chain("branch7x7", inputs, ("_1", c, 1, 1), ("_2", c, 1, 7), ("_3", 192, 7, 1)),
        **_chain(
            "branch7x7dbl",
            inputs,
            *(("_1", c, 1, 1), ("_2", c, 7, 1), ("_3", c, 1, 7), ("_4", c, 7, 1)),
            ("_5", 192, 1, 7),
        ),
        **_chain("branch_pool", inputs, ("", 192, 1, 1)),
    }


def _block_d(inputs: int) -> dict[str, Convolution]:
    return {
        **_chain("branch3x3", inputs, ("_1", 192, 1, 1), ("_2", 320, 3, 3)),
        **_chain(
            "branch7x7x3",
            inputs,
            *(("_1", 192, 1, 1), ("_2", 192, 1, 7), ("_3", 192, 7, 1), ("_4", 192, 3, 3)),
        ),
    }


def _block_e(inputs: int) -> dict[str, Convolution]:
    """The branches "3x3" and "3x3dbl" end in two convolutions beside each other."""
    table = {
        **_chain("branch1x1", inputs, ("", 320, 1, 1)),
        **_chain("branch3x3", inputs, ("_1", 384, 1, 1)),
        **_chain("branch3x3dbl", inputs, ("_1", 448, 1, 1), ("_2", 384, 3, 3)),
        **_chain("branch_pool", inputs, ("", 192, 1, 1)),
    }
    for name in ("branch3x3_2", "branch3x3dbl_3"):
        table |= _chain(name, 384, ("a", 384, 1, 3)) | _chain(name, 384, ("b", 384, 3, 1))
    return table


def _convolutions() -> dict[str, Convolution]:
    table = {
        **_chain(
            "Conv2d_",
            3,
            *(("1a_3x3", 32, 3, 3), ("2a_3x3", 32, 3, 3), ("2b_3x3", 64, 3, 3)),
            *(("3b_1x1", 80, 1, 1), ("4a_3x3", 192, 3, 3)),
        )
    }
    blocks = {
        "Mixed_5b": _block_a(192, 32),
        "Mixed_5c": _block_a(256, 64),
        "Mixed_5d": _block_a(288, 64),
        "Mixed_6a": _block_b(288),
        "Mixed_6b": _block_c(768, 128),
        "Mixed_6c": _block_c(768, 160),
        "Mixed_6d": _block_c(768, 160),
        "Mixed_6e": _block_c(768, 192),
        "Mixed_7a": _block_d(768),
        "Mixed_7b": _block_e(1280),
        "Mixed_7c": _block_e(2048),
    }
    for block, layers in blocks.items():
        table |= {f"{block}.{name}": layer for name, layer in layers.items()}
    return table


CONVOLUTIONS = _convolutions()


def convert_inception(
    source: str | os.PathLike[str], output: str | os.PathLike[str], any_file: bool = False
) -> str:
    """Converts FID's published Inception weights to this project's .npz.

    Args:
        source: pytorch-fid's pt_inception-2015-12-05-6726825d.pth.
        output: the .npz to write; its folder is made if missing.
        any_file: accept another file than the published one, if its arrays fit.

    Returns:
        One line that says what was written.

    Raises:
        UserError: a file cannot be read or written, is not the published one, or does not fit.
    """
    source, output = pathlib.Path(source), output_path(output)
    sources = {
        "source_file": source.name,
        "source_sha256": published_sha256(source, PUBLISHED_FILE, any_file, "--input"),
    }
    state = read_torch_state_dict(source)
    params = {name: _folded(state, name, source) for name in CONVOLUTIONS}
    digest = write_converted(output, _FORMAT, _FORMAT.variants[0], params, sources)
    return (
        f"wrote {output}: {len(params)} convolutions of FID's Inception, SHA-256 of the contents"
        f" {digest}"
    )


def read_inception(path: str | os.PathLike[str]) -> Params:
    """Reads a converted file and verifies its SHA-256.

    Returns:
        {"Mixed_5b.branch1x1": {"kernel": float32 [kh, kw, I, O], "bias": float32 [O]}, ...}.

    Raises:
        UserError: missing, damaged, or not a converted file.
    """
    return read_converted(path, _FORMAT, CONVERT_COMMAND.format(output=path))[0]


def _folded(state: dict[str, np.ndarray], name: str, path: pathlib.Path) -> dict[str, np.ndarray]:
    """A convolution and the batch normalisation behind it as one convolution, in float64."""
    layer = CONVOLUTIONS[name]

    def entry(suffix: str, *shape: int) -> np.ndarray:
        array = state.get(f"{name}.{suffix}")
        if array is None:
            raise UserError(
                f"{path}: no {name}.{suffix} in it, so it is not FID's Inception; it has"
                f" {', '.join(list(state)[:3])}, ..."
            )
        if array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        cure = f"give pytorch-fid's {PUBLISHED_FILE.name}"
        return checked_array(array, shape, f"{name}.{suffix}", path, cure).astype(np.float64)

    kernel = entry("conv.weight", *layer.kernel, layer.inputs, layer.outputs)
    gain, offset, mean, variance = (
        entry(f"bn.{kind}", layer.outputs)
        for kind in ("weight", "bias", "running_mean", "running_var")
    )
    if (variance < 0).any():
        raise UserError(f"{path}: {name}.bn.running_var is negative; fetch it again")
    scale = gain / np.sqrt(variance + _EPSILON)
    return {
        "kernel": (kernel * scale).astype(np.float32),
        "bias": (offset - mean * scale).astype(np.float32),
    }
