"""Patches as a few numbers whose squared distance is that of the patches."""

import numpy as np

from gmsrm_jax.inference.detail.levels import RADIUS, Level

_SIDE = 2 * RADIUS + 1
_SIGMA = 2.5  # of the Gaussian weight inside a patch, pixels
_GRADIENTS = 1.0  # weight of differences beside that of colours
_SAMPLES = 4000
_AT_ONCE = 8192


def patches(values: np.ndarray, stride: int, places: np.ndarray) -> np.ndarray:
    """The 7×7 patches around places, float32 [n, 49 · C], from a flat picture float32 [P, C]."""
    channels = values.shape[1]
    rows = np.lib.stride_tricks.sliding_window_view(values.ravel(), _SIDE * channels)
    first = (places - RADIUS * (stride + 1)) * channels
    found = np.empty((len(places), _SIDE, _SIDE * channels), np.float32)
    for row in range(_SIDE):
        found[:, row] = rows[first + row * stride * channels]
    return found.reshape(len(places), -1)


def gaussian_weight() -> np.ndarray:
    """Weight g of each pixel of a patch, of sum 1, float64 [49]."""
    line = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * _SIGMA**2))
    weight = np.outer(line, line).ravel()
    return weight / weight.sum()


def patch_metric() -> np.ndarray:
    """M of the distance (x − y)ᵀ M (x − y) of two patches, float64 [147, 147].

    Colours weighted by a normalised Gaussian g, and their horizontal and vertical differences by
    the geometric mean of g at both ends: M = (diag(g) + w · Dᵀ diag(g_edge) D) ⊗ I₃.
    """
    weight = gaussian_weight()
    number = np.arange(_SIDE**2).reshape(_SIDE, _SIDE)
    ends = [(number[:, :-1], number[:, 1:]), (number[:-1], number[1:])]
    one, other = (np.concatenate([pair[k].ravel() for pair in ends]) for k in (0, 1))
    difference = np.zeros((len(one), _SIDE**2))
    difference[np.arange(len(one)), one] = -1
    difference[np.arange(len(one)), other] = 1
    edges = np.sqrt(weight[one] * weight[other])
    metric = np.diag(weight) + _GRADIENTS * difference.T @ (edges[:, None] * difference)
    return np.kron(metric, np.eye(3))


class PatchFeatures:
    """The leading components of patches under `patch_metric`, for one level.

    With M = L Lᵀ, C the covariance of known patches x and V the K leading eigenvectors of Lᵀ C L,
    f = Vᵀ Lᵀ x; ‖f_a − f_b‖² keeps nearly all of the distance, the first components most of it.
    """

    def __init__(self, level: Level, count: int, rng: np.random.Generator):
        """Learns the projection from up to 4000 known patches.

        Args:
            level: with one source at least.
            count: K.
            rng: draws the patches.
        """
        places = np.flatnonzero(level.source)
        chosen = places[rng.permutation(len(places))[:_SAMPLES]]
        known = patches(level.pixels, level.stride, chosen).astype(np.float64)
        self._mean = known.mean(0).astype(np.float32)
        root = np.linalg.cholesky(patch_metric())
        centred = (known - known.mean(0)) @ root
        _, vectors = np.linalg.eigh(centred.T @ centred)
        self._projection = (root @ vectors[:, ::-1][:, :count]).astype(np.float32)
        self._stride = level.stride

    def at(self, pixels: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Features around places of a flat picture float32 [P, 3]: float32 [n, K]."""
        found = np.empty((len(places), self._projection.shape[1]), np.float32)
        for start in range(0, len(places), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            rows = patches(pixels, self._stride, places[part])
            rows -= self._mean
            np.matmul(rows, self._projection, out=found[part])
        return found
