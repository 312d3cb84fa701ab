"""Whole files or none: a result appears under its name only when it is complete."""

import os
import secrets
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` to `path` by way of a temporary file beside it; makes missing folders."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Random, since process numbers repeat between machines that share a disk; without the target's
    # name, which can be as long as a name may be.
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
