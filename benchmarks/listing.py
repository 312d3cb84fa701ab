"""How long a large folder of pictures takes to open.

    python benchmarks/listing.py [--files 1000000] [--folder DIR]

Makes a folder of hard links to a few pictures, a thousand in each sub-folder, so that a million
names cost no space; removes it at the end.
"""

import argparse
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

from PIL import Image

from gmsrm_jax.data.listing import walk
from gmsrm_jax.data.sources import open_pictures

_PER_FOLDER = 1000
_LINKS = 60_000  # file systems allow about 65,000 links to a file


def _make(folder: Path, count: int) -> None:
    for start in range(0, count, _PER_FOLDER):
        part = folder / f"{start // _PER_FOLDER:05d}"
        part.mkdir()
        source = folder / f"source_{start // _LINKS}.jpg"
        if not source.exists():
            Image.effect_noise((512, 384), 64).convert("RGB").save(source)
        for number in range(start, min(start + _PER_FOLDER, count)):
            os.link(source, part / f"{number:07d}.jpg")


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--folder", default=None, help="where to make the folder")
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        pictures = root / "pictures"
        pictures.mkdir()
        _make(pictures, args.files)
        print(f"| step | seconds for {args.files:,} files | files/s |\n| --- | --- | --- |")
        steps = {
            "walk alone": lambda: sum(1 for _ in walk(pictures)),
            "open": lambda: len(open_pictures(str(pictures))),
        }
        for name, step in steps.items():
            started = time.monotonic()
            found = step()
            seconds = time.monotonic() - started
            print(f"| {name} | {seconds:.1f} | {found / seconds:,.0f} |")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"\nPeak memory of the process: {peak:.0f} MiB.")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
