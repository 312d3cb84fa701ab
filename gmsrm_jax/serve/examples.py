"""The page's examples: bundled photographs with holes over what nobody wants to see in them."""

import pathlib
from typing import NamedTuple

from PIL import Image, ImageDraw

from gmsrm_jax.assets import asset_path

_FOLDER = "facades/test"
# Outlines of the holes, in units of width and height.
_HOLES = {
    "a lamp post": ("facade_0039.jpg", ((0.18, 0), (0.27, 0), (0.19, 1), (0.06, 1))),
    "a sign": ("facade_0063.jpg", ((0.06, 0.06), (0.93, 0.06), (0.93, 0.24), (0.06, 0.24))),
    "a car": (
        "facade_0074.jpg",
        ((0, 0.84), (0.08, 0.78), (0.34, 0.78), (0.43, 0.9), (0.42, 1), (0, 1)),
    ),
    "another car": (
        "facade_0192.jpg",
        ((0, 0.85), (0.14, 0.77), (0.45, 0.77), (0.54, 0.9), (0.53, 1), (0, 1)),
    ),
}
_THUMBNAIL = 240  # pixels
MARK = (255, 45, 85)


class Example(NamedTuple):
    """A picture and its hole.

    Attributes:
        name: what the hole covers.
        picture: the picture's file, in the server's folder.
        mask: the mask's.
        thumbnail: a square, with the hole marked.
    """

    name: str
    picture: pathlib.Path
    mask: pathlib.Path
    thumbnail: Image.Image


def make_examples(folder: pathlib.Path) -> list[Example]:
    """Copies the photographs into a folder, and marks their holes."""
    examples = []
    for name, (file, outline) in _HOLES.items():
        path, mask = folder / file, folder / f"mask_of_{pathlib.Path(file).stem}.png"
        path.write_bytes(asset_path(f"{_FOLDER}/{file}").read_bytes())
        with Image.open(path) as stored:
            picture = stored.convert("RGB")
        hole = Image.new("L", picture.size)
        corners = [(x * picture.width, y * picture.height) for x, y in outline]
        ImageDraw.Draw(hole).polygon(corners, fill=255)
        hole.save(mask)
        marked = Image.composite(Image.new("RGB", picture.size, MARK), picture, hole)
        thumbnail = marked.resize((_THUMBNAIL, _THUMBNAIL))
        examples.append(Example(name, path, mask, thumbnail))
    return examples
