"""Makes the bundled facade pictures from the full-size ones.

    python tools/make_facades.py SOURCE OUTPUT

SOURCE holds `train/*.jpg` and `val/*.jpg`; OUTPUT gets `train/*.jpg` and `test/*.jpg` under the
same file names. The pictures of the package lie in `gmsrm_jax/assets/facades`.
"""

import argparse
import os
from pathlib import Path

from PIL import Image

# Source folder, output folder, shorter side in pixels, JPEG quality. The demo trains on 64 px crops
# of pictures enlarged to at most 1.25 * 1.5 * 64 = 120 px; 128 px is the evaluation crop of the
# larger bundled model, cut from 1.25 * 128 = 160 px. Together they stay below 5.3 MB.
SPLITS = (("train", "train", 128, 88), ("val", "test", 160, 90))


def shrink(source: Path, target: Path, shorter_side: int, quality: int) -> None:
    """Writes `source` with the given shorter side [px] and JPEG quality, without its metadata."""
    with Image.open(source) as picture:
        scale = shorter_side / min(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    temporary = target.with_suffix(".tmp")
    small.save(temporary, "JPEG", quality=quality, optimize=True)
    os.replace(temporary, target)


def main() -> None:
    """Shrinks every picture of both splits and prints the number of files and bytes written."""
    parser = argparse.ArgumentParser(description="Makes the bundled facade pictures.")
    parser.add_argument("source", type=Path, help="folder with train/*.jpg and val/*.jpg")
    parser.add_argument("output", type=Path, help="folder that gets train/*.jpg and test/*.jpg")
    arguments = parser.parse_args()
    for source_name, target_name, shorter_side, quality in SPLITS:
        sources = sorted((arguments.source / source_name).glob("*.jpg"))
        if not sources:
            parser.error(f"no *.jpg in {arguments.source / source_name}")
        folder = arguments.output / target_name
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            shrink(source, folder / source.name, shorter_side, quality)
        total = sum((folder / source.name).stat().st_size for source in sources)
        print(f"{folder}: {len(sources)} pictures, {total:,} bytes")


if __name__ == "__main__":
    main()
