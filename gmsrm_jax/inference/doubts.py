"""Why a filling may be poor: a hole deeper than a network bridges, a picture unlike what it knows.

Said in one line beside the filling, with what to do. It is measured on hole and picture alone, so
it is a hint: a picture of which nothing is said can be unlike the training too.
"""

import re
from textwrap import shorten

import numpy as np

from gmsrm_jax.inference.strategies import GUIDE_DEPTH

_BRIDGED = 1 / 3  # of the network's size: a hole of two thirds of a square is blurred in its middle
_MOST_HOLE = 0.6  # share of the picture: the largest holes that networks are trained and scored on
_SMALL, _LARGE = 1 / 2, 8  # of the network's size, between which a picture's sides are of its scale
_SHRUNK = 4  # times, of what is shown to the network
_FLAT = 0.5  # share of neighbours of one colour from which on a picture is no photograph
_GREY = 8  # levels between the channels of a picture without colour, at most
_SAMPLED = 1024  # pixels of a side that are looked at, about
_OF_KIND = 256  # the same for its kind: neighbours in an enlarged photograph are equal, too
_SHOWN = 100  # characters of what the weights know


def doubts(rgb: np.ndarray, hole: np.ndarray, strategy: str, size: int, knows: str) -> str:
    """Says why a filling may be poor, and what to do.

    Args:
        rgb: uint8 [H, W, 3], what the network sees.
        hole: bool [H, W], not empty.
        strategy: "resize", "crop", "tile" or "detail".
        size: side S of the network's square in pixels.
        knows: the pictures that it was trained on, in words; "" if nobody said.

    Returns:
        One line without the picture's name, "" if there is nothing to say.
    """
    reasons = [_of_hole(hole, strategy, size), _of_scale(hole.shape, strategy, size)]
    kind = _of_kind(rgb, hole) if "photo" in knows.lower() else ""
    if kind:
        reasons.append(f"{kind}, and the weights know {short_kinds(knows)}")
    said = "; ".join(filter(None, reasons))
    return f"may be filled poorly: {said}" if said else ""


def short_kinds(knows: str) -> str:
    """What weights know in few words: without the counts and sources that follow."""
    return shorten(re.split(r"[:;(]", knows)[0], _SHOWN, placeholder=" …")


def _of_hole(hole: np.ndarray, strategy: str, size: int) -> str:
    # SciPy's filters take a while to import.
    from scipy import ndimage

    share = np.count_nonzero(hole) / hole.size
    if share > _MOST_HOLE:
        return f"{share:.0%} of it is hole, so little is left to go by (mark less)"
    step = max(1, max(hole.shape) // _SAMPLED)
    depth = int(ndimage.distance_transform_cdt(hole[::step, ::step], "chessboard").max()) * step
    # Detail copies from the picture what the network then only guides, scaled down.
    bridged = {
        "resize": max(hole.shape) * _BRIDGED,
        "detail": size * _SHRUNK * GUIDE_DEPTH,
    }.get(strategy, size * _BRIDGED)
    if depth <= bridged:
        return ""
    cure = "mark no more than what should go"
    if strategy in ("crop", "tile"):
        cure += ", or take the strategy detail"
    return (
        f"the middle of the hole is {depth} px from its edge, and beyond {bridged:.0f} px the"
        f" weights only guess ({cure})"
    )


def _of_scale(shape: tuple[int, ...], strategy: str, size: int) -> str:
    height, width = shape
    if max(shape) < _SMALL * size:
        return f"{width} x {height} px are few (give it larger, the network works with {size})"
    if strategy == "resize":
        shrunk = max(shape) / size
        lost = f"the network sees it {shrunk:.0f} times smaller, without its fine detail"
        return f"{lost} (take another strategy)" if shrunk > _SHRUNK else ""
    if strategy == "detail" or min(shape) <= _LARGE * size:
        return ""
    return (
        f"the network sees only {size} px of its {width} x {height} at a time, not what they are"
        " part of (take the strategy detail, or scale it down)"
    )


def _of_kind(rgb: np.ndarray, hole: np.ndarray) -> str:
    step = max(1, max(hole.shape) // _OF_KIND)
    pixels, known = rgb[::step, ::step], ~hole[::step, ::step]
    if not known.any():
        return ""
    colours = pixels[known]
    if int((colours.max(1) - colours.min(1)).max()) <= _GREY:
        return "it has no colour"
    both = known[:, 1:] & known[:, :-1]
    equal = (pixels[:, 1:] == pixels[:, :-1]).all(2) & both
    flat = np.count_nonzero(equal) > _FLAT * np.count_nonzero(both)
    return "most of it is flat, as in drawings and screen shots" if flat else ""
