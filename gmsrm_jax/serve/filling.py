"""One request's work: from the bytes of a picture and its hole to PNG files."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from gmsrm_jax.inference.inpainter import Inpainter, Result
from gmsrm_jax.inference.mask_io import Mask
from gmsrm_jax.inference.picture_io import Picture, encode_picture, open_picture
from gmsrm_jax.serve.limits import Limits, Refused

MAX_SEED = 2**32 - 65  # leaves room for the seeds of further samples
MAX_FEATHER = 256


class Options(BaseModel):
    """How to fill."""

    model_config = ConfigDict(extra="forbid", strict=True)

    num_samples: Annotated[int, Field(ge=1, description="how many different fillings")] = 1
    seed: Annotated[
        int, Field(ge=0, le=MAX_SEED, description="of the first filling, the next has seed + 1")
    ] = 0
    strategy: Annotated[
        Literal["auto", "resize", "crop", "tile"],
        Field(description="how the network, of one size, is used for pictures of any size"),
    ] = "auto"
    feather: Annotated[
        int,
        Field(ge=0, le=MAX_FEATHER, description="pixels of blending, inside the hole only"),
    ] = 0


class MaskOptions(BaseModel):
    """How to read a mask, or the picture's transparency in its place."""

    model_config = ConfigDict(extra="forbid", strict=True)

    mask_invert: Annotated[bool, Field(description="black, or what is opaque, is the hole")] = False
    mask_threshold: Annotated[
        int, Field(ge=1, le=255, description="value from which on a pixel is white, or opaque")
    ] = 128
    mask_dilate: Annotated[
        int, Field(ge=0, le=256, description="pixels by which the hole grows on every side")
    ] = 0
    mask_resize: Annotated[
        Literal["nearest"] | None,
        Field(description='"nearest" fits a mask of another size; otherwise it is refused'),
    ] = None


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


def fill(
    inpainter: Inpainter,
    picture: Picture,
    mask: Mask,
    options: Options,
    limits: Limits,
    check: Callable[[], None],
) -> Filled:
    """Fills a hole.

    Args:
        inpainter: to be used.
        picture: see `open_input`.
        mask: where the hole is.
        options: how; the number of samples is checked already.
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
