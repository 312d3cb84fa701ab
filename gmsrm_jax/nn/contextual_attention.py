"""Contextual attention (Yu et al., arXiv 1801.07892): the hole from known patches.

Every 3×3 patch of a halved map is compared with all others, and painted anew with a mean of their
4×4 patches at full size. All of it is two products of matrices for each example; P = (H / 2)²
patches are numbered row by row.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from gmsrm_jax.nn.partial import dilated

Grid = Literal["even", "corners"]
SCALE = 10.0  # of the scores, before the softmax
_SMALLEST_NORM = 1e-4


def contextual_attention(
    x: jax.Array, mask: jax.Array, *, fuse: bool = True, grid: Grid = "even"
) -> jax.Array:
    """Paints a map anew from its own known patches.

        S = Q · Kᵀ with Q 3×3 patches, K the same with norm 1          [P, P]
        A = softmax over keys of (10 · S · m), times m; m = 1 for keys without a hole
        output = overlapping 4×4 patches A · V, summed at stride 2, divided by 4

    Scores of keys in the hole are 0, not -∞, and stay in the denominator: weights sum to less than
    1. The outermost pixels are in fewer patches than 4 and come out darker. Both are the authors'.

    Args:
        x: [N, H, H, C], H even.
        mask: [N, S, S, 1], 1 in the hole; S = H · 2^k.
        fuse: prefer neighbours that look at neighbours, see `fused`.
        grid: which pixels are kept when a map is halved, see `halved`.

    Returns:
        [N, H, H, C] in x's format; softmax and sums are float32.
    """
    n, size, _, channels = x.shape
    half = size // 2
    values = _patches(x, 4, 2).reshape(n, half * half, 16 * channels)
    queries = _patches(halved(x, grid), 3, 1).reshape(n, half * half, 9 * channels)
    # The maximum stands inside the root, whose gradient at 0 is infinite.
    power = jnp.square(queries.astype(jnp.float32)).sum(-1, keepdims=True)
    keys = queries / jnp.sqrt(jnp.maximum(power, _SMALLEST_NORM**2)).astype(x.dtype)
    scores = _products("nqc,nkc->nqk", queries, keys)
    if fuse:
        scores = fused(scores)
    valid = known_patches(mask, half, grid).reshape(n, 1, half * half)
    weights = jax.nn.softmax(SCALE * scores * valid, axis=-1) * valid
    painted = _products("nqk,nkv->nqv", weights.astype(x.dtype), values)
    return (_overlapped(painted.reshape(n, half, half, 4, 4, channels)) / 4.0).astype(x.dtype)


def halved(x: jax.Array, grid: Grid) -> jax.Array:
    """Half of the pixels along both sides, [N, H, W, C] to [N, H / 2, W / 2, C].

    Args:
        x: sides of even length.
        grid: "even": every second pixel from the first; "corners": as TensorFlow 1 resizes to the
            nearest with aligned corners, ⌊i · (H - 1) / (H / 2 - 1) + ½⌋, which the authors' code
            does.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        if grid == "even":
            x = jax.lax.slice_in_dim(x, 0, size, 2, axis)
        else:
            step = (size - 1) / max(size // 2 - 1, 1)
            kept = np.floor(np.arange(size // 2) * step + 0.5).astype(np.int32)
            x = jnp.take(x, kept, axis, mode="clip")
    return x


def known_patches(mask: jax.Array, size: int, grid: Grid) -> jax.Array:
    """1 for 3×3 patches without a hole, of the mask at size × size; what lies outside is known.

    Args:
        mask: [N, S, S, 1], 1 in the hole, S = size · 2^k; what lies between counts from 0.5 on.
        size: patches along a side.
        grid: see `halved`.

    Returns:
        float32 [N, size, size, 1].
    """
    hole = (mask >= 0.5).astype(jnp.float32)
    while hole.shape[1] > size:
        hole = halved(hole, grid)
    return 1.0 - dilated(hole)


def fused(scores: jax.Array) -> jax.Array:
    """Adds the scores of the neighbours to both sides, S'[q, k] = Σ S[q + t, k + t], t = -1, 0, 1.

    Once with patches numbered row by row, then column by column; zeros lie outside. Neighbours at
    the ends of rows are those in the numbering, as the authors have it.

    Args:
        scores: [N, P, P], P a square number.
    """
    n, count, _ = scores.shape
    side = round(count**0.5)

    def along_diagonals(s: jax.Array) -> jax.Array:
        padded = jnp.pad(s, [(0, 0), (1, 1), (1, 1)])
        before, after = (_cut(_cut(padded, t, count, 1), t, count, 2) for t in (0, 2))
        return before + s + after

    def renumbered(s: jax.Array) -> jax.Array:
        both = s.reshape(n, side, side, side, side).transpose(0, 2, 1, 4, 3)
        return both.reshape(n, count, count)

    return renumbered(along_diagonals(renumbered(along_diagonals(scores))))


def _products(formula: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """An einsum whose sums are float32, whatever the format of what is multiplied."""
    return jnp.einsum(formula, left, right, preferred_element_type=jnp.float32)


def _patches(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Windows of x with a border of one zero, the pixels of each row by row.

    [N, H, W, C] to [N, H / stride, W / stride, size², C].
    """
    padded = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    height, width = (length - stride + 1 for length in x.shape[1:3])
    rows = [_cut(padded, a, height, 1, stride) for a in range(size)]
    return jnp.stack([_cut(row, b, width, 2, stride) for row in rows for b in range(size)], 3)


def _cut(x: jax.Array, start: int, length: int, axis: int, stride: int = 1) -> jax.Array:
    return jax.lax.slice_in_dim(x, start, start + length, stride, axis)


def _overlapped(patches: jax.Array) -> jax.Array:
    """Sums of 4×4 patches at stride 2 whose border of one pixel is cut off, where they overlap.

    Patch (i, j) begins at pixel (2i - 1, 2j - 1): the transpose of `_patches`.

    Args:
        patches: [N, H, W, 4, 4, C].

    Returns:
        [N, 2H, 2W, C].
    """
    n, h, w, _, _, channels = patches.shape

    def summed(windows: list[jax.Array], axis: int) -> jax.Array:
        """Even pixels 2r are in the patches r and r - 1, odd ones 2r + 1 in r and r + 1."""
        pads = [(0, 0)] * windows[0].ndim
        pads[axis] = (1, 1)
        length = windows[0].shape[axis]
        before = _cut(jnp.pad(windows[3], pads), 0, length, axis)
        after = _cut(jnp.pad(windows[0], pads), 2, length, axis)
        return jnp.stack([windows[1] + before, windows[2] + after], axis + 1)

    of_rows = [_cut(patches, a, 1, 3).reshape(n, h, w, 4, channels) for a in range(4)]
    rows = summed(of_rows, 1).reshape(n, 2 * h, w, 4, channels)
    of_columns = [_cut(rows, b, 1, 3).reshape(n, 2 * h, w, channels) for b in range(4)]
    return summed(of_columns, 2).reshape(n, 2 * h, 2 * w, channels)
