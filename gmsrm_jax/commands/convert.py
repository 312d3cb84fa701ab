"""`gmsrm convert`: weights made elsewhere, to this project's files."""

import argparse

from gmsrm_jax.commands import Subparsers
from gmsrm_jax.foreign.inception import PUBLISHED_FILE, convert_inception
from gmsrm_jax.foreign.lpips import ALEX, BACKBONE_FILES, HEAD_FILES, VGG, convert_lpips
from gmsrm_jax.foreign.vgg19 import CONVOLUTIONS, convert_vgg19


def add_parser(subparsers: Subparsers) -> None:
    """Adds `convert` and what it can convert."""
    convert = subparsers.add_parser("convert", help="convert weights made elsewhere")
    kinds = convert.add_subparsers(dest="kind", required=True, metavar="KIND")
    _add_vgg19(kinds)
    _add_lpips(kinds)
    _add_inception(kinds)


def _add_vgg19(kinds: Subparsers) -> None:
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
    _add_output(vgg19)
    vgg19.add_argument(
        "--last-layer",
        default="conv5_1",
        choices=list(CONVOLUTIONS),
        metavar="LAYER",
        help="the last convolution to keep (default: %(default)s)",
    )
    vgg19.set_defaults(run=_convert_vgg19)


def _add_lpips(kinds: Subparsers) -> None:
    urls = [file[net].url for net in (VGG, ALEX) for file in (BACKBONE_FILES, HEAD_FILES)]
    lpips = kinds.add_parser(
        "lpips",
        help="VGG-16 or AlexNet with LPIPS's linear heads",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Converts the two files of an LPIPS network, which are known by their SHA-256.\n"
            "Nothing inside them is executed. They are, first for vgg, then for alex:\n"
            + "\n".join(urls)
        ),
    )
    lpips.add_argument("--net", required=True, choices=(VGG, ALEX), help="the backbone")
    lpips.add_argument(
        "--backbone", required=True, metavar="FILE", help="torchvision's .pth to read"
    )
    lpips.add_argument(
        "--heads", required=True, metavar="FILE", help="LPIPS's .pth of version 0.1 to read"
    )
    _add_output(lpips)
    _add_any_file(lpips)
    lpips.set_defaults(run=_convert_lpips)


def _add_inception(kinds: Subparsers) -> None:
    inception = kinds.add_parser(
        "inception",
        help="Inception-v3 for FID, P-IDS and U-IDS",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Converts FID's Inception-v3, which is known by its SHA-256. Nothing inside the file\n"
            f"is executed. It is (96 MB):\n{PUBLISHED_FILE.url}"
        ),
    )
    inception.add_argument("--input", required=True, metavar="FILE", help="the .pth to read")
    _add_output(inception)
    _add_any_file(inception)
    inception.set_defaults(run=_convert_inception)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, metavar="FILE", help="the .npz to write")


def _add_any_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--any-file",
        action="store_true",
        help="accept files with another SHA-256; the figures are then not those of the definition",
    )


def _convert_vgg19(args: argparse.Namespace) -> None:
    """Converts VGG-19 and says what was written."""
    print(convert_vgg19(args.input, args.output, args.last_layer))


def _convert_lpips(args: argparse.Namespace) -> None:
    """Converts LPIPS's networks and says what was written."""
    print(convert_lpips(args.net, args.backbone, args.heads, args.output, args.any_file))


def _convert_inception(args: argparse.Namespace) -> None:
    """Converts FID's Inception and says what was written."""
    print(convert_inception(args.input, args.output, args.any_file))
