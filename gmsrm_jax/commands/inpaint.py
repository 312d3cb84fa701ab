"""`gmsrm inpaint`: fill the holes of a picture or of a folder of pictures.

Fills the holes of pictures of any size and kind. White in the mask is the hole. Every pixel outside
it stays as it is. Folders are read with their subfolders; the mask of NAME is named NAME or
NAME_mask, in a folder of its own or beside it. What became of each picture of a folder is added to
manifest.jsonl. --shard I/N fills one of N shares, by the pictures' names, with a manifest of its
own; the same command with --join N in its place puts the manifests of all shares together.

Exit status: 0 all pictures are done; 1 some could not be filled, which are named, or no picture had
a hole; 2 an error before anything was begun, or of weights or manifest that none could go on with;
130 after Ctrl-C. What is finished is kept.
"""

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gmsrm_jax.commands import Subparsers, add_command
from gmsrm_jax.commands.options import (
    add_network,
    add_section,
    add_shares,
    load_inpainter,
    section_of,
    share_of,
    try_folder,
    writing,
)
from gmsrm_jax.data.bad_pictures import named, printable
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import real_path, user_path
from gmsrm_jax.runtime.shares import Join, Share

if TYPE_CHECKING:
    from gmsrm_jax.inference.bulk import BulkFiller
    from gmsrm_jax.inference.manifest import Manifest
    from gmsrm_jax.inference.pairing import Job
    from gmsrm_jax.runtime.log import Progress

_WARNINGS_SHOWN = 20


def add_parser(subparsers: Subparsers) -> None:
    """Adds `inpaint`."""
    parser = add_command(subparsers, "inpaint", __doc__, run)
    _add_files(parser)
    add_network(parser)
    add_section(parser, FillOptions)
    _add_writing(parser)
    add_shares(parser)


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", "--image", required=True, metavar="FILE|DIR", help="what to fill")
    masks = parser.add_mutually_exclusive_group(required=True)
    masks.add_argument(
        "-m", "--mask", metavar="FILE|DIR", help="one mask for all, or one for each picture"
    )
    masks.add_argument(
        "--mask-from-alpha", action="store_true", help="the hole is where a picture is transparent"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE|DIR",
        help="NAME.png of a single picture, or a folder; several fillings of a hole are"
        " NAME_s00.png, NAME_s01.png, …",
    )


def _add_writing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
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
    parser.add_argument(
        "--manifest",
        metavar="FILE",
        help="what became of each picture (default: of a folder's, manifest.jsonl beside the"
        " outputs; of a single one, none)",
    )


def run(args: argparse.Namespace) -> int:
    """Fills what the options say; returns the exit status."""
    from gmsrm_jax.inference.manifest import Manifest
    from gmsrm_jax.inference.pairing import existing_outputs, find_pairs, plan_outputs
    from gmsrm_jax.inference.shares import jobs_of, manifest_of
    from gmsrm_jax.runtime.log import Progress, open_text_log, say

    started = time.monotonic()
    options = section_of(args, FillOptions)
    open_text_log(None)
    images, output = user_path(args.image, "--image"), user_path(args.output, "--output")
    masks = None if args.mask is None else user_path(args.mask, "--mask")
    pairs = find_pairs(images, masks)
    plan = plan_outputs(pairs, images, output, options.num_samples, args.format == "same")
    jobs, share = plan.jobs, share_of(args)
    path = plan.folder / "manifest.jsonl" if images.is_dir() or share else None
    if args.manifest is not None:
        path = user_path(args.manifest, "--manifest")
    if path and real_path(path) in {real_path(file) for job in jobs for file in job.outputs}:
        raise UserError(f"--manifest={path}: is an output, too; name another file")
    if path and isinstance(share, Join):
        return _join(path, share.count, jobs)
    if path and isinstance(share, Share):
        jobs, path = jobs_of(jobs, share), manifest_of(path, share)
        say(f"share {share}: {len(jobs)} of {count_of(len(plan.jobs), 'picture')}")
    there = existing_outputs(jobs)
    if there and not (args.overwrite or args.skip_existing):
        raise UserError(
            f"outputs exist already: {named(there)}; pass --overwrite to replace them, or "
            "--skip-existing to do only what is missing"
        )
    present = set(there) if args.skip_existing else set()
    todo = [job for job in jobs if not present.issuperset(job.outputs)]
    skipped = [job for job in jobs if present.issuperset(job.outputs)]
    told = f"; manifest {printable(str(path))}" if path else ""
    with writing(plan.folder, "--output"):
        try_folder(plan.folder)
    inpainter = load_inpainter(args) if todo else None
    with contextlib.closing(Manifest(path)) if path else contextlib.nullcontext() as manifest:
        if manifest is not None:
            _append_skipped(manifest, skipped)
        if inpainter is None:
            say(f"nothing to do, all is there: {count_of(len(skipped), 'output')}{told}")
            return 0
        say(
            f"{len(todo)} to fill, {len(skipped)} skipped; {printable(inpainter.source)}, sha256 "
            f"{inpainter.sha256[:16]}, on {inpainter.device} ({inpainter.device_kind})"
        )
        from gmsrm_jax.inference.bulk import BulkFiller  # imports JAX

        # Of a single picture, which may take a while, the bar shows the share that is done.
        alone = len(todo) == 1
        steps, unit = (100, "%") if alone else (len(todo), "images")
        progress = Progress("inpaint", 0, steps, 1, unit=unit)
        filler = BulkFiller(
            inpainter,
            manifest,
            options,
            keep_format=args.format == "same",
            keep_outputs=args.skip_existing,
            progress=(lambda done, total: progress.update(int(99 * done / total), ""))
            if alone
            else None,
        )
        failed, copied = _fill(filler, todo, progress, manifest is not None)
    seconds, filled = time.monotonic() - started, len(todo) - failed - copied
    done = _counts(filled, copied, failed, len(skipped))
    say(f"{done} in {seconds:.1f} s on {inpainter.device}{told}")
    # In a share it is chance whether any picture has a hole.
    return 1 if failed or (share is None and not filled and not skipped) else 0


def _join(path: Path, count: int, jobs: "Sequence[Job]") -> int:
    """Joins the manifests of shares; returns the exit status that a single run would have."""
    from gmsrm_jax.inference.shares import join_manifests
    from gmsrm_jax.runtime.log import say

    with writing(path, "--manifest"):
        found = join_manifests(path, count, jobs)
    done = _counts(*(found[status] for status in ("ok", "copied", "failed", "skipped")))
    say(f"{done} in {count_of(count, 'share')}; manifest {printable(str(path))}")
    return 1 if found["failed"] or not found["ok"] + found["skipped"] else 0


def _counts(filled: int, copied: int, failed: int, skipped: int) -> str:
    unfilled = f"{copied} copied (no hole), " if copied else ""
    return f"{filled} filled, {unfilled}{failed} failed, {skipped} skipped"


def _append_skipped(manifest: "Manifest", jobs: "Sequence[Job]") -> None:
    for job in jobs:
        manifest.append(
            status="skipped",
            image=str(job.pair.image),
            mask=str(job.pair.mask) if job.pair.mask else None,
            outputs=[{"path": str(file)} for file in job.outputs],
        )


def _fill(
    filler: "BulkFiller", jobs: "Sequence[Job]", progress: "Progress", listed: bool
) -> tuple[int, int]:
    """Fills pictures and says what is wrong with which.

    Args:
        filler: fills.
        jobs: what.
        progress: is told how far it is.
        listed: whether there is a manifest, which says the rest.

    Returns:
        How many failed, and how many had no hole.
    """
    from gmsrm_jax.runtime.log import say

    warned: set[str] = set()
    failed = copied = encoded = 0
    try:
        with contextlib.closing(filler.fill(jobs)) as stream:
            for number, done in enumerate(stream, 1):
                if done.error is not None:
                    failed += 1
                    say(f"failed: {printable(done.error)}")
                copied += done.copied
                encoded += not done.known_pixels_kept
                for warning in [*done.warnings, *(() if listed else done.notes)]:
                    if warning not in warned and len(warned) < _WARNINGS_SHOWN:
                        say(f"warning: {printable(warning)}")
                    warned.add(warning)
                if len(jobs) > 1:
                    progress.update(number, f"{failed} failed" if failed else "")
                else:
                    progress.complete()
    finally:
        progress.close()
    if len(warned) > _WARNINGS_SHOWN:
        where = "; they stand in the manifest" if listed else ""
        say(f"{count_of(len(warned) - _WARNINGS_SHOWN, 'more warning')}{where}")
    if encoded and listed:
        say(f"{encoded} with known pixels encoded anew, see known_pixels in the manifest")
    return failed, copied
