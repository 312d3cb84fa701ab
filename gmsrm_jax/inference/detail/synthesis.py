"""Patch synthesis on one level: matching and voting in turn, from the shifts of the level before.

Every second pixel of the hole and its rim is a target. Each target has a source, whose patch it is
copied from; matching (PatchMatch, Barnes et al. 2009, all targets at once) improves the sources for
the picture as it is, voting makes the picture anew from all patches that cover a pixel.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from gmsrm_jax.inference.detail.features import PatchFeatures
from gmsrm_jax.inference.detail.levels import BORDER, RADIUS, Level

_STRIDE = 2
_SWEEPS = 2
_FIRST_SEARCH = (16, 8, 4, 2, 1)
_LARGE_SEARCH = (8, 3, 1)
_LARGE, _NEAR_USED = 70_000, 8  # sources of a level that is searched only near those in use
_UNIQUE = 0.3  # penalty of sources used over and over, in median patch distances
_VOTE_SIGMA = 0.8
_LEAST_SPREAD = 30.0


class ShiftMap(NamedTuple):
    """Targets of a level and the sources they are copied from; both int64 [n], places."""

    targets: np.ndarray
    sources: np.ndarray


def targets_of(level: Level) -> np.ndarray:
    """Every second row and column, and the last ones, within a patch's reach of the hole."""
    reach = ndimage.maximum_filter(level.grid(level.own), 2 * RADIUS + 1)
    inner = reach[BORDER:-BORDER, BORDER:-BORDER]
    rows = np.unique(np.append(np.arange(0, level.height, _STRIDE), level.height - 1))
    columns = np.unique(np.append(np.arange(0, level.width, _STRIDE), level.width - 1))
    chosen = inner[rows[:, None], columns[None, :]]
    y, x = np.nonzero(chosen)
    return level.places(rows[y], columns[x])


def carried_over(
    before: Level, places: np.ndarray, sources: np.ndarray, level: Level, scale: int
) -> ShiftMap:
    """Gives each target of a level the shift of the nearest place of the level before.

    Args:
        before: where `places` are copied from `sources`, int64 [n] each.
        places: with a source; one at least.
        sources: of the places.
        level: the next one, or the same.
        scale: shifts grow by it; 2, or 1 on the same level.

    Returns:
        Targets of `level`, every source a valid one: the nearest, if the shift leads to another.
    """
    targets = targets_of(level)
    taken = np.ones(len(before.source), bool)
    taken[places] = False
    nearest = _nearest_place(before, taken)
    row, column = np.divmod(targets, level.stride)
    rows = np.clip((row - BORDER) // scale, 0, before.height - 1)
    columns = np.clip((column - BORDER) // scale, 0, before.width - 1)
    origin = nearest[before.places(rows, columns)]
    source_of = np.empty(len(before.source), np.int64)
    source_of[places] = sources
    from_row, from_column = np.divmod(source_of[origin], before.stride)
    down = scale * (from_row - origin // before.stride)
    right = scale * (from_column - origin % before.stride)
    rows = np.clip(row + down, 0, level.height + 2 * BORDER - 1)
    columns = np.clip(column + right, 0, level.stride - 1)
    wanted = rows * level.stride + columns
    return ShiftMap(targets, _nearest_place(level, ~level.source)[wanted])


def synthesise(
    level: Level,
    shifts: ShiftMap,
    features: PatchFeatures,
    rounds: int,
    first: bool,
    rng: np.random.Generator,
) -> Iterator[None]:
    """Fills `level.own` of `level.pixels` in place.

    Args:
        level: whose sources are valid ones.
        shifts: to begin with.
        features: of this level.
        rounds: of matching and voting.
        first: whether it is the first level, searched nearby; others are searched far.
        rng: draws the sources that are tried.

    Yields:
        After each round; `shifts.sources` is improved in place.
    """
    targets, sources = shifts
    search = _Search(level, features, sources)
    target_at = np.full(len(level.source), -1, np.int32)
    target_at[targets] = np.arange(len(targets))
    # Patches that hold nothing of the own hole need no filling, but their pixels are covered.
    _vote(level, targets, sources, np.ones(len(targets), np.float32))
    for _ in range(rounds):
        wanted = features.at(level.pixels, targets)
        best = search.distance(wanted, sources)
        penalty = np.float32(_UNIQUE * np.median(best)) * _use(level, sources)
        for sweep in range(_SWEEPS):
            steps = (2 * _STRIDE, _STRIDE) if sweep == 0 else (_STRIDE,)
            for step in steps:
                for shift in (step, -step, step * level.stride, -step * level.stride):
                    near = targets + shift
                    inside = (near >= 0) & (near < len(target_at))
                    number = np.where(inside, target_at[np.where(inside, near, 0)], -1)
                    tried = np.where(number >= 0, sources[number] - shift, -1)
                    search.improve(wanted, sources, best, tried, penalty)
            for radius in search.radii(level, first)[-2 * sweep :]:
                moves = rng.integers(-radius, radius + 1, (2, len(targets)))
                rows, columns = np.divmod(sources, level.stride)
                rows, columns = rows + moves[0], columns + moves[1]
                inside = (rows >= 0) & (rows < level.height + 2 * BORDER)
                inside &= (columns >= 0) & (columns < level.stride)
                tried = np.where(inside, rows * level.stride + columns, -1)
                search.improve(wanted, sources, best, tried, penalty)
        # 2s², s² half of the distance that most patches keep below, as Wexler et al. 2007 have it.
        spread = max(float(np.percentile(best, 70)), _LEAST_SPREAD)
        _vote(level, targets, sources, np.exp(-best / np.float32(spread)) + np.float32(1e-6))
        yield


class _Search:
    """Features of the sources of a level, on a large one only of those near sources in use."""

    def __init__(self, level: Level, features: PatchFeatures, used: np.ndarray):
        allowed = level.source
        self._large = np.count_nonzero(allowed) > _LARGE
        if self._large:
            near = np.zeros(len(allowed), bool)
            near[used] = True
            side = 2 * _NEAR_USED + 1
            allowed = allowed & ndimage.maximum_filter(level.grid(near), side).ravel()
        places = np.flatnonzero(allowed)
        self._row_of = np.full(len(allowed), -1, np.int32)
        self._row_of[places] = np.arange(len(places))
        self._table = features.at(level.pixels, places)

    def radii(self, level: Level, first: bool) -> tuple[int, ...]:
        """Of the random search, in pixels."""
        if self._large:
            return _LARGE_SEARCH
        if first:
            return _FIRST_SEARCH
        return (max(1, max(level.height, level.width) // 3), 48, 12, 3, 1)

    def distance(self, wanted: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Squared distances of features float32 [n, K] to those of sources."""
        difference = self._table[self._row_of[places]]
        difference -= wanted
        return np.einsum("nk,nk->n", difference, difference)

    def improve(
        self,
        wanted: np.ndarray,
        sources: np.ndarray,
        best: np.ndarray,
        tried: np.ndarray,
        penalty: np.ndarray,
    ) -> None:
        """Takes what is nearer, in place; `penalty` float32 [P] is added on both sides."""
        rows = self._row_of[np.where((tried >= 0) & (tried < len(self._row_of)), tried, 0)]
        where = np.flatnonzero((rows >= 0) & (tried != sources))
        places = tried[where]
        distance = self.distance(wanted[where], places)
        better = distance + penalty[places] < best[where] + penalty[sources[where]]
        where = where[better]
        best[where], sources[where] = distance[better], places[better]


def _use(level: Level, sources: np.ndarray) -> np.ndarray:
    """How often the patches around a place are used, 1 where each is used once; float32 [P]."""
    counts = np.bincount(sources, minlength=len(level.source)).astype(np.float32)
    side = 2 * RADIUS + 1
    mean = ndimage.uniform_filter(level.grid(counts), side, mode="constant")
    return mean.ravel() * _STRIDE**2


def predicted_by(level: Level, shifts: ShiftMap) -> tuple[np.ndarray, np.ndarray]:
    """The picture of a level with what its patches say.

    Returns:
        float32 [h, w, 3], the filled picture, and on known pixels that targets cover what these
        say; bool [h, w], where targets cover.
    """
    total, weight = _votes(level, *shifts, np.ones(len(shifts.targets), np.float32))
    picture = np.where(level.own[:, None], level.pixels, total / np.maximum(weight, 1e-6)[:, None])
    covered = weight > 0
    picture[~covered] = level.pixels[~covered]
    inner = np.s_[BORDER:-BORDER, BORDER:-BORDER]
    return level.grid(picture)[inner], level.grid(covered)[inner]


def _vote(level: Level, targets: np.ndarray, sources: np.ndarray, weights: np.ndarray) -> None:
    """Makes the own hole anew: the mean of all patches that cover a pixel."""
    total, weight = _votes(level, targets, sources, weights)
    filled = level.own & (weight > 0)
    level.pixels[filled] = total[filled] / weight[filled][:, None]


def _votes(
    level: Level, targets: np.ndarray, sources: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of votes float32 [P, 3] and of their weights float32 [P].

    Patch n adds weights[n] · G(o) · (I(q_n + o), 1) to pixel p_n + o, G a Gaussian of 0.8 pixels.
    """
    total = np.zeros((len(level.pixels), 4), np.float32)
    votes = np.empty((len(targets), 4), np.float32)
    for dy in range(-RADIUS, RADIUS + 1):
        for dx in range(-RADIUS, RADIUS + 1):
            offset = dy * level.stride + dx
            share = weights * np.float32(np.exp(-(dy**2 + dx**2) / (2 * _VOTE_SIGMA**2)))
            # For one offset all pixels are distinct: no place is added to twice. Rows that are
            # taken come four times as fast as indexed ones.
            votes[:, :3] = level.pixels.take(sources + offset, axis=0)
            votes[:, :3] *= share[:, None]
            votes[:, 3] = share
            total[targets + offset] = votes + total.take(targets + offset, axis=0)
    return total[:, :3], total[:, 3]


def _nearest_place(level: Level, missing: np.ndarray) -> np.ndarray:
    """For each place the nearest one that is not missing, int64 [P]."""
    rows, columns = ndimage.distance_transform_edt(
        level.grid(missing), return_distances=False, return_indices=True
    )
    return rows.ravel().astype(np.int64) * level.stride + columns.ravel()
