"""`gmsrm convert`: weights made elsewhere, to this project's files."""

import argparse

from gmsrm_jax.commands import Subparsers
from gmsrm_jax.weights.vgg19 import CONVOLUTIONS, convert_vgg19


def add_parser(subparsers: Subparsers) -> None:
    """Adds `convert` and what it can convert."""
    convert = subparsers.add_parser("convert", help="convert weights made elsewhere")
    kinds = convert.add_subparsers(dest="kind", required=True, metavar="KIND")
    vgg19 = kinds.add_parser(
        "vgg19",
        help="VGG-19 for the perceptual loss",
        description=(
            "Converts VGG-19 for the perceptual loss: torchvision's vgg19-dcbb9e9d.pth"
            " (https://download.pytorch.org/models/vgg19-dcbb9e9d.pth, 575 MB), or the original"
            " Caffe weights as .npz. Nothing inside the file is executed."
        ),
    )
    vgg19.add_argument("--input", required=True, metavar="FILE", help="the .pth or .npz to read")
    vgg19.add_argument("--output", required=True, metavar="FILE", help="the .npz to write")
    vgg19.add_argument(
        "--last-layer",
        default="conv5_1",
        choices=list(CONVOLUTIONS),
        metavar="LAYER",
        help="the last convolution to keep (default: %(default)s)",
    )
    vgg19.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Converts and says what was written."""
    print(convert_vgg19(args.input, args.output, args.last_layer))
