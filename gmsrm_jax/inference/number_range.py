"""Numbers of more than 8 bits: which of them is white, and which a filling may have.

Files do not say: 16 bits hold 8, 10, 12 or 14 as they come from a camera, floats go to 1, to 255 or
to what was measured. White is found from nearly all known pixels, so that a few that are too bright
do not move it, and a filling keeps to the range and the steps of the known pixels. Where these
lie close together (infrared, heights, night), the network sees their range stretched, or it would
see a few grey levels.
"""

from typing import NamedTuple

import numpy as np

from gmsrm_jax.runtime.errors import UserError

_OUTLIERS = 1000  # one pixel of so many may lie outside, in pictures of 100 pixels or more
_FEW = 100
_SAMPLED = 2_000_000  # pixels that the range of a large picture is found from, at least
_BELOW = 0.02  # of white, by which nearly all may lie below 0
_NARROW = 1 / 8  # of white, below which a range is stretched
_SHORT = 65535


class NumberRange(NamedTuple):
    """What the numbers of a picture mean.

    Attributes:
        white: the number that is white.
        opaque: likewise of alpha, of which 0 is transparent.
        low: least number of a filling.
        high: largest.
        step: a filling's numbers are multiples of it; 0 for any.
        black: the number that is black.
    """

    white: float = 255.0
    opaque: float = 255.0
    low: float = 0.0
    high: float = 255.0
    step: float = 1.0
    black: float = 0.0

    def to_bytes(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers to uint8, white and above to 255, black and below to 0."""
        if numbers.dtype == np.uint8:
            return numbers
        if numbers.dtype.kind == "f":
            return self._bytes(numbers)
        return self._bytes(np.arange(_SHORT + 1))[numbers]

    def from_bytes(self, levels: np.ndarray) -> np.ndarray:
        """Levels 0 … 255, uint8, to the nearest that a filling may have, uint8 or float32."""
        if self == NumberRange():
            return levels
        numbers = self.black + np.arange(256) * ((self.white - self.black) / 255.0)
        if self.step:
            numbers = np.rint(numbers / self.step) * self.step
        return np.clip(numbers, self.low, self.high).astype(np.float32)[levels]

    def _bytes(self, numbers: np.ndarray) -> np.ndarray:
        scale = 255.0 / (self.white - self.black)
        return np.rint(np.clip((numbers - self.black) * scale, 0, 255)).astype(np.uint8)


def find_range(
    native: np.ndarray, layout: str, name: str, known: np.ndarray | None = None
) -> NumberRange:
    """Finds what a picture's numbers mean.

    White is 255 (1 of floats) or 1023, 4095, 16383, 65535, where nearly all numbers are at most
    that and, but for the first, some are above half of it; otherwise it is the largest of nearly
    all. Black is 0. Where nearly all known pixels lie within an eighth of that, their least and
    largest number are black and white.

    Args:
        native: numbers [H, W] or [H, W, C].
        layout: how they are laid out, see `pixel_layouts`.
        name: what to call the picture in messages.
        known: bool [H, W], the pixels to go by, at least one; None for all.

    Raises:
        UserError: numbers that are not finite, below 0, or above 65535.
    """
    if native.dtype == np.uint8:
        return NumberRange()
    if layout == "1":
        return NumberRange(1.0, 1.0, 0.0, 1.0)
    has_alpha = layout in ("LA;16", "RGBA;16")
    colours = native[..., :-1] if has_alpha else native
    values = (colours if known is None else colours[known]).ravel()
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
        raise _refused(name, low, high)
    sample = values[:: max(1, values.size // _SAMPLED)]
    out = sample.size // _OUTLIERS if sample.size >= _FEW else 0
    ordered = np.partition(sample, (out, sample.size - 1 - out))
    least, most = float(ordered[out]), float(ordered[-1 - out])
    floats = native.dtype.kind == "f"
    white = _white_of(most, 1.0 if floats else 255.0)
    if most > _SHORT or least < -_BELOW * white or (not floats and not 0 <= low <= high <= _SHORT):
        raise _refused(name, low, high)
    opaque = float(_SHORT)
    if has_alpha and native[..., -1].max() <= white:
        opaque = white
    black = 0.0
    if known is not None and 0 < most - least < _NARROW * white:
        black, white = least, most
    return NumberRange(white, opaque, low, high, _step_of(values, high), black)


def _white_of(most: float, least: float) -> float:
    if most <= least:
        return least
    whole = (1 << bits for bits in (8, 10, 12, 14, 16))
    return next((k - 1.0 for k in whole if k / 2 <= most <= k - 1), most)


def _step_of(values: np.ndarray, high: float) -> float:
    """The largest number that all are multiples of; 0 if they are no whole numbers from 0."""
    if values.dtype.kind == "f":
        if high > _SHORT or (values < 0).any() or (values != np.rint(values)).any():
            return 0.0
        values = values.astype(np.int32)
    found = np.flatnonzero(np.bincount(values))
    return float(np.gcd.reduce(found)) or 1.0


def _refused(name: str, low: float, high: float) -> UserError:
    return UserError(
        f"{name}: its numbers go from {low:g} to {high:g}; scale them to 0..1, 0..255 or 0..65535, "
        "without NaN"
    )
