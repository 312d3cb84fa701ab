"""`gmsrm inpaint`: fills the holes of a picture, or of a folder of them."""

import argparse
import contextlib
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gmsrm_jax.commands import Subparsers
from gmsrm_jax.data.bad_pictures import printable
from gmsrm_jax.data.fields import MAX_PIXELS
from gmsrm_jax.runtime.errors import UserError

if TYPE_CHECKING:
    from gmsrm_jax.inference.inpainter import Inpainter
    from gmsrm_jax.inference.manifest import Manifest
    from gmsrm_jax.inference.pairing import Job

_WARNINGS_SHOWN = 20


def add_parser(subparsers: Subparsers) -> None:
    """Adds `inpaint`."""
    parser = subparsers.add_parser(
        "inpaint",
        help="fill the holes of a picture or of a folder of pictures",
        description=(
            "Fills the holes of pictures of any size and kind. White in the mask is the hole. Every"
            " pixel outside it stays as it is. Folders are read with their subfolders; a picture"
            " and its mask have the same name but for the suffix. What became of each picture is"
            " added to manifest.jsonl."
        ),
        epilog=(
            "Exit status: 0 all pictures are done; 1 some could not be filled, which are named; 2"
            " an error before anything was begun, or of weights or manifest that none could go on"
            " with; 130 after Ctrl-C. What is finished is kept."
        ),
    )
    add = parser.add_argument
    add("-i", "--image", required=True, metavar="FILE|DIR", help="what to fill")
    masks = parser.add_mutually_exclusive_group(required=True)
    masks.add_argument(
        "-m", "--mask", metavar="FILE|DIR", help="one mask for all, or one for each picture"
    )
    masks.add_argument(
        "--mask-from-alpha", action="store_true", help="the hole is where a picture is transparent"
    )
    add(
        "-o",
        "--output",
        required=True,
        metavar="FILE|DIR",
        help="NAME.png of a single picture, or a folder",
    )
    add(
        "--checkpoint",
        metavar="NAME|DIR",
        help="weights: a name, an exported folder, the workdir of a training, an https:// address"
        " or org/name of the Hugging Face Hub (default: facades-128, bundled)",
    )
    add("--offline", action="store_true", help="download no weights")
    add("--device", default="auto", choices=["auto", "cpu", "gpu", "tpu"], help=_default("where"))
    add(
        "--num-samples",
        type=_number(1),
        default=1,
        metavar="N",
        help="fillings of each hole, NAME_s00.png, NAME_s01.png, … (default: %(default)s)",
    )
    add("--seed", type=_number(0), default=0, metavar="N", help=_default("of the first sample"))
    add(
        "--strategy",
        default="auto",
        choices=["auto", "resize", "crop", "tile"],
        help=_default("how a picture of any size is shown to the network"),
    )
    add(
        "--feather",
        type=_number(0),
        default=0,
        metavar="PX",
        help=_default("blends so many pixels inside the hole into their surroundings"),
    )
    add("--mask-invert", action="store_true", help="black is the hole")
    add(
        "--mask-threshold",
        type=_number(1, 255),
        default=128,
        metavar="GREY",
        help=_default("from which grey value on a pixel of a mask is white"),
    )
    add(
        "--mask-dilate",
        type=_number(0),
        default=0,
        metavar="PX",
        help=_default("grows the hole on every side"),
    )
    add(
        "--mask-resize",
        choices=["nearest"],
        help="fit masks of another size than the picture; without it they are refused",
    )
    add(
        "--format",
        default="png",
        choices=["png", "same"],
        help="same: the picture's own, of which JPEG cannot keep the pixels (default: %(default)s)",
    )
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    there.add_argument(
        "--skip-existing", action="store_true", help="leave outputs that exist, and do the others"
    )
    add(
        "--manifest",
        metavar="FILE",
        help="what became of each picture (default: manifest.jsonl beside the outputs)",
    )
    add(
        "--max-pixels",
        type=_number(1),
        default=MAX_PIXELS,
        metavar="N",
        help=_default("largest picture or mask that is read"),
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fills what the options say; returns the exit status."""
    from gmsrm_jax.inference.manifest import Manifest
    from gmsrm_jax.inference.pairing import existing_outputs, find_pairs, named, plan_outputs
    from gmsrm_jax.runtime.log import open_text_log, say

    started = time.monotonic()
    open_text_log(None)
    # Pillow's own words about odd files; what matters of them is said in ours.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    images, output = Path(args.image).expanduser(), Path(args.output).expanduser()
    pairs = find_pairs(images, Path(args.mask).expanduser() if args.mask else None)
    plan = plan_outputs(pairs, images, output, args.num_samples, args.format == "same")
    there = existing_outputs(plan.jobs)
    if there and not (args.overwrite or args.skip_existing):
        raise UserError(
            f"{len(there)} outputs exist already ({named(there)}); pass --overwrite to replace "
            "them, or --skip-existing to do only what is missing"
        )
    present = set(there) if args.skip_existing else set()
    todo = [job for job in plan.jobs if not present.issuperset(job.outputs)]
    skipped = [job for job in plan.jobs if present.issuperset(job.outputs)]
    path = Path(args.manifest).expanduser() if args.manifest else plan.folder / "manifest.jsonl"
    _check_writable(plan.folder)
    inpainter = _load(args) if todo else None
    with contextlib.closing(Manifest(path)) as manifest:
        for job in skipped:
            manifest.append(
                status="skipped",
                image=str(job.pair.image),
                mask=str(job.pair.mask) if job.pair.mask else None,
                outputs=[{"path": str(file)} for file in job.outputs],
            )
        if inpainter is None:
            say(f"nothing to do: all {len(skipped)} outputs exist; manifest {printable(str(path))}")
            return 0
        say(
            f"{len(todo)} to fill, {len(skipped)} skipped; {printable(inpainter.source)}, sha256 "
            f"{inpainter.sha256[:16]}, on {inpainter.device} ({inpainter.device_kind})"
        )
        failed = _fill(args, inpainter, manifest, todo)
    seconds = time.monotonic() - started
    say(
        f"{len(todo) - failed} filled, {failed} failed, {len(skipped)} skipped in {seconds:.1f} s "
        f"on {inpainter.device}; manifest {printable(str(path))}"
    )
    return 1 if failed else 0


def _fill(
    args: argparse.Namespace, inpainter: "Inpainter", manifest: "Manifest", jobs: "Sequence[Job]"
) -> int:
    """Fills pictures, says what is wrong with which, and returns how many failed."""
    from gmsrm_jax.inference.bulk import BulkFiller, Filling
    from gmsrm_jax.runtime.log import Progress, say

    filling = Filling(
        num_samples=args.num_samples,
        seed=args.seed,
        strategy=args.strategy,
        feather=args.feather,
        mask_invert=args.mask_invert,
        mask_threshold=args.mask_threshold,
        mask_dilate=args.mask_dilate,
        mask_resize=args.mask_resize,
        max_pixels=args.max_pixels,
        keep_format=args.format == "same",
        keep_outputs=args.skip_existing,
    )
    warned: set[str] = set()
    failed = encoded = 0
    progress = Progress("inpaint", 0, len(jobs), 1)
    try:
        with contextlib.closing(BulkFiller(inpainter, manifest, filling).fill(jobs)) as stream:
            for number, done in enumerate(stream, 1):
                if done.error is not None:
                    failed += 1
                    say(f"failed: {printable(done.error)}")
                encoded += not done.known_pixels_kept
                for warning in done.warnings:
                    if warning not in warned and len(warned) < _WARNINGS_SHOWN:
                        say(f"warning: {printable(warning)}")
                    warned.add(warning)
                if len(jobs) > 1:
                    progress.update(number, f"{failed} failed" if failed else "")
    finally:
        progress.close()
    if len(warned) > _WARNINGS_SHOWN:
        say(f"{len(warned) - _WARNINGS_SHOWN} more warnings; they stand in the manifest")
    if encoded:
        say(f"{encoded} with known pixels encoded anew, see known_pixels in the manifest")
    return failed


def _load(args: argparse.Namespace) -> "Inpainter":
    from gmsrm_jax.inference.inpainter import Inpainter
    from gmsrm_jax.runtime.jax_setup import set_up_jax

    set_up_jax("default", args.device)
    return Inpainter.from_pretrained(args.checkpoint, device=args.device, offline=args.offline)


def _check_writable(folder: Path) -> None:
    """Makes the output folder and writes to it, before the network is loaded."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"{printable(str(folder))}: cannot be written ({error.strerror}); change --output"
        ) from error


def _default(text: str) -> str:
    return f"{text} (default: %(default)s)"


def _number(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """Returns a parser of whole numbers in a range."""

    def parse(text: str) -> int:
        value = int(text) if text.isdecimal() else -1
        if value < lowest or (highest is not None and value > highest):
            to = "" if highest is None else f" to {highest}"
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {lowest}{to}")
        return value

    return parse
