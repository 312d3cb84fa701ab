"""Masks of any kind as one thing: where the hole is, at the displayed size of the picture.

White is the hole; what else is taken for white says `data.masks.reading`.
"""

import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from gmsrm_jax.data.masks.reading import HALF, is_label, label_part, white_part
from gmsrm_jax.inference import pixel_layouts as layouts
from gmsrm_jax.inference.image_files import as_source, name_of, open_upright
from gmsrm_jax.inference.number_range import find_range
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.inference.picture_io import Picture, PictureSource
from gmsrm_jax.inference.regions import dilated
from gmsrm_jax.runtime.errors import UserError

_LARGE_HOLE = 0.85  # share of a picture from which on little is left to go by
_WHITE = 255


@dataclass(frozen=True, eq=False)
class Mask:
    """A hole and what is odd about it.

    Attributes:
        hole: bool [H, W].
        ratio: share of the hole, in [0, 1].
        warnings: one line each.
    """

    hole: np.ndarray
    ratio: float
    warnings: tuple[str, ...]


class Cures(NamedTuple):
    """How what cures an unclear mask is asked for where the mask is given; "" for not at all.

    Attributes:
        invert: black is the hole.
        threshold: the value from which on is white.
        fit: a mask of another size than the picture is fitted to it.
    """

    invert: str = "pass mask_invert"
    threshold: str = "mask_threshold"
    fit: str = "have the mask fitted (--mask-resize nearest)"


_CURES = Cures()


def open_mask(
    source: "PictureSource | Mask | None",
    picture: Picture,
    options: FillOptions | None = None,
    name: str | None = None,
    cures: Cures = _CURES,
) -> Mask:
    """Opens a mask for a picture, or takes the picture's transparent part as the hole.

    What is transparent in a mask counts as black. A mask file is turned as its own EXIF says. One
    other colour, or one other value, on black is taken for white; see `reading.white_part`.

    Args:
        source: a path, the bytes of a file, a file object, a Pillow image, or an array of NumPy or
            JAX, [H, W] or [H, W, 1 to 4]: bool (True is the hole), whole numbers of 0..255 or of 0
            and one other, uint16 of 0..65535, or floats of 0..1. A `Mask` is returned as it is.
            None: the hole is where the picture's alpha is below the threshold.
        picture: what it belongs to.
        options: those of a mask, and the largest number of pixels; None for the defaults.
        name: what to call it in messages.
        cures: what messages advise.

    Raises:
        UserError: it cannot be read, does not fit, or could mean two things; names the mask, what
            was found and the cure.
    """
    options = options or FillOptions()
    invert = options.mask_invert
    if source is None:
        if picture.alpha is None:
            raise UserError(
                f"{picture.name}: no mask is given and the picture has no transparent part to take "
                "as the hole; give a mask, white where to fill"
            )
        hole = (picture.alpha < (options.mask_threshold or HALF)) != invert
        return _finished(hole, options.mask_dilate, picture.name, [])
    if isinstance(source, Mask):
        _check_size(source.hole.shape, picture, name or "mask", None, cures)
        return source
    if name is None:
        name = name_of(source, "mask")
    white, warnings = _white_part(as_source(source, name), options, name, cures)
    hole = white != invert
    if _check_size(hole.shape, picture, name, options.mask_resize, cures):
        size = (picture.width, picture.height)
        hole = np.asarray(Image.fromarray(hole).resize(size, Image.Resampling.NEAREST))
    return _finished(hole, options.mask_dilate, name, warnings)


def _finished(hole: np.ndarray, dilate: int, name: str, warnings: list[str]) -> Mask:
    if dilate:
        hole = dilated(hole, dilate)
    count = int(np.count_nonzero(hole))
    ratio = count / hole.size
    if not count:
        warnings.append(f"{name}: no hole in it, nothing to fill; white marks the hole")
    elif count == hole.size:
        warnings.append(f"{name}: all of it is hole, nothing known is left; black marks the known")
    elif ratio > _LARGE_HOLE:
        warnings.append(
            f"{name}: {ratio:.0%} of it is hole; if that is the wrong way round, invert the mask"
        )
    return Mask(hole, ratio, tuple(warnings))


def _white_part(
    source: str | os.PathLike | bytes | Image.Image | np.ndarray,
    options: FillOptions,
    name: str,
    cures: Cures,
) -> tuple[np.ndarray, list[str]]:
    threshold, warnings = options.mask_threshold, []
    if isinstance(source, np.ndarray):
        numbers = source
    else:
        upright = open_upright(source, options.max_pixels, name)
        numbers, warnings = upright.native, list(upright.warnings)
    # Labels can be of any type and range.
    if threshold is None and is_label(numbers):
        high = numbers.max()
        arrays = isinstance(source, np.ndarray) or numbers.dtype.kind == "f"
        part, odd = label_part(numbers, 255 if arrays and high == 1 else float(high), name)
        return part, warnings + odd
    if isinstance(source, np.ndarray):
        levels, alpha = _of_array(source, name)
    else:
        found = find_range(upright.native, upright.layout, name)
        plain, alpha = layouts.to_plain(upright.native, upright.layout, found)
        levels = np.asarray(plain if plain.mode == "L" else plain.convert("RGB"))
    cure = ""
    if alpha is not None:
        levels, odd = _over_black(levels, alpha, name)
        warnings += odd
        if alpha.min() < alpha.max():
            cure = "; or, if the hole is a transparent part of the picture, give no mask"
    asked = (cures.invert, cures.threshold)
    part, odd = white_part(levels, threshold, options.mask_invert, name, cure, asked)
    return part, warnings + odd


def _of_array(array: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """An array's levels, uint8 [H, W] or [H, W, 3], and its alpha, uint8 [H, W]."""
    shape, kind = array.shape, array.dtype.kind
    if array.ndim not in (2, 3) or 0 in shape or (array.ndim == 3 and shape[2] > 4):
        raise UserError(f"{name}: an array {list(shape)}; give [height, width] or with 1 to 4 more")
    if kind not in "biuf":
        raise UserError(f"{name}: an array of {array.dtype}; give bool, uint8 or float32")
    low, high = array.min(), array.max()
    white: float = 1 if high <= 1 else 65535 if array.dtype == np.uint16 else _WHITE
    if not (low >= 0 and high <= white) or (kind == "f" and white != 1):
        most = "1" if kind == "f" else str(white)
        raise UserError(f"{name}: values from {low} to {high}; give 0 to {most}")
    levels = np.rint(array * (_WHITE / white)).astype(np.uint8)
    if levels.ndim == 2 or shape[2] == 1:
        return levels.reshape(shape[:2]), None
    alpha = levels[..., -1] if shape[2] in (2, 4) else None
    return levels[..., :3] if shape[2] > 2 else levels[..., 0], alpha


def _over_black(levels: np.ndarray, alpha: np.ndarray, name: str) -> tuple[np.ndarray, list[str]]:
    """Makes transparent parts black; refuses a shape that lies in alpha under black only."""
    over = alpha if levels.ndim == 2 else alpha[..., None]
    seen = ((levels.astype(np.uint16) * over + _WHITE // 2) // _WHITE).astype(np.uint8)
    if alpha.min() == alpha.max() or (levels != levels[0, 0]).any():
        return seen, []
    if not levels.any():
        raise UserError(
            f"{name}: all of it is black, its shape lies in its alpha; save the mask as white on "
            "black, or give no mask and the hole as the picture's own transparent part"
        )
    return seen, [f"{name}: all of it is one colour, so its alpha is the mask: opaque is the hole"]


def _check_size(
    shape: tuple[int, ...], picture: Picture, name: str, resize: str | None, cures: Cures
) -> bool:
    """Returns whether a mask must be fitted to its picture."""
    height, width = shape
    if (height, width) == (picture.height, picture.width):
        return False
    if resize == "nearest":
        return True
    stored = (width, height) == picture.stored_size
    cure = (
        f"{picture.name} is stored that way and turned by its EXIF orientation; mark the hole on "
        "the picture as it is displayed"
        if stored
        else f"make them one size, or {cures.fit}"
    )
    raise UserError(
        f"{name}: {width} x {height} px, but the picture is displayed at {picture.width} x "
        f"{picture.height} px; {cure}"
    )
