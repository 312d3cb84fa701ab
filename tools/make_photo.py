"""Makes what a phone would give: python tools/make_photo.py DIR.

Writes DIR/photo.jpg, a bundled facade of 12 megapixels that lies on its side and is turned upright
by its EXIF orientation, and DIR/mask.png, strokes of a finger on the picture as it is displayed.
"""

import pathlib
import sys

from PIL import Image, ImageDraw

from gmsrm_jax.assets import asset_path

SIDES = (3000, 4000)  # displayed: width, height
ORIENTATION, TURNED_LEFT = 0x0112, 6  # EXIF: show it turned by 90° to the right


def main(folder: pathlib.Path) -> None:
    """Writes both files."""
    source = min(asset_path("facades/test").glob("*.jpg"))
    with Image.open(source) as image:
        displayed = image.convert("RGB").resize(SIDES, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED_LEFT
    stored = displayed.transpose(Image.Transpose.ROTATE_90)
    stored.save(folder / "photo.jpg", quality=90, exif=exif)
    mask = Image.new("L", SIDES)
    draw = ImageDraw.Draw(mask)
    draw.line([(700, 900), (1100, 1300), (1600, 1250)], fill=255, width=160, joint="curve")
    draw.ellipse((1900, 2400, 2500, 3100), fill=255)
    mask.save(folder / "mask.png")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
