"""Pixels between their kinds: 0 … 255 and [-1, 1], picture and filling. Of NumPy or of JAX.

Every function gives the kind of array that it takes, and can be traced.
"""

from typing import Any

Array = Any  # numpy.ndarray or jax.Array


def to_signed(image: Array) -> Array:
    """Images 0 … 255, of any type, to float32 [-1, 1]: v / 127.5 - 1."""
    return image.astype("float32") / 127.5 - 1.0


def to_unit(signed: Array) -> Array:
    """Images [-1, 1] to [0, 1], in the format that they have: v / 2 + 1/2."""
    return 0.5 * signed + 0.5


def to_levels(signed: Array) -> Array:
    """Images [-1, 1], clipped to that, to float32 0 … 255, not rounded: (v + 1) · 127.5."""
    return (signed.astype("float32").clip(-1.0, 1.0) + 1.0) * 127.5


def to_bytes(signed: Array) -> Array:
    """Images [-1, 1], clipped to that, to uint8, rounded to the nearest, halves to even."""
    return to_levels(signed).round().astype("uint8")


def composite(image: Array, filled: Array, mask: Array) -> Array:
    """I·(1 - M) + Î·M: known pixels of the image, the hole of the filling, both exact.

    Args:
        image: [..., S, S, 3] of any type and range.
        filled: [..., S, S, 3] of the same type and range, finite.
        mask: [..., S, S, 1], 1 in the hole and 0 elsewhere, of any type.
    """
    hole = mask.astype(image.dtype)
    return image * (1 - hole) + filled * hole
