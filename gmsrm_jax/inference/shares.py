"""Pictures filled in shares: each has a manifest of its own, and these are joined at the end."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gmsrm_jax.data.bad_pictures import printable
from gmsrm_jax.inference.manifest import Manifest
from gmsrm_jax.inference.pairing import Job, named
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import replacing
from gmsrm_jax.runtime.shares import Share


class _Line(NamedTuple):
    """Where the line about a picture stands, and its status."""

    path: Path
    start: int
    length: int
    status: str


def jobs_of(jobs: Sequence[Job], share: Share) -> list[Job]:
    """The pictures of a share, by their names alone: it stays the same when others come or go."""
    return [job for job in jobs if share.has_name(job.pair.stem)]


def manifest_of(path: Path, share: Share) -> Path:
    """The manifest of a share: manifest.3-of-8.jsonl beside manifest.jsonl."""
    return path.with_name(f"{path.stem}.{share.label}{path.suffix}")


def join_manifests(path: Path, count: int, jobs: Sequence[Job]) -> Counter[str]:
    """Adds to a manifest the lines of all shares, and removes the manifests of the shares.

    It gets the one line about each picture that counts, in the order of the pictures.

    Args:
        path: the manifest that a single run would write.
        count: number of shares.
        jobs: all pictures, in order.

    Returns:
        How many pictures there are of each status.

    Raises:
        UserError: a share is missing or not finished, one is there that does not belong, or holds
            pictures of another, or the manifest cannot be added to; nothing is changed then.
        OSError: the manifest cannot be written.
    """
    shares = [Share(index, count) for index in range(count)]
    parts = [manifest_of(path, share) for share in shares]
    _check_no_others(path, count, set(parts))
    images = [{str(job.pair.image): None for job in jobs_of(jobs, share)} for share in shares]
    lines: dict[str, _Line] = {}
    missing = []
    for share, part, own in zip(shares, parts, images, strict=True):
        found = _lines_of(part, share, own) if part.exists() else {}
        lines |= found
        lacking = [image for image in own if image not in found]
        if not part.exists():
            missing.append(f"share {share} is missing ({printable(str(part))})")
        elif lacking:
            missing.append(f"share {share} lacks {len(lacking)} pictures ({named(lacking)})")
    if missing:
        raise UserError(
            f"{'; '.join(missing)}: run it again with --shard and --skip-existing, then join"
        )
    ordered = [lines[str(job.pair.image)] for job in jobs]
    Manifest(path).close()  # is one, and ends with a whole line
    _write(path, parts, ordered)
    for part in parts:
        part.unlink()
    return Counter(line.status for line in ordered)


def _write(path: Path, parts: Sequence[Path], ordered: Sequence[_Line]) -> None:
    open_parts = {part: part.open("rb") for part in parts}
    try:
        with replacing(path) as temporary, temporary.open("wb") as joined:
            joined.write(path.read_bytes())
            for line in ordered:
                file = open_parts[line.path]
                file.seek(line.start)
                joined.write(file.read(line.length))
    finally:
        for file in open_parts.values():
            file.close()


def _check_no_others(path: Path, count: int, parts: set[Path]) -> None:
    name = re.compile(re.escape(path.stem) + r"\.\d+-of-\d+" + re.escape(path.suffix))
    others = sorted(
        file for file in path.parent.glob("*") if name.fullmatch(file.name) and file not in parts
    )
    if others:
        raise UserError(
            f"{named(others)}: is of no share of {count}, so pictures could be there twice; remove "
            "it, or join as many shares as there were"
        )


def _lines_of(part: Path, share: Share, own: dict[str, None]) -> dict[str, _Line]:
    """The line about each picture that counts: the last of "ok" or "failed", or the last."""
    found: dict[str, _Line] = {}
    for number, (start, text) in enumerate(_whole_lines(part), start=1):
        try:
            fields: dict[str, Any] = json.loads(text)
            image, status = str(fields["image"]), str(fields["status"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{part}: line {number} is none of a manifest; run --shard {share} again without it"
            ) from error
        if image not in own:
            raise UserError(
                f"{part}: line {number} is about {printable(image)}, which is no picture of share "
                f"{share}; join with the options of the shares, and do this one again without the "
                "file"
            )
        if status != "skipped" or image not in found or found[image].status == "skipped":
            found[image] = _Line(part, start, len(text), status)
    return found


def _whole_lines(part: Path) -> Iterator[tuple[int, bytes]]:
    """Where each line begins, and what it holds; one at the end that was cut off is left out."""
    start = 0
    with part.open("rb") as file:
        for text in file:
            if text.endswith(b"\n"):
                yield start, text
            start += len(text)
