"""Where each node of a grid over the hole is copied from, by belief propagation (first level).

A Markov random field: the labels of a node are places of the known picture. A label costs what its
patch differs from the known pixels around the node and, on a low-pass scale, from the network's
filling, and how far it lies above or below. Two neighbours cost what their patches differ where one
continues the other, nothing when both are copied with the same shift. Whole windows, letters and
cornices are so copied in one piece.

The field is solved three times. The first labels of a node are drawn for it alone, so that its
neighbours often lack the shift that continues it at no cost; the next ones are its own best, the
shifts that won around it, and those that won most often. This lowers the energy by a sixth.
"""

import functools
import os
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from gmsrm_jax.inference.detail.belief import at_once, minimise
from gmsrm_jax.inference.detail.features import PatchFeatures, gaussian_weight, patches
from gmsrm_jax.inference.detail.levels import BORDER, RADIUS, Level

FEATURES = 20
_LOW = 12  # leading features of a coarse comparison
_COARSEST = 8
_MOST_NODES = 3000
_RING = 3  # nodes reach so many pixels out of the hole
_DOMINANT, _LEAST_OFFSET = 40, 12
_BY_GUIDE, _LOCAL = 12, 12
_KNOWN_WEIGHT = 16.0
_PULL, _LEAST_PULL = 0.25, 0.02
TRUST = 12.0
"""Pixels of the network over which the pull to its filling falls to 1/e."""
_UPRIGHT = 1200.0  # cost of a source that lies a window's height above or below
_COLOUR_SIGMA = 2.0
_TURNS = 2  # further ones, with the shifts that won before
_KEPT, _COMMON, _AROUND = 8, 16, 25
_NO_SOURCE = 1e6
_BEYOND = 200.0  # cost of a neighbour that would be copied from what is no source
_THREADS = min(4, os.cpu_count() or 1)  # of searches; several processes may share a machine
_EDGES_AT_ONCE = 64  # of whose pairs of labels the costs are in a processor's cache


class Nodes(NamedTuple):
    """Nodes of the field and the place that each one is copied from; both int64 [n]."""

    places: np.ndarray
    sources: np.ndarray


def solve(
    level: Level, features: PatchFeatures, network_pixel: float, rng: np.random.Generator
) -> Nodes:
    """Chooses a source for each node.

    Args:
        level: the first one.
        features: of this level, `FEATURES` of them.
        network_pixel: side of a pixel of the network, in pixels of this level.
        rng: draws candidates.
    """
    grid = _grid_of_nodes(level)
    nodes = np.flatnonzero(grid.number >= 0)
    sources = np.flatnonzero(level.source)
    table = features.at(level.pixels, sources)
    row_of = np.full(len(level.source), -1, np.int32)
    row_of[sources] = np.arange(len(sources))
    depth = level.depth[nodes] / network_pixel
    low_known, low_guide = _low_colours(level)
    offsets = _dominant_offsets(level, sources, table, rng)
    by_offset = _sources_at(level, nodes[:, None] + offsets)
    by_guide = _guide_matches(level, features, nodes, sources, table, low_known, low_guide, depth)
    nearby = _local_candidates(level, nodes, sources, table, rng)
    candidates = np.concatenate([by_offset, by_guide, nearby], axis=1)
    pull = _LEAST_PULL + _PULL * np.exp(-depth / TRUST)
    for turn in range(_TURNS + 1):
        labels = _without_repeats(candidates)
        costs = _unary(level, nodes, labels, low_known, low_guide, pull)
        labels, costs = _sorted(labels, costs)
        # A label that is no source stays dear; its features are those of any source.
        usable = np.where(labels >= 0, labels, sources[0])
        costs_of = functools.partial(_pair_costs, level, table, row_of, usable)
        pairs = at_once(costs_of, grid.edges)
        ranked = minimise(costs, [(a, b) for a, b, _ in grid.edges], pairs)
        best = np.take_along_axis(usable, ranked, 1)
        if turn < _TURNS:
            candidates = _propagated(level, nodes, best)
    return Nodes(nodes, best[:, 0])


def _propagated(level: Level, nodes: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Candidates of another turn: a node's own best and the shifts that won around it and most."""
    shifts = best[:, 0] - nodes
    found, counts = np.unique(shifts, return_counts=True)
    common = found[np.argsort(-counts, kind="stable")[:_COMMON]]
    tree = cKDTree(np.stack(np.divmod(nodes, level.stride), 1))
    _, near = tree.query(np.stack(np.divmod(nodes, level.stride), 1), min(_AROUND, len(nodes)))
    near = near.reshape(len(nodes), -1)
    offered = np.concatenate(
        [np.broadcast_to(common, (len(nodes), len(common))), shifts[near]], axis=1
    )
    return np.concatenate([best[:, :_KEPT], _sources_at(level, nodes[:, None] + offered)], axis=1)


class _Grid(NamedTuple):
    """number: int32 [P], of a node at a place, -1 elsewhere; edges: (first, second, step) sets."""

    number: np.ndarray
    edges: list[tuple[np.ndarray, np.ndarray, int]]


def _grid_of_nodes(level: Level) -> _Grid:
    """Every second pixel of the hole and its ring, or as far apart as 3000 nodes allow."""
    wanted = ndimage.maximum_filter(level.grid(level.own), 2 * _RING + 1)
    inner = wanted[BORDER:-BORDER, BORDER:-BORDER]
    stride = 2
    while np.count_nonzero(inner[::stride, ::stride]) > _MOST_NODES:
        stride += 1
    rows, columns = np.nonzero(inner[::stride, ::stride])
    nodes = level.places(rows * stride, columns * stride)
    number = np.full(len(level.hole), -1, np.int32)
    number[nodes] = np.arange(len(nodes))
    padded = np.concatenate([number, np.full(stride * level.stride, -1, np.int32)])
    edges = []
    for step in (stride, stride * level.stride):
        # The border keeps a step to the right from reaching the next row's nodes, if it is wider.
        right = padded[nodes + step]
        same_row = (nodes % level.stride) + stride < level.stride
        joined = (right >= 0) & (same_row if step == stride else True)
        edges.append((np.flatnonzero(joined), right[joined].astype(np.int64), step))
    return _Grid(number, edges)


def _sources_at(level: Level, places: np.ndarray) -> np.ndarray:
    """The places that are sources, -1 for the others."""
    inside = (places >= 0) & (places < len(level.source))
    return np.where(inside & level.source[np.where(inside, places, 0)], places, -1)


def _low_colours(level: Level) -> tuple[np.ndarray, np.ndarray]:
    """Low-passed colours of the known pixels and of the guide, float32 [P, 3] each."""

    def low(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values, _COLOUR_SIGMA, mode="nearest", axes=(0, 1))

    known = (~level.hole).astype(np.float32)[:, None]
    weight = low(level.grid(known))
    colours = low(level.grid(level.pixels * known)) / np.maximum(weight, np.float32(1e-3))
    guide = low(level.grid(np.where(level.hole[:, None], level.guide, level.pixels)))
    return colours.reshape(-1, 3), guide.reshape(-1, 3)


def _far_apart(
    level: Level, one: np.ndarray, other: np.ndarray, pixels: int = _LEAST_OFFSET
) -> np.ndarray:
    """Whether two arrays of places are at least so far apart along one axis, broadcast."""
    rows = np.abs(one // level.stride - other // level.stride)
    columns = np.abs(one % level.stride - other % level.stride)
    return np.maximum(rows, columns) >= pixels


def _dominant_offsets(
    level: Level, sources: np.ndarray, table: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The most frequent shifts between alike patches (He and Sun, ECCV 2012), int64 [≤ 40]."""
    mine = rng.permutation(len(sources))[:3000]
    others = rng.permutation(len(sources))[:16000]
    ones, twos = sources[mine], sources[others]
    low = table[others][:, :_LOW]
    norms = np.einsum("nk,nk->n", low, low)
    turned = np.ascontiguousarray(low.T)
    two_rows, two_columns = (
        (twos // level.stride).astype(np.int16),
        (twos % level.stride).astype(np.int16),
    )
    best = np.empty(len(ones), np.int64)
    far = np.zeros(len(ones), bool)
    for start in range(0, len(ones), 256):
        part = slice(start, start + 256)
        distance = norms - 2 * table[mine[part]][:, :_LOW] @ turned
        rows = (ones[part] // level.stride).astype(np.int16)[:, None]
        columns = (ones[part] % level.stride).astype(np.int16)[:, None]
        near = (np.abs(two_rows - rows) < _LEAST_OFFSET) & (
            np.abs(two_columns - columns) < _LEAST_OFFSET
        )
        distance[near] = np.inf
        nearest = distance.argmin(1)
        best[part] = twos[nearest]
        far[part] = np.isfinite(distance[np.arange(len(nearest)), nearest])
    down = (best // level.stride - ones // level.stride)[far]
    right = (best % level.stride - ones % level.stride)[far]
    height, width = level.height, level.width
    counts = np.zeros((2 * height - 1, 2 * width - 1), np.float32)
    np.add.at(counts, (height - 1 + down, width - 1 + right), 1)
    counts += counts[::-1, ::-1]
    smooth = ndimage.gaussian_filter(counts, 1.4, mode="constant")
    peaks = (smooth == ndimage.maximum_filter(smooth, 5)) & (smooth > 0)
    down, right = np.nonzero(peaks)
    order = np.argsort(-smooth[down, right], kind="stable")[:_DOMINANT]
    return (down[order] - height + 1) * level.stride + right[order] - width + 1


def _guide_matches(
    level: Level,
    features: PatchFeatures,
    nodes: np.ndarray,
    sources: np.ndarray,
    table: np.ndarray,
    low_known: np.ndarray,
    low_guide: np.ndarray,
    depth: np.ndarray,
) -> np.ndarray:
    """The sources nearest to the guide where it is to be trusted, int64 [n, 12]."""
    found = np.full((len(nodes), _BY_GUIDE), -1, np.int64)
    trusted = np.flatnonzero(depth < 2 * TRUST)
    count = min(_BY_GUIDE, len(sources))
    if len(trusted):
        weight = np.float32(np.sqrt(_PULL))
        tree = cKDTree(np.hstack([table[:, :_COARSEST], weight * low_known[sources]]))
        filled = np.where(level.hole[:, None], level.guide, level.pixels)
        places = nodes[trusted]
        asked = np.hstack([features.at(filled, places)[:, :_COARSEST], weight * low_guide[places]])
        _, nearest = tree.query(asked, count, eps=1.0, workers=_THREADS)
        found[trusted, :count] = sources[nearest].reshape(len(trusted), count)
    return found


def _local_candidates(
    level: Level,
    nodes: np.ndarray,
    sources: np.ndarray,
    table: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Sources at the shifts that patches beside the hole have to their like, int64 [n, 12]."""
    found = np.full((len(nodes), _LOCAL), -1, np.int64)
    reach = 2 * (RADIUS + 3) + 1
    beside = ndimage.maximum_filter(level.grid(level.own), reach).ravel()[sources]
    ring = np.flatnonzero(beside)
    if not len(ring):
        return found
    ring = np.sort(ring[rng.permutation(len(ring))[:1500]])
    places = sources[ring]
    count = min(24, len(sources))
    _, alike = cKDTree(table[:, :_LOW]).query(
        table[ring][:, :_LOW], count, eps=1.0, workers=_THREADS
    )
    alike = sources[alike.reshape(len(ring), count)]
    far = _far_apart(level, alike, places[:, None])
    order = np.argsort(np.where(far, rng.random(alike.shape), 2.0), axis=1)[:, :6]
    shifts = np.take_along_axis(alike, order, 1) - places[:, None]
    shifts[~np.take_along_axis(far, order, 1)] = 0
    tree = cKDTree(np.stack(np.divmod(places, level.stride), 1))
    count = min(24, len(ring))
    _, nearest = tree.query(np.stack(np.divmod(nodes, level.stride), 1), count)
    offered = shifts[nearest.reshape(len(nodes), count)].reshape(len(nodes), -1)
    candidates = np.where(offered != 0, _sources_at(level, nodes[:, None] + offered), -1)
    drawn = np.where(candidates >= 0, rng.random(candidates.shape), 2.0)
    order = np.argpartition(drawn, min(_LOCAL, drawn.shape[1] - 1), axis=1)[:, :_LOCAL]
    taken = np.take_along_axis(candidates, order, 1)
    found[:, : taken.shape[1]] = taken
    return found


def _without_repeats(labels: np.ndarray) -> np.ndarray:
    """Each node's labels once, -1 in the place of the others."""
    labels = np.sort(labels, axis=1)
    labels[:, 1:][labels[:, 1:] == labels[:, :-1]] = -1
    return labels


def _sorted(labels: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels by cost, the columns that no node has left out."""
    width = max(1, int((labels >= 0).sum(1).max()))
    order = np.argsort(costs, axis=1, kind="stable")[:, :width]
    return np.take_along_axis(labels, order, 1), np.take_along_axis(costs, order, 1)


def _unary(
    level: Level,
    nodes: np.ndarray,
    labels: np.ndarray,
    low_known: np.ndarray,
    low_guide: np.ndarray,
    pull: np.ndarray,
) -> np.ndarray:
    """Costs of single labels, float32 [n, K]; 10⁶ where there is none.

    16 · Σ_r g_r ‖I(q + r) − I(p + r)‖² over the known pixels r of the patch, plus the pull to the
    guide times ‖low_I(q) − low_N(p)‖², plus 1200 · |y_q − y_p| / H, H the window's: pictures are
    upright, and what lies at one height, rows of windows, a shelf, the ground, is alike.
    """
    usable = np.maximum(labels, 0)
    difference = low_known[usable] - low_guide[nodes][:, None]
    costs = pull[:, None] * np.einsum("nkc,nkc->nk", difference, difference)
    rise = np.abs(usable // level.stride - (nodes // level.stride)[:, None])
    costs += np.float32(_UPRIGHT / level.height) * rise
    gaussian = gaussian_weight().astype(np.float32)
    known = patches((~level.hole).astype(np.float32)[:, None], level.stride, nodes)
    for node in np.array_split(np.arange(len(nodes)), max(1, len(nodes) // 128)):
        node = node[known[node].any(1)]
        pairs = np.argwhere(labels[node] >= 0)
        if not len(pairs):
            continue
        of, column = node[pairs[:, 0]], pairs[:, 1]
        there = patches(level.pixels, level.stride, labels[of, column])
        there -= patches(level.pixels, level.stride, nodes[node])[pairs[:, 0]]
        np.square(there, out=there)
        weight = np.repeat(known[node] * gaussian, 3, axis=1)
        costs[of, column] += _KNOWN_WEIGHT * np.einsum("nd,nd->n", there, weight[pairs[:, 0]])
    costs[labels < 0] = _NO_SOURCE
    return costs.astype(np.float32)


def _pair_costs(
    level: Level,
    table: np.ndarray,
    row_of: np.ndarray,
    labels: np.ndarray,
    edges: tuple[np.ndarray, np.ndarray, int],
) -> np.ndarray:
    """V(i, j) = ‖f(q_i + step) − f(q_j)‖², float32 [K, K, E]; + 200 if q_i + step is no source."""
    first, second, step = edges
    width = labels.shape[1]
    costs = np.empty((width, width, len(first)), np.float32)
    for start in range(0, len(first), _EDGES_AT_ONCE):
        part = slice(start, start + _EDGES_AT_ONCE)
        places, others = labels[first[part]], labels[second[part]]
        beside = _sources_at(level, places + step)
        missing = beside < 0
        one = table[row_of[np.where(missing, places, beside)]]
        two = table[row_of[others]]
        V = one @ (-2 * two.transpose(0, 2, 1))
        V += np.einsum("ekf,ekf->ek", one, one)[:, :, None]
        V += np.einsum("ekf,ekf->ek", two, two)[:, None, :]
        np.maximum(V, 0, out=V)
        V[(places + step)[:, :, None] == others[:, None, :]] = 0
        V += np.float32(_BEYOND) * missing[:, :, None]
        costs[..., part] = V.transpose(1, 2, 0)
    return costs
