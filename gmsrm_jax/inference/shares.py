"""Pictures filled in shares: each has a manifest of its own, and these are joined at the end."""

import json
import re
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from gmsrm_jax.data.bad_pictures import named, printable
from gmsrm_jax.inference.manifest import Manifest
from gmsrm_jax.inference.pairing import Job
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import replacing
from gmsrm_jax.runtime.shares import Share


def jobs_of(jobs: Sequence[Job], share: Share) -> list[Job]:
    """The pictures of a share, by their names alone: it stays the same when others come or go."""
    return [job for job in jobs if share.has_name(job.pair.stem)]


def manifest_of(path: Path, share: Share) -> Path:
    """The manifest of a share: manifest.3-of-8.jsonl beside manifest.jsonl."""
    return path.with_name(f"{path.stem}.{share.index}-of-{share.count}{path.suffix}")


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
    lines: dict[str, tuple[str, bytes]] = {}
    missing = []
    for share, part in zip(shares, parts, strict=True):
        own = {str(job.pair.image): None for job in jobs_of(jobs, share)}
        found = _lines_of(part, share, own) if part.exists() else {}
        lines |= found
        lacking = [image for image in own if image not in found]
        if not part.exists():
            missing.append(f"share {share} is missing ({printable(str(part))})")
        elif lacking:
            pictures = count_of(len(lacking), "picture")
            missing.append(f"share {share} lacks {pictures} ({named(lacking)})")
    if missing:
        raise UserError(
            f"{'; '.join(missing)}: run it again with --shard and --skip-existing, then join"
        )
    ordered = [lines[str(job.pair.image)] for job in jobs]
    Manifest(path).close()  # is one, and ends with a whole line
    with replacing(path) as temporary, temporary.open("wb") as joined:
        joined.write(path.read_bytes())
        joined.writelines(line for _, line in ordered)
    for part in parts:
        part.unlink()
    return Counter(status for status, _ in ordered)


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


def _lines_of(part: Path, share: Share, own: Container[str]) -> dict[str, tuple[str, bytes]]:
    """Status and line of each picture, the one that counts: the last that is not "skipped"."""
    found: dict[str, tuple[str, bytes]] = {}
    for number, line in enumerate(part.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break  # it was cut off
        try:
            fields: dict[str, Any] = json.loads(line)
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
        if status != "skipped" or image not in found or found[image][0] == "skipped":
            found[image] = (status, line)
    return found
