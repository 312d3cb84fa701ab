"""One request's work: from the bytes of a picture and its hole to PNG files."""

from dataclasses import dataclass
from http import HTTPStatus

import numpy as np
from PIL import Image

from gmsrm_jax.inference.inpainter import Inpainter, Result
from gmsrm_jax.inference.mask_io import Mask
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.inference.picture_io import Picture, encode_picture
from gmsrm_jax.serve.limits import Limits, Refused
from gmsrm_jax.serve.worker import Job


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
    job: Job,
) -> Filled:
    """Fills a hole.

    Args:
        inpainter: to be used.
        picture: with a hole.
        mask: where the hole is.
        options: how; see `check_options`.
        limits: of what is filled.
        job: is told what is done, and ends it when the time is over.

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
    fewer = "ask for fewer fillings, " if options.num_samples > 1 else ""
    job.cure = f"{fewer}mark a smaller hole, or give a smaller picture"
    job.check()
    result = inpainter(
        picture, mask, **options.model_dump(), on_step=job.check, progress=job.progress
    )
    notes, files = list(result.warnings), []
    while result.images:
        job.check()
        # Taken out, so that pictures and their files are not all in memory at once.
        encoded = encode_picture(result.images.pop(0), "PNG", picture.info)
        files.append(encoded.data)
        notes += (note for note in encoded.notes if note not in notes)
    return Filled(files, result, notes)


def painted_mask(picture: Picture, painted: np.ndarray) -> Mask:
    """Makes a mask of a hole that was painted on the whole picture shown at any scale.

    Args:
        picture: what was shown.
        painted: bool [h, w].
    """
    size = (picture.width, picture.height)
    hole = np.asarray(Image.fromarray(painted).resize(size, Image.Resampling.NEAREST))
    return Mask(hole, float(hole.mean()), ())


def united(first: Mask, second: Mask) -> Mask:
    """Makes one mask of two of the same size."""
    hole = first.hole | second.hole
    return Mask(hole, float(hole.mean()), (*first.warnings, *second.warnings))
