"""LPIPS's networks in this project's file format, and the conversion of the published files.

LPIPS (Zhang et al., arXiv 1801.03924) compares the activations of a network trained on ImageNet,
here torchvision's VGG-16 or AlexNet, with one non-negative weight for each channel, the linear
heads of version 0.1. A converted file (see `converted`) has "conv1_1/kernel" [3, 3, I, O] and
"conv1_1/bias" [O] (AlexNet: "conv1/kernel") and so on, and "lin0/kernel" [1, 1, C, 1] to
"lin4/kernel"; its variant is the network.
"""

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
from gmsrm_jax.foreign.vgg19 import Convolution, vgg_convolutions
from gmsrm_jax.runtime.errors import UserError

VGG = "vgg"
ALEX = "alex"
BACKBONES: dict[str, dict[str, Convolution]] = {
    # Table 1, column D of arXiv 1409.1556.
    VGG: vgg_convolutions(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))),
    # torchvision's AlexNet is that of "One weird trick" (Krizhevsky, arXiv 1404.5997).
    ALEX: {
        "conv1": Convolution(0, 3, 64, size=11),
        "conv2": Convolution(3, 64, 192, size=5),
        "conv3": Convolution(6, 192, 384),
        "conv4": Convolution(8, 384, 256),
        "conv5": Convolution(10, 256, 256),
    },
}
# The channels of the five activations that are compared.
HEADS = {VGG: (64, 128, 256, 512, 512), ALEX: (64, 192, 384, 256, 256)}

_TORCHVISION = "https://download.pytorch.org/models/"
_HEADS_FOLDER = (
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity"
    "/082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights/v0.1/"
)
BACKBONE_FILES = {
    VGG: PublishedFile(
        "vgg16-397923af.pth",
        _TORCHVISION + "vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    ALEX: PublishedFile(
        "alexnet-owt-7be5be79.pth",
        _TORCHVISION + "alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
}
HEAD_FILES = {
    VGG: PublishedFile(
        "vgg.pth",
        _HEADS_FOLDER + "vgg.pth",
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    ),
    ALEX: PublishedFile(
        "alex.pth",
        _HEADS_FOLDER + "alex.pth",
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    ),
}
_FORMAT = Format("gmsrm-lpips-1", "LPIPS", "net", (VGG, ALEX))


def convert_command(net: str, output: str | os.PathLike[str]) -> str:
    """The command that makes `output` of the two published files of a network."""
    return (
        f"gmsrm convert lpips --net {net} --backbone {BACKBONE_FILES[net].name}"
        f" --heads {HEAD_FILES[net].name} --output {output}"
    )


def convert_lpips(
    net: str,
    backbone: str | os.PathLike[str],
    heads: str | os.PathLike[str],
    output: str | os.PathLike[str],
    any_file: bool = False,
) -> str:
    """Converts a published backbone and its linear heads to one .npz of this project.

    Args:
        net: "vgg" or "alex".
        backbone: torchvision's vgg16-397923af.pth or alexnet-owt-7be5be79.pth.
        heads: LPIPS's vgg.pth or alex.pth of version 0.1.
        output: the .npz to write; its folder is made if missing.
        any_file: accept other files than the published ones, if the arrays fit.

    Returns:
        One line that says what was written.

    Raises:
        UserError: a file cannot be read or written, is not the published one, or does not fit.
    """
    backbone, heads, output = pathlib.Path(backbone), pathlib.Path(heads), output_path(output)
    sources = {
        "backbone_file": backbone.name,
        "backbone_sha256": published_sha256(backbone, BACKBONE_FILES[net], any_file, "--backbone"),
        "heads_file": heads.name,
        "heads_sha256": published_sha256(heads, HEAD_FILES[net], any_file, "--heads"),
    }
    params = _backbone(net, backbone) | _heads(net, heads)
    digest = write_converted(output, _FORMAT, net, params, sources)
    return (
        f"wrote {output}: LPIPS 0.1 with {len(BACKBONES[net])} convolutions of {net} and"
        f" {len(HEADS[net])} heads, SHA-256 of the contents {digest}"
    )


def read_lpips(path: str | os.PathLike[str], net: str) -> Params:
    """Reads a converted file and verifies its SHA-256.

    Returns:
        {"conv1_1": {"kernel": float32 [3, 3, I, O], "bias": float32 [O]}, ...,
        "lin0": {"kernel": float32 [1, 1, C, 1]}, ...}.

    Raises:
        UserError: missing, damaged, not a converted file, or of the other network.
    """
    command = convert_command(net, path)
    params, found = read_converted(path, _FORMAT, command)
    if found != net:
        raise UserError(f"{path}: LPIPS weights of {found}, not {net}; name another or {command}")
    return params


def _backbone(net: str, path: pathlib.Path) -> Params:
    state = read_torch_state_dict(path)
    params: Params = {}
    for name, layer in BACKBONES[net].items():
        prefix = f"features.{layer.torchvision_index}"
        weight = _entry(state, f"{prefix}.weight", 4, net, path)
        bias = _entry(state, f"{prefix}.bias", 1, net, path)
        shape = (layer.size, layer.size, layer.inputs, layer.outputs)
        cure = f"give torchvision's {BACKBONE_FILES[net].name}"
        params[name] = {
            "kernel": checked_array(weight.transpose(2, 3, 1, 0), shape, prefix, path, cure),
            "bias": checked_array(bias, (layer.outputs,), prefix, path, cure),
        }
    return params


def _heads(net: str, path: pathlib.Path) -> Params:
    state = read_torch_state_dict(path)
    params: Params = {}
    for i, channels in enumerate(HEADS[net]):
        name = f"lin{i}.model.1.weight"
        weight = _entry(state, name, 4, net, path).transpose(2, 3, 1, 0)
        cure = f"give LPIPS's {HEAD_FILES[net].name} of version 0.1"
        kernel = checked_array(weight, (1, 1, channels, 1), name, path, cure)
        params[f"lin{i}"] = {"kernel": kernel}
    return params


def _entry(
    state: dict[str, np.ndarray], name: str, rank: int, net: str, path: pathlib.Path
) -> np.ndarray:
    array = state.get(name)
    if array is None or array.ndim != rank:
        raise UserError(
            f"{path}: no {name} of rank {rank} in it, so it is not of LPIPS's {net}; it has"
            f" {', '.join(list(state)[:3])}, ..."
        )
    return array
