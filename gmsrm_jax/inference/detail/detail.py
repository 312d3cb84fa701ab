"""A hole of a large picture, filled with detail from the picture's own known pixels.

The network's filling is the guide where it can be trusted, near the hole's edge. Deeper inside, the
repetition and coherence of the picture itself decide: on a coarse level a Markov random field
chooses where each place is copied from (`shift_map`), patch synthesis carries that to full size
(`synthesis`), and near the edge low frequencies come from the network again (`transfer`).
"""

from collections.abc import Generator
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from gmsrm_jax.inference.detail.features import PatchFeatures
from gmsrm_jax.inference.detail.levels import Level, depth_of, make_level, number_of_levels
from gmsrm_jax.inference.detail.shift_map import FEATURES, solve
from gmsrm_jax.inference.detail.synthesis import carried_over, predicted_by, synthesise
from gmsrm_jax.inference.detail.transfer import low_frequencies, within_surroundings

_THIN = 6.0  # pixels: parts that are no deeper stay the network's
_WHOLE = 1_000_000  # pixels of a picture worked on at once, and of a window that is mirrored
_MARGIN, _LEAST_MARGIN = 0.6, 256  # of a window around a part: in its longer sides, and in pixels
_LEAST_SOURCES = 64
_ROUNDS, _LAST_ROUNDS = 2, 1
_EIGHT = np.ones((3, 3), bool)


class Guide(NamedTuple):
    """The network's filling.

    Attributes:
        image: uint8 [H, W, 3].
        scaling: float32 [ceil(H / cell), ceil(W / cell)], how many pixels of the picture a pixel of
            the network covers along a side, 1 or more, in each cell.
        cell: side of a cell in pixels.
    """

    image: np.ndarray
    scaling: np.ndarray
    cell: int


Steps = Generator[float, None, np.ndarray]
"""Yields, often, the share of the work that is done, in [0, 1]; returns a picture."""
_WindowSteps = Generator[float, None, tuple[np.ndarray, np.ndarray]]


def fill_detail(rgb: np.ndarray, hole: np.ndarray, guide: Guide, seed: int) -> Steps:
    """Fills a hole.

    Parts no deeper than 6 pixels are the guide's, kept within the colours around them, and count as
    known for the others. Large pictures are worked on in windows, each around one part of the hole,
    so that memory is bounded by the parts. Where too little is known to copy from, the guide stays.

    Args:
        rgb: uint8 [H, W, 3]; what lies in the hole is not looked at.
        hole: bool [H, W].
        guide: the network's filling.
        seed: of all random choices; the same seed gives the same filling.

    Returns:
        uint8 [H, W, 3]: `rgb` with its hole filled, and the known pixels that touch the hole as the
        filling predicts them.
    """
    rng = np.random.default_rng(seed)
    near = ndimage.binary_dilation(hole, _EIGHT)
    result = within_surroundings(np.where(near[..., None], guide.image, rgb), near)
    labels, boxes = _thick_parts(hole)
    thick = labels > 0  # thin parts count as known from here on
    order = sorted(boxes, key=lambda part: -_area(boxes[part]))
    total, done = max(int(np.count_nonzero(thick)), 1), 0.0
    left = set(boxes)
    for part in order:
        if part not in left:
            continue
        window = _window(boxes[part], hole.shape)
        inside = {other for other in left if _within(boxes[other], window)}
        own = np.isin(labels[window], list(inside))
        rows, columns = (
            np.s_[s.start // guide.cell : -(-s.stop // guide.cell)] for s in boxes[part]
        )
        scaling = float(guide.scaling[rows, columns].max())
        share = int(np.count_nonzero(own)) / total
        known = np.where(hole[window][..., None], result[window], rgb[window])
        steps = _fill_window(known, thick[window], own, scaling, rng)
        filled, where = yield from _scaled_steps(steps, done, share)
        result[window][where] = filled[where]
        left -= inside
        done += share
        yield min(done, 1.0)
    return result


def _thick_parts(hole: np.ndarray) -> tuple[np.ndarray, dict[int, tuple[slice, slice]]]:
    """The hole's 8-connected parts that are deeper than 6 pixels: numbers and their boxes."""
    labels, _ = ndimage.label(hole, _EIGHT)
    # A pixel deeper than 6 is the middle of a square of 9 × 9 hole pixels: the disc holds it.
    inner = ndimage.minimum_filter(hole, 9, mode="nearest")
    candidates = np.unique(labels[inner])
    boxes = ndimage.find_objects(labels)
    thick = {}
    for part in candidates[candidates > 0].tolist():
        around = tuple(
            slice(max(s.start - 1, 0), min(s.stop + 1, side))
            for s, side in zip(boxes[part - 1], hole.shape, strict=True)
        )
        own = np.pad(labels[around] == part, 1, mode="edge")
        if depth_of(own).max() > _THIN:
            thick[part] = boxes[part - 1]
    keep = np.zeros(len(boxes) + 1, bool)
    keep[list(thick)] = True
    labels[~keep[labels]] = 0
    return labels, thick


def _area(box: tuple[slice, slice]) -> int:
    return (box[0].stop - box[0].start) * (box[1].stop - box[1].start)


def _window(box: tuple[slice, slice], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Where a part is worked on: the whole picture, if it is small."""
    if shape[0] * shape[1] <= _WHOLE:
        return np.s_[: shape[0], : shape[1]]
    longer = max(s.stop - s.start for s in box)
    margin = max(int(_MARGIN * longer), _LEAST_MARGIN)
    rows, columns = (
        slice(max(s.start - margin, 0), min(s.stop + margin, side))
        for s, side in zip(box, shape, strict=True)
    )
    return rows, columns


def _within(box: tuple[slice, slice], window: tuple[slice, slice]) -> bool:
    return all(
        (w.start or 0) <= b.start and b.stop <= w.stop for b, w in zip(box, window, strict=True)
    )


def _scaled_steps(steps: _WindowSteps, done: float, share: float) -> _WindowSteps:
    """Passes steps on as those of the whole."""
    while True:
        try:
            yield min(done + share * next(steps), 1.0)
        except StopIteration as end:
            return end.value


def _fill_window(
    picture: np.ndarray,
    hole: np.ndarray,
    own: np.ndarray,
    scaling: float,
    rng: np.random.Generator,
) -> _WindowSteps:
    """Fills a part of a hole.

    Args:
        picture: uint8 [H, W, 3]; its hole holds the guide.
        hole: bool [H, W].
        own: bool [H, W], the part.
        scaling: see `Guide`.
        rng: of all random choices.

    Returns:
        uint8 [H, W, 3] and where it is written, bool [H, W]: the part and the known pixels that
        touch it; nowhere if there is too little to copy from.
    """
    depth = depth_of(np.pad(own, 1, mode="edge"))[1:-1, 1:-1]
    canvas = picture, hole, own
    if hole.size <= _WHOLE:
        canvas = _beside_its_mirror_image(*canvas)
    first = _first_level(*canvas, float(depth[own].max()))
    if first is None:
        return picture, np.zeros_like(own)
    level, index = first
    features = PatchFeatures(level, FEATURES, rng)
    yield 0.02
    nodes = solve(level, features, scaling / 2**index, rng)
    shifts = carried_over(level, *nodes, level, 1)
    # Work grows with the pixels, fourfold a level; the first level's field counts as one more.
    shares = np.cumsum([2.0] + [4.0**-k for k in range(index, -1, -1)])
    shares /= shares[-1]
    yield float(shares[0])
    for number, k in enumerate(range(index, -1, -1), 1):
        if k != index:
            before, level = level, make_level(*canvas, k)
            features = PatchFeatures(level, FEATURES, rng)
            shifts = carried_over(before, *shifts, level, 2)
        rounds = _LAST_ROUNDS if k == 0 and index else _ROUNDS
        search = synthesise(level, shifts, features, rounds, k == index, rng)
        for turn, _ in enumerate(search, 1):
            yield float(shares[number - 1] + (shares[number] - shares[number - 1]) * turn / rounds)
    filled, covered = (x[:, : own.shape[1]] for x in predicted_by(level, shifts))
    where = own | (ndimage.binary_dilation(own, _EIGHT) & ~hole & covered)
    return low_frequencies(filled, picture, own, depth), where


def _beside_its_mirror_image(
    picture: np.ndarray, hole: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A window with its mirror image to its right, in which nothing is to be filled.

    What is alike on both sides of an upright axis, as windows, doors and faces are, is so continued
    by a shift like any other: x ↦ 2a − x is x ↦ x + 2W − 1 − 2a into the image.
    """
    return (
        np.concatenate([picture, picture[:, ::-1]], axis=1),
        np.concatenate([hole, hole[:, ::-1]], axis=1),
        np.concatenate([own, np.zeros_like(own)], axis=1),
    )


def _first_level(
    picture: np.ndarray, hole: np.ndarray, own: np.ndarray, deepest: float
) -> tuple[Level, int] | None:
    """The coarsest level that has a hole and enough to copy from; None if there is none."""
    for index in range(number_of_levels(deepest, *hole.shape) - 1, -1, -1):
        level = make_level(picture, hole, own, index)
        if level.own.any() and np.count_nonzero(level.source) >= _LEAST_SOURCES:
            return level, index
    return None
