"""What somebody meant by a mask: which of its colours is the hole, where that is clear.

White on black is the rule. One other colour on black is clear as well (red of a painting program,
class 1 of a label picture), and one colour on white where black is asked for as the hole. All else
could mean two things, or is no mask, and is refused.
"""

import numpy as np
from PIL import Image

from gmsrm_jax.runtime.errors import UserError

HALF = 128  # of 255, from which on grey is white
_WHITE = 255
_CLEAR = 32  # from black or white, within which a grey level is clear
_FLAT = 0.5  # share of a grey mask, at least, that is clear
_BOTH = 0.75  # share of a coloured mask, at least, that is of its two colours
_CORE = 0.25  # share of what is painted, at least, that is no soft edge
_COLOURED = 16  # levels between the channels of what is grey, at most
_NOISE = 0.02  # share of what is painted that may have another colour
_EDGES = 0.25  # likewise, of colours that are none of the mask's
_STRONG = 48  # levels between the channels of a colour painted with, unless there are two alone
_NEAR = 40  # levels of a channel beyond which something is painted
_ALIKE = 20  # levels of a channel between colours that count as one, at most
_OFF_LINE = 60  # distance from the line between two colours, on which soft edges lie
_BRIGHTER = 1.4  # of the painted colour, as lossy formats overshoot
_BINS = 32  # of each channel, for counting colours
_LISTED = 4  # colours named in a message


def white_part(
    levels: np.ndarray,
    threshold: int | None,
    invert: bool,
    name: str,
    cure: str = "",
    options: tuple[str, str] = ("pass mask_invert", "mask_threshold"),
) -> tuple[np.ndarray, list[str]]:
    """Says where a mask is white, or of the colour that stands for it.

    Args:
        levels: uint8 [H, W] or [H, W, 3], over black where the mask is transparent.
        threshold: grey from which on is white, whatever the mask looks like; None finds out what
            is meant.
        invert: whether the hole is what is not white.
        name: what to call the mask in messages.
        cure: a further one for a picture that is no mask.
        options: how `invert` is asked for, and what `threshold` is called, where the mask is given;
            "" for not at all.

    Returns:
        bool [H, W], and what is odd, one line each.

    Raises:
        UserError: it is not clear what is meant, or the mask is a photograph.
    """
    inverting, from_value = options
    by_value = f", or say from which value on it is white by {from_value}" if from_value else ""
    grey = _grey_of(levels)
    if threshold is not None:
        if grey is None:
            grey = np.asarray(Image.fromarray(np.ascontiguousarray(levels)).convert("L"))
        counted = len(np.flatnonzero(np.bincount(grey.ravel(), minlength=256)))
        odd = [f"{name}: {counted} grey levels; {threshold} and above counts as white"]
        return grey >= threshold, odd if counted > 2 else []
    if grey is None:
        return _painted(levels, invert, name, cure, inverting)
    counts = np.bincount(grey.ravel(), minlength=256)
    found = np.flatnonzero(counts)
    low, high = int(found[0]), int(found[-1])
    if low == 0 and len(found) == 2:
        return label_part(grey, high, name)
    if 0 < high < HALF or (low >= HALF and len(found) > 1):
        raise UserError(
            f"{name}: its values go from {low} to {high}, all on one side of {HALF}; save the hole "
            f"as white (255) on black{by_value}"
        )
    if len(found) <= 2:
        return grey >= HALF, []
    clear = counts[: _CLEAR + 1].sum() + counts[_WHITE - _CLEAR :].sum()
    if clear < _FLAT * grey.size:
        raise UserError(
            f"{name}: most of it is neither black nor white, as in a photograph; give a mask of "
            f"white on black{cure}{by_value and f'{by_value}={HALF}'}"
        )
    return grey >= HALF, [f"{name}: {len(found)} grey levels; {HALF} and above counts as white"]


def is_label(numbers: np.ndarray) -> bool:
    """Whether numbers [H, W] of any type and range are 0 and one other above it, both there."""
    if numbers.ndim != 2 or numbers.dtype.kind not in "iuf" or not numbers.size:
        return False
    high = numbers.max()
    counted = np.count_nonzero(numbers == high)
    return bool(high > 0 and 0 < np.count_nonzero(numbers == 0) == numbers.size - counted)


def label_part(values: np.ndarray, high: float, name: str) -> tuple[np.ndarray, list[str]]:
    """Takes the other value of 0 and another one for white; see `white_part`."""
    known = high in (_WHITE, 65535)
    odd = [] if known else [f"{name}: its values are 0 and {high:g}, which is taken as white"]
    return values > 0, odd


def _grey_of(levels: np.ndarray) -> np.ndarray | None:
    """The mask as uint8 [H, W], if it has no colour but what a lossy format made."""
    if levels.ndim == 2:
        return levels
    grey = levels.max(2)
    coloured = np.count_nonzero(grey - levels.min(2) > _COLOURED)
    return grey if coloured <= _NOISE * np.count_nonzero(grey > _NEAR) else None


def _painted(
    levels: np.ndarray, invert: bool, name: str, cure: str, inverting: str
) -> tuple[np.ndarray, list[str]]:
    """Where a coloured mask is of its one colour on black, or not of that on white."""
    shift = _WHITE.bit_length() - (_BINS - 1).bit_length()
    place = (levels >> shift).astype(np.uint16)
    place = (place[..., 0] * _BINS + place[..., 1]) * _BINS + place[..., 2]
    counts = np.bincount(place.ravel(), minlength=_BINS**3)
    colours = np.indices((_BINS,) * 3).reshape(3, -1).T * (_WHITE / (_BINS - 1))
    on_black, on_white = (_two_colours(colours, counts, base) for base in (0.0, float(_WHITE)))

    def named(colour: int) -> str:
        pixel = levels.reshape(-1, 3)[np.argmax(place == colour)]
        return "#" + "".join(f"{value:02x}" for value in pixel.tolist())

    if on_black is not None:
        where, most = on_black
        return where[place], [f"{name}: {named(most)} on black; it is taken as white"]
    if on_white is not None:
        where, most = on_white
        if invert:
            return ~where[place], []
        raise UserError(
            f"{name}: {named(most)} on white, and white is the hole; paint on black, or "
            f"{inverting} if {named(most)} is the hole"
        )
    found = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    if len(found) <= _LISTED:
        listed = ", ".join(named(each) for each in found)
        raise UserError(
            f"{name}: its colours are {listed}; save the hole as white and all else as black"
        )
    raise UserError(
        f"{name}: a picture of many colours and no mask; give one that is black but for the hole, "
        f"which is white or of one other colour{cure}"
    )


def _two_colours(
    colours: np.ndarray, counts: np.ndarray, base: float
) -> tuple[np.ndarray, int] | None:
    """Which colours are nearer to the one painted than to the base, if there are no others.

    Args:
        colours: [K, 3].
        counts: [K], pixels of each.
        base: every channel of the colour that is painted on.

    Returns:
        bool [K] and the index of the painted one; None if there are others, or nothing of the base.
    """
    offset = colours - base
    from_base = np.abs(offset).max(1)
    painted = np.where(from_base > _NEAR, counts, 0)
    if not painted.any() or not counts[from_base <= _NEAR].any():
        return None
    most = int(painted.argmax())
    if np.ptp(colours[most]) < _STRONG and np.count_nonzero(counts) > 2:
        return None
    colour = offset[most]
    along = offset @ colour / (colour @ colour)
    beside = np.linalg.norm(offset - along[:, None] * colour, axis=1)
    others = counts * ((beside > _OFF_LINE) | (along > _BRIGHTER))
    alike = np.abs(colours - colours[most]).max(1) <= _ALIKE
    flat = counts[alike | (from_base <= _ALIKE)].sum() >= _BOTH * counts.sum()
    # A second colour is in one place, what a lossy format makes along the edges in many.
    several = others.max() > _NOISE * painted.sum() or others.sum() > _EDGES * painted.sum()
    if several or not flat or painted[alike].sum() < _CORE * painted.sum():
        return None
    return along >= 0.5, most
