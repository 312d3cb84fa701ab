"""`gmsrm export`: a trained network as a folder for others, StableHLO, ONNX.

Writes a trained network as a folder: config.json, model.safetensors, SHA256SUMS and README.md (the
model card). The folder is written whole or not at all. Graph files take image, mask and noise, and
give the filled picture; each is compared with the network on photographs first.
"""

import argparse

from gmsrm_jax.commands import Subparsers, add_command
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import user_path

_MAX_BATCH = 4096  # pictures, that a file's comparison with the network can hold


def add_parser(subparsers: Subparsers) -> None:
    """Adds `export`."""
    add = add_command(subparsers, "export", __doc__, run).add_argument
    add(
        "--checkpoint",
        required=True,
        metavar="NAME|DIR",
        help="a workdir of a training, an exported folder, a name, org/name of the Hub",
    )
    add("--output", required=True, metavar="DIR", help="the folder to write")
    add(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="of the stored weights; float16 halves the size (default: %(default)s)",
    )
    add("--stablehlo", action="store_true", help="also model.stablehlo, for JAX on any device")
    add("--onnx", action="store_true", help="also model.onnx; needs the extra `export`")
    add(
        "--batch",
        type=int,
        metavar="N",
        help="pictures that the graph files take at once (default: any number)",
    )
    add(
        "--fact",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="for the card: data, data_licence, licence, code, steps, hardware, time, limits, table"
        " (Markdown, scores) or notes (Markdown, on the training, under a heading of their own);"
        " TEXT is @FILE to take a file's text; what is not known is called unknown, but notes are"
        " left out",
    )
    add("--overwrite", action="store_true", help="replace an exported folder")
    add("--offline", action="store_true", help="use what was fetched before, not the net")


def run(args: argparse.Namespace) -> None:
    """Exports what the options say."""
    from gmsrm_jax.export.graphs import check_packages, make_graphs, rounding_note
    from gmsrm_jax.networks import load_pretrained, save_pretrained
    from gmsrm_jax.networks.card import checked_facts
    from gmsrm_jax.networks.folder import check_target, rounded
    from gmsrm_jax.runtime.jax_setup import set_up_jax

    output = user_path(args.output, "--output")
    check_target(output, args.overwrite)
    facts = checked_facts(dict(_fact(text) for text in args.fact))
    if args.batch is not None and not 1 <= args.batch <= _MAX_BATCH:
        raise UserError(f"--batch {args.batch}: use 1 to {_MAX_BATCH}")
    if args.batch is not None and not (args.onnx or args.stablehlo):
        raise UserError("--batch is of the graph files; add --onnx or --stablehlo")
    if args.onnx:
        check_packages()
    set_up_jax("default")
    network = load_pretrained(args.checkpoint, args.offline)
    stored = rounded(network, args.dtype)
    notes: list[str] = []
    files: dict[str, bytes] = {}
    if args.dtype != "float32":
        notes.append(rounding_note(network, stored))
        print(notes[0])
    if args.stablehlo or args.onnx:
        files, about = make_graphs(stored, args.stablehlo, args.onnx, args.batch, print)
        notes += about
    save_pretrained(output, stored, args.dtype, facts, args.overwrite, files, notes)
    print(f"{output}: {network.source}, weights SHA-256 {stored.sha256}")


def _fact(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--fact {text!r}: write NAME=TEXT")
    if not value.startswith("@"):
        return name, value
    try:
        return name, user_path(value[1:], f"--fact {text!r}").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--fact {text!r}: {value[1:]} cannot be read ({error})") from error
