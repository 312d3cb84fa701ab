"""Square parts of a batch, a place of its own for each example."""

import jax
import jax.numpy as jnp


def corners_on_hole(key: jax.Array, mask: jax.Array, side: int) -> jax.Array:
    """Draws for each example the upper left corner of a square that meets its hole.

    A hole pixel is drawn, all alike, and lies in the middle where the border allows; without a
    hole any pixel.

    Args:
        key: random key.
        mask: [N, S, S, 1], 1 in the hole.
        side: of the squares, at most S.

    Returns:
        int32 [N, 2], row and column.
    """
    count, size = mask.shape[:2]
    hole = mask.reshape(count, -1).astype(jnp.float32)
    chances = jnp.where(hole.sum(1, keepdims=True) > 0, hole, 1.0)
    index = jax.random.categorical(key, jnp.log(chances), axis=1)
    middle = jnp.stack([index // size, index % size], axis=1)
    return jnp.clip(middle - side // 2, 0, size - side).astype(jnp.int32)


def corners_anywhere(key: jax.Array, count: int, size: int, side: int) -> jax.Array:
    """Draws upper left corners of squares, every place of a picture alike.

    Args:
        key: random key.
        count: N, of squares.
        size: S, of the pictures.
        side: of the squares, at most S.

    Returns:
        int32 [N, 2], row and column.
    """
    return jax.random.randint(key, (count, 2), 0, size - side + 1)


def crop(x: jax.Array, corners: jax.Array, side: int) -> jax.Array:
    """Cuts squares: [N, S, S, C] at corners [N, 2] to [N, side, side, C]."""

    def one(image: jax.Array, corner: jax.Array) -> jax.Array:
        start = (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(image, start, (side, side, image.shape[-1]))

    return jax.vmap(one)(x, corners)
