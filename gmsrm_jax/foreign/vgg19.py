"""VGG-19's convolutions in this project's file format, and the conversion of the published ones.

A converted file (see `converted`) has "conv1_1/kernel" [3, 3, I, O], "conv1_1/bias" [O] and so on;
its variant is the normalisation that the weights were trained with.

The layers are those of Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale
Image Recognition" (arXiv 1409.1556), table 1, column E.
"""

import collections.abc
import dataclasses
import os
import pathlib
import re

import numpy as np

from gmsrm_jax.foreign.converted import (
    Format,
    Params,
    checked_array,
    given_sha256,
    output_path,
    read_converted,
    read_npz,
    write_converted,
)
from gmsrm_jax.foreign.torch_files import read_torch_state_dict
from gmsrm_jax.runtime.errors import UserError

TORCHVISION = "torchvision"
CAFFE = "caffe"
CONVERT_COMMAND = "gmsrm convert vgg19 --input vgg19-dcbb9e9d.pth --output {output}"

_FORMAT = Format("gmsrm-vgg19-1", "VGG-19", "normalisation", (TORCHVISION, CAFFE))
_BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))  # convolutions, channels
_NUMPY_NAME = re.compile(
    r"(?:.*/)?(?:block|conv)(\d)_(?:conv)?(\d)[/_](?:(kernel|W)|bias|b)(?:_1)?(?::0)?"
)


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution: its index in torchvision's `features`, its channels and its kernel's side."""

    torchvision_index: int
    inputs: int
    outputs: int
    size: int = 3


def vgg_convolutions(
    blocks: collections.abc.Sequence[tuple[int, int]],
) -> dict[str, Convolution]:
    """The convolutions "conv1_1", ... of a VGG network with (convolutions, channels) per block."""
    table = {}
    index, inputs = 0, 3
    for block, (count, outputs) in enumerate(blocks, start=1):
        for i in range(1, count + 1):
            table[f"conv{block}_{i}"] = Convolution(index, inputs, outputs)
            index += 2  # the ReLU behind it
            inputs = outputs
        index += 1  # the pooling behind the block
    return table


CONVOLUTIONS = vgg_convolutions(_BLOCKS)


def needed_layers(
    taps: collections.abc.Iterable[str],
    table: collections.abc.Mapping[str, Convolution] = CONVOLUTIONS,
) -> tuple[str, ...]:
    """The convolutions "conv1_1" and poolings "pool1", in order, that must run for some taps.

    Args:
        taps: activations behind a ReLU such as "relu3_1", or behind a pooling, "pool2".
        table: the network's convolutions.

    Raises:
        UserError: no tap, or one that the network does not have.
    """
    taps, layers = list(taps), list[str]()
    for name in table:
        if name.endswith("_1") and layers:
            layers.append(f"pool{int(name[4]) - 1}")
        layers.append(name)
    layers.append(f"pool{layers[-1][4]}")
    tapped = ["conv" + tap[4:] if tap.startswith("relu") else tap for tap in taps]
    for tap, layer in zip(taps, tapped, strict=True):
        if tap.startswith("conv") or layer not in layers:
            raise UserError(
                f"VGG-{len(table) + 3} has no layer {tap!r}; name relu1_1, relu1_2, ..."
                f" relu{layers[-2][4:]}, or pool1, ... {layers[-1]}"
            )
    if not taps:
        raise UserError("no VGG layers are named; name for instance relu1_1, relu2_1, relu3_1")
    return tuple(layers[: 1 + max(layers.index(layer) for layer in tapped)])


def needed_convolutions(
    taps: collections.abc.Iterable[str],
    table: collections.abc.Mapping[str, Convolution] = CONVOLUTIONS,
) -> tuple[str, ...]:
    """Those of `needed_layers` that have weights."""
    return tuple(name for name in needed_layers(taps, table) if name.startswith("conv"))


def convert_vgg19(
    source: str | os.PathLike[str], output: str | os.PathLike[str], last_layer: str = "conv5_1"
) -> str:
    """Converts published VGG-19 weights to this project's .npz.

    Args:
        source: torchvision's vgg19-*.pth (RGB in [0, 1], ImageNet mean and deviation); or an .npz
            of the original Caffe weights (BGR 0..255 minus the mean) named as here or as in Keras
            ("block1_conv1/kernel", "block1_conv1_W_1:0"), kernels [3, 3, I, O]; or a file of this
            project, to shorten it.
        output: the .npz to write; its folder is made if missing.
        last_layer: the last convolution to keep.

    Returns:
        One line that says what was written.

    Raises:
        UserError: a file cannot be read or written, or is not VGG-19's.
    """
    source, output = pathlib.Path(source), output_path(output)
    if last_layer not in CONVOLUTIONS:
        raise UserError(f"last layer {last_layer!r}: name one of {', '.join(CONVOLUTIONS)}")
    names = needed_convolutions(["relu" + last_layer.removeprefix("conv")])
    digest = _source_sha256(source)
    if source.suffix in (".pth", ".pt"):
        params, normalisation = _from_torchvision(source), TORCHVISION
    elif source.suffix == ".npz":
        arrays = read_npz(source)
        if "metadata" in arrays:
            params, normalisation = read_vgg19(source)
        else:
            params, normalisation = _from_numpy(arrays, source), CAFFE
    else:
        raise UserError(f"{source}: give torchvision's .pth or an .npz, not {source.suffix!r}")
    params = _checked(params, names, source)
    sources = {"source_file": source.name, "source_sha256": digest}
    digest = write_converted(output, _FORMAT, normalisation, params, sources)
    return (
        f"wrote {output}: {len(names)} convolutions, conv1_1 to {last_layer}, normalisation"
        f" {normalisation}, SHA-256 of the contents {digest}"
    )


def read_vgg19(path: str | os.PathLike[str]) -> tuple[Params, str]:
    """Reads a converted file and verifies its SHA-256.

    Returns:
        {"conv1_1": {"kernel": float32 [3, 3, I, O], "bias": float32 [O]}, ...}, and the
        normalisation, "torchvision" or "caffe".

    Raises:
        UserError: missing, damaged, or not a converted file.
    """
    return read_converted(path, _FORMAT, CONVERT_COMMAND.format(output=path))


def _from_torchvision(path: pathlib.Path) -> Params:
    state = read_torch_state_dict(path)
    params: Params = {}
    for name, convolution in CONVOLUTIONS.items():
        prefix = f"features.{convolution.torchvision_index}"
        kernel, bias = state.get(f"{prefix}.weight"), state.get(f"{prefix}.bias")
        if kernel is not None and bias is not None and kernel.ndim == 4:
            params[name] = {"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias}
    return params


def _from_numpy(arrays: dict[str, np.ndarray], path: pathlib.Path) -> Params:
    params: Params = {}
    for key, array in arrays.items():
        match = _NUMPY_NAME.fullmatch(key)
        if match is None:
            continue
        layer = params.setdefault(f"conv{match[1]}_{match[2]}", {})
        kind = "kernel" if match[3] else "bias"
        if kind in layer:
            raise UserError(f"{path}: two arrays for one {kind}, the second is {key!r}; keep one")
        layer[kind] = array
    return params


def _checked(params: Params, names: tuple[str, ...], path: pathlib.Path) -> Params:
    """The named layers as float32, after a look at their shapes and values."""
    result: Params = {}
    for name in names:
        if set(params.get(name, ())) != {"kernel", "bias"}:
            have = ", ".join(n for n in CONVOLUTIONS if n in params) or "no VGG-19 layer"
            raise UserError(
                f"{path}: no {name} in it, only {have}; give another file or last layer"
            )
        shape = CONVOLUTIONS[name]
        expected = {"kernel": (3, 3, shape.inputs, shape.outputs), "bias": (shape.outputs,)}
        result[name] = {
            kind: checked_array(
                params[name][kind],
                expected[kind],
                f"{name} {kind}",
                path,
                "give VGG-19 without batch normalisation",
            )
            for kind in expected
        }
    return result


def _source_sha256(path: pathlib.Path) -> str:
    """A file's SHA-256, which must start with the eight digits in a name like NAME-dcbb9e9d.pth."""
    found = given_sha256(path, "--input")
    named = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if named and not found.startswith(named[1]):
        raise UserError(
            f"{path}: SHA-256 starts with {found[:8]}, not with the {named[1]} in its name, so the"
            " download is damaged; fetch it again"
        )
    return found
