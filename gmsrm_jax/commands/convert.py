"""`gmsrm convert`: weights made elsewhere, to this project's files."""

import argparse

from gmsrm_jax.commands import Subparsers
from gmsrm_jax.foreign.convert import convert
from gmsrm_jax.foreign.networks import NETWORKS, VGG19

_ANY_FILE = "accept files with another SHA-256; the figures are then not those of the definition"


def add_parser(subparsers: Subparsers) -> None:
    """Adds `convert` and what it can convert."""
    parser = subparsers.add_parser("convert", help="convert weights made elsewhere")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    vgg19 = _add(kinds, "vgg19", "VGG-19 for the perceptual loss", ("vgg19",))
    vgg19.add_argument(
        "--last-layer",
        default="conv5_1",
        choices=list(VGG19),
        metavar="LAYER",
        help="the last convolution to keep (default: %(default)s)",
    )
    # Retrained ones are welcome: it is a loss, not a measure.
    vgg19.set_defaults(any_file=True)
    lpips = _add(
        kinds,
        "lpips",
        "VGG-16 or AlexNet with LPIPS's linear heads",
        ("lpips_vgg", "lpips_alex"),
        "The first two make vgg, the others alex.",
    )
    lpips.add_argument("--net", required=True, choices=("vgg", "alex"), help="the backbone")
    inception = _add(kinds, "inception", "Inception-v3 for FID, P-IDS and U-IDS", ("inception",))
    for measure in (lpips, inception):
        measure.add_argument("--any-file", action="store_true", help=_ANY_FILE)


def _add(
    kinds: Subparsers, kind: str, about: str, names: tuple[str, ...], further: str = ""
) -> argparse.ArgumentParser:
    """One kind of network, whose files are those of the table."""
    urls = [part.file.url for name in names for part in NETWORKS[name].parts]
    lines = (
        f"{about}: converts the files that are published at",
        *urls,
        "Nothing inside them is executed. They take torch: pip install 'gmsrm-jax[convert]'.",
        further,
    )
    parser: argparse.ArgumentParser = kinds.add_parser(
        kind,
        help=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="\n".join(lines),
    )
    for parts in zip(*(NETWORKS[name].parts for name in names), strict=True):
        files = " or ".join(part.file.name for part in parts)
        parser.add_argument(parts[0].option, required=True, metavar="FILE", help=files)
    parser.add_argument("--output", required=True, metavar="FILE", help="*.safetensors to write")
    parser.set_defaults(run=_convert, net="", last_layer="")
    return parser


def _convert(args: argparse.Namespace) -> None:
    """Converts a network and says what was written."""
    name = f"{args.kind}_{args.net}" if args.net else args.kind
    options = [part.option.removeprefix("--") for part in NETWORKS[name].parts]
    inputs = [getattr(args, option) for option in options]
    said = convert(name, inputs, args.output, any_file=args.any_file, last_layer=args.last_layer)
    print(said)
