"""Contextual attention patch by patch in float64, with nothing of the package."""

import numpy as np


def corner_grid(size: int) -> list[int]:
    """TensorFlow 1's nearest neighbours with aligned corners."""
    half = size // 2
    return [int(np.floor(i * (size - 1) / (half - 1) + 0.5)) for i in range(half)]


def by_loops(x: np.ndarray, mask: np.ndarray, fuse: bool, grid: str) -> np.ndarray:
    """One example [H, H, C] in float64; mask [S, S], S = H · 2^k."""
    size, channels = x.shape[0], x.shape[2]
    half = size // 2

    def kept(length: int) -> list[int]:
        return corner_grid(length) if grid == "corners" else list(range(0, length, 2))

    small = x[kept(size)][:, kept(size)]
    while mask.shape[0] > half:
        mask = mask[kept(mask.shape[0])][:, kept(mask.shape[0])]
    places = [(i, j) for i in range(half) for j in range(half)]
    around, valid = np.pad(small, [(1, 1), (1, 1), (0, 0)]), np.zeros(half * half)
    holes = np.pad(mask, 1)
    patches = np.zeros((half * half, 9 * channels))
    for number, (i, j) in enumerate(places):
        patches[number] = around[i : i + 3, j : j + 3].reshape(-1)
        valid[number] = holes[i : i + 3, j : j + 3].sum() == 0
    keys = patches / np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), 1e-4)
    scores = patches @ keys.T

    def number_of(i: int, j: int, by_columns: bool) -> int:
        return j * half + i if by_columns else i * half + j

    for by_columns in (False, True) if fuse else ():
        order = [number_of(i, j, by_columns) for i, j in places]
        back = np.argsort(order)
        numbered, summed = scores[back][:, back], np.zeros_like(scores)
        for q in range(half * half):
            for k in range(half * half):
                for t in (-1, 0, 1):
                    if 0 <= q + t < half * half and 0 <= k + t < half * half:
                        summed[q, k] += numbered[q + t, k + t]
        scores = summed[order][:, order]
    weights = np.exp(10 * scores * valid)
    weights = weights / weights.sum(1, keepdims=True) * valid
    output, source = np.zeros((size + 2, size + 2, channels)), np.pad(x, [(1, 1), (1, 1), (0, 0)])
    for q, (i, j) in enumerate(places):
        for k, (u, v) in enumerate(places):
            part = source[2 * u : 2 * u + 4, 2 * v : 2 * v + 4]
            output[2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += weights[q, k] * part
    return output[1:-1, 1:-1] / 4
