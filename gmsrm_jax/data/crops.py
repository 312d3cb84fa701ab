"""From a picture file's bytes to a training crop, in TensorFlow ops.

Only the pixels that a crop's kernels reach are made where the format allows it, and they are
scaled, cut and mirrored in one resampling. Whether a file can be decoded is a property of the file
alone, never of the crop: every file is read to its end.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gmsrm_jax.data.decoding import JPEG, decode_image
from gmsrm_jax.data.tensorflow_cpu import tf

# Whether rows and columns are mirrored in each EXIF orientation, after the transposition that
# orientations 5 to 8 begin with.
_FLIPS = np.zeros((9, 2), bool)
_FLIPS[[3, 4, 7, 8], 0] = True
_FLIPS[[2, 3, 6, 7], 1] = True
# A JPEG decoder can give a picture reduced by 2, 4 or 8 at a lower cost. It is asked for one that
# is still this much larger than needed; the crop is then within about 50 dB PSNR of the exact one.
_RATIOS = (1, 2, 4, 8)
_RESERVE = 3.0
# The outermost columns of a part of a JPEG can lack their neighbours' colours.
_MARGIN = 1.0  # pixels


class View(NamedTuple):
    """Which square of a picture a crop shows.

    Attributes:
        shorter: float32, shorter side of the scaled picture in pixels, at least the square's side;
            need not be whole.
        corner: float32 [2], (y, x) in [0, 1]: where the square lies between top left and bottom
            right of the upright picture.
        mirror: bool, left and right exchanged.
    """

    shorter: tf.Tensor
    corner: tf.Tensor
    mirror: tf.Tensor


class Window(NamedTuple):
    """The part of a decoded picture that a crop needs, and what becomes of it.

    Pairs are (rows, columns) of the decoded picture.

    Attributes:
        reduction: int32, index in _RATIOS of what the picture is reduced by.
        sides: int32 [2], of the reduced picture.
        low: int32 [2], first pixel.
        high: int32 [2], first pixel behind.
        scale: float32, from pixels of the window to those of the crop.
        translation: float32 [2], where the window's top left lies in the crop, in its pixels.
        flips: bool [2], axes to reverse.
        turned: bool, axes to exchange after that.
    """

    reduction: tf.Tensor
    sides: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor
    scale: tf.Tensor
    translation: tf.Tensor
    flips: tf.Tensor
    turned: tf.Tensor


def decode_crop(
    encoded: tf.Tensor, header: tf.Tensor, view: View, size: int, max_pixels: int
) -> tf.Tensor:
    """Decodes a picture and makes a crop of it, antialiased bicubic (Keys, a = -0.5, as Pillow).

    Args:
        encoded: the picture file's bytes, a scalar string.
        header: int32 [4], the numbers of its `decoding.Header`.
        view: the square to show.
        size: side S of the crop in pixels.
        max_pixels: see `decoding.decode_image`.

    Returns:
        uint8 [S, S, 3]. Running it raises tf.errors.OpError if the file cannot be decoded.
    """
    codec, orientation = header[0], header[1]

    def jpeg() -> tf.Tensor:
        window = find_window(header[2:], orientation, view, size, _RATIOS)
        # Down to the last row: the decoder then meets all damage that there is, wherever the crop
        # lies. It is spared the colours of the columns on both sides.
        extent = window.high - window.low
        part = tf.stack([window.low[0], window.low[1], window.sides[0] - window.low[0], extent[1]])
        decoders = [
            functools.partial(
                tf.io.decode_and_crop_jpeg,
                encoded,
                part,
                channels=3,
                ratio=ratio,
                dct_method="INTEGER_ACCURATE",
            )
            for ratio in _RATIOS
        ]
        return resample(tf.switch_case(window.reduction, decoders)[: extent[0]], window, size)

    def pillow() -> tf.Tensor:
        decoded = tf.numpy_function(
            lambda data: decode_image(data, max_pixels), [encoded], tf.uint8, stateful=False
        )
        decoded = tf.ensure_shape(decoded, [None, None, 3])
        window = find_window(tf.shape(decoded)[:2], tf.constant(1), view, size, _RATIOS[:1])
        (top, left), (bottom, right) = tf.unstack(window.low), tf.unstack(window.high)
        return resample(decoded[top:bottom, left:right], window, size)

    return tf.cond(codec == JPEG, jpeg, pillow)


def find_window(
    sides: tf.Tensor, orientation: tf.Tensor, view: View, size: int, ratios: Sequence[int]
) -> Window:
    """Returns what to decode for a crop.

    Args:
        sides: int32 [2], (rows, columns) as stored.
        orientation: int32, EXIF orientation that they are stored in, 1 to 8.
        view: the square to show.
        size: side S of the crop in pixels.
        ratios: what a decoder can reduce by, ascending from 1.
    """
    flips = tf.gather(_FLIPS, orientation)
    corner = tf.where(flips, 1.0 - view.corner, view.corner)
    flips = flips ^ tf.stack([False, view.mirror])
    turned = orientation >= 5
    flips, corner = _swap(flips, turned), _swap(corner, turned)

    # In float64: pictures may be a hundred thousand pixels wide.
    exact = tf.cast(sides, tf.float64)
    scale = tf.cast(view.shorter, tf.float64) / tf.reduce_min(exact)
    offset = tf.cast(corner, tf.float64) * (scale * exact - size)
    small_enough = tf.constant(ratios[1:], tf.float64) * scale * _RESERVE <= 1.0
    reduction = tf.reduce_sum(tf.cast(small_enough, tf.int32))
    ratio = tf.gather(tf.constant(ratios), reduction)
    sides = (sides + ratio - 1) // ratio
    scale *= tf.cast(ratio, tf.float64)
    # The kernel's radius is 2 in the coarser of the two grids.
    reach = 2.0 * tf.maximum(1.0 / scale, 1.0) + _MARGIN
    low = tf.maximum(tf.cast(tf.floor(offset / scale - reach), tf.int32), 0)
    high = tf.minimum(tf.cast(tf.math.ceil((offset + size) / scale + reach), tf.int32), sides)
    translation = tf.cast(low, tf.float64) * scale - offset
    scale, translation = tf.cast(scale, tf.float32), tf.cast(translation, tf.float32)
    return Window(reduction, sides, low, high, scale, translation, flips, turned)


def resample(pixels: tf.Tensor, window: Window, size: int) -> tf.Tensor:
    """Makes the crop, uint8 [S, S, 3], from the window's pixels, uint8 [h, w, 3]."""
    x = pixels
    # Each axis is scaled as the rows of a picture one pixel wide, whose channels are the colours
    # and the other axis. It is three times as fast as scaling both axes at once: inner loops run
    # along the channels. The sums are the same.
    for axis in (0, 1):
        other = tf.shape(x)[1]
        x = tf.raw_ops.ScaleAndTranslate(
            images=tf.reshape(x, [1, -1, 1, other * 3]),
            size=[size, 1],
            scale=tf.stack([window.scale, 1.0]),
            translation=tf.stack([window.translation[axis], 0.0]),
            kernel_type="keyscubic",
            antialias=True,
        )
        x = _flip_rows(tf.reshape(x, [size, other, 3]), window.flips[axis])
        if axis == 0:
            x = tf.transpose(x, [1, 0, 2])
    x = tf.transpose(x, tf.where(window.turned, [0, 1, 2], [1, 0, 2]))
    x = tf.cast(tf.clip_by_value(x, 0.0, 255.0) + 0.5, tf.uint8)
    return tf.ensure_shape(x, [size, size, 3])


def _flip_rows(x: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
    """Reverses the first axis where the condition holds."""
    # Gathering rows copies whole rows; tf.reverse is slower.
    backwards = tf.range(x.shape[0] - 1, -1, -1)
    return tf.cond(condition, lambda: tf.gather(x, backwards), lambda: x)


def _swap(pair: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
    """Exchanges the two elements of a pair where the condition holds."""
    return tf.gather(pair, tf.where(condition, [1, 0], [0, 1]))
