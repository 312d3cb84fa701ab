"""One request's work: from the bytes of a picture and its hole to PNG files."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import numpy as np

from gmsrm_jax.inference.inpainter import Inpainter, Result
from gmsrm_jax.inference.mask_io import Mask
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.inference.picture_io import Picture, encode_picture, open_picture
from gmsrm_jax.serve.limits import Limits, Refused


@dataclass(frozen=True)
class Filled:
    """A picture with its hole filled.

    Attributes:
        files: a PNG for each sample, at the picture's own size.
        result: what the inpainter says of it, its images taken out.
        notes: what is odd about the picture, its mask or the files, one line each.
    """

    files: list[bytes]
    result: Result
    notes: list[str]


def open_input(data: bytes, limits: Limits) -> Picture:
    """Opens a picture that somebody sent.

    Raises:
        UserError: it cannot be used.
    """
    return open_picture(data, max_pixels=limits.pixels, name="image")


def check_options(options: FillOptions, limits: Limits) -> None:
    """Raises Refused for an option that costs more than the server takes on; 422."""
    for name, most in limits.most.items():
        value = getattr(options, name)
        if value > most:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"{name}: {value}; this server takes at most {most}",
            )


def fill(
    inpainter: Inpainter,
    picture: Picture,
    mask: Mask,
    options: FillOptions,
    limits: Limits,
    check: Callable[[], None],
) -> Filled:
    """Fills a hole.

    Args:
        inpainter: to be used.
        picture: see `open_input`.
        mask: where the hole is.
        options: how; see `check_options`.
        limits: of what is filled.
        check: raises when the time is over; called before each run of the network.

    Raises:
        Refused: the picture is too large for so many samples; 422.
    """
    pixels = picture.width * picture.height
    if options.num_samples * pixels > limits.filled_pixels:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"num_samples: {options.num_samples}; this server makes at most"
            f" {limits.filled_pixels // pixels} of a picture of {pixels} pixels",
        )
    check()
    result = inpainter(picture, mask, **options.model_dump(), on_step=check)
    notes, files = list(result.warnings), []
    while result.images:
        check()
        # Taken out, so that pictures and their files are not all in memory at once.
        encoded = encode_picture(result.images.pop(0), "PNG")
        files.append(encoded.data)
        notes += (note for note in encoded.notes if note not in notes)
    return Filled(files, result, notes)


def painted_mask(picture: Picture, painted: np.ndarray) -> Mask:
    """Makes a mask of a hole that was painted on the whole picture shown at any scale.

    Args:
        picture: what was shown.
        painted: bool [h, w].
    """
    from PIL import Image

    size = (picture.width, picture.height)
    hole = np.asarray(Image.fromarray(painted).resize(size, Image.Resampling.NEAREST))
    return Mask(hole, float(hole.mean()), ())


def united(first: Mask, second: Mask | None) -> Mask:
    """Makes one mask of two of the same size."""
    if second is None:
        return first
    hole = first.hole | second.hole
    return Mask(hole, float(hole.mean()), (*first.warnings, *second.warnings))
