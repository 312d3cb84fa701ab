"""Classical fills, methods that learn nothing: what any trained network has to beat.

Those of OpenCV, scikit-image and PyPatchMatch need the extra `eval`. Each takes what
`base.Method.fill` says and looks at nothing but image and mask.
"""

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Method, Noise, Variables
from gmsrm_jax.nn.smooth_fill import smooth_fill
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.pixels import to_bytes, to_signed

# Neighbourhood of a pixel that is filled [px]; OpenCV's own examples use 3.
_OPENCV_RADIUS = 3.0
# Of a patch that is compared, 7 x 7 px [px]; PyPatchMatch's own examples use 3.
_PATCH_RADIUS = 3


def mean_colour(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fills with the mean of the known pixels of each channel.

    Args:
        image: float32 [N, S, S, 3] in [-1, 1]; what lies in the hole is not looked at.
        mask: float32 [N, S, S, 1], 1 in the hole.

    Returns:
        float32 [N, S, S, 3], constant over each picture; mid-grey (0) where no pixel is known.
    """
    known = 1.0 - mask.astype(np.float64)
    total = np.sum(image * known, axis=(1, 2), keepdims=True)
    count = np.sum(known, axis=(1, 2), keepdims=True)
    colour = total / np.maximum(count, 1.0)
    return np.broadcast_to(colour, image.shape).astype(np.float32)


def telea(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """OpenCV's fast marching fill (Telea 2004), radius 3 px; shapes as for `mean_colour`."""
    cv2 = importlib.import_module("cv2")
    return _each(
        image, mask, lambda x, hole: cv2.inpaint(x, hole, _OPENCV_RADIUS, cv2.INPAINT_TELEA)
    )


def navier_stokes(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """OpenCV's fluid dynamics fill (Bertalmio et al. 2001), radius 3 px; as `mean_colour`."""
    cv2 = importlib.import_module("cv2")
    return _each(image, mask, lambda x, hole: cv2.inpaint(x, hole, _OPENCV_RADIUS, cv2.INPAINT_NS))


def biharmonic(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """scikit-image's biharmonic fill (Damelin and Hoang 2018); shapes as for `mean_colour`.

    It solves a linear system as large as the hole, in seconds to minutes for a picture.
    """
    restoration = importlib.import_module("skimage.restoration")

    def fill(x: np.ndarray, hole: np.ndarray) -> np.ndarray:
        filled = restoration.inpaint_biharmonic(x / 255.0, hole.astype(bool), channel_axis=-1)
        return np.clip(filled, 0.0, 1.0) * 255.0

    return _each(image, mask, fill)


def patchmatch(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """PyPatchMatch's fill from the picture's own patches of 7 x 7 px; as `mean_colour`.

    Barnes et al. 2009, from coarse to fine; equal pictures get equal fills. Without a known pixel
    it is black.
    """
    library = importlib.import_module("patchmatch.patch_match")
    return _each(image, mask, lambda x, hole: library.inpaint(x, hole, patch_size=_PATCH_RADIUS))


def _method(
    name: str,
    title: str,
    fill: Callable[..., Any],
    needs: tuple[str, ...] = (),
    compiled: bool = False,
) -> Method:
    """A method without variables, noise and fields."""

    def alone(config: ConfigDict, variables: Variables, image: Any, mask: Any, noise: Noise) -> Any:
        del config, variables, noise
        return fill(image, mask)

    return Method(
        name=name,
        title=title,
        priors="",
        about=str(fill.__doc__),
        fill=alone,
        needs=needs,
        compiled=compiled,
    )


CLASSICAL: dict[str, Method] = {
    method.name: method
    for method in (
        _method("mean", "mean colour", mean_colour),
        _method("smooth", "smooth (pull-push)", smooth_fill, compiled=True),
        _method("telea", "Telea (OpenCV)", telea, ("cv2",)),
        _method("ns", "Navier-Stokes (OpenCV)", navier_stokes, ("cv2",)),
        _method(
            "biharmonic",
            "biharmonic (scikit-image)",
            biharmonic,
            ("skimage.restoration",),
        ),
        _method("patchmatch", "PatchMatch (PyPatchMatch)", patchmatch, ("patchmatch",)),
    )
}
"""By their names on the command line."""

_PACKAGES = {
    "cv2": "opencv-python-headless",
    "skimage.restoration": "scikit-image",
    "patchmatch": "pypatchmatch",
}


def check_packages(methods: Iterable[Method]) -> None:
    """Checks that what some fills import is there, without filling anything.

    Raises:
        UserError: a package is missing; names it.
    """
    for method in methods:
        for package in method.needs:
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise UserError(
                    f"baseline {method.name} needs {_PACKAGES[package]}, which cannot be imported "
                    f'({error}); pip install "gmsrm-jax[eval]", or leave it out'
                ) from error


def _each(
    image: np.ndarray,
    mask: np.ndarray,
    fill: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Fills pictures one by one; `fill` takes and gives 0..255, uint8 [S, S, 3] and [S, S]."""
    pixels = to_bytes(image)
    holes = mask[..., 0].astype(np.uint8)
    filled = [fill(x, hole) for x, hole in zip(pixels, holes, strict=True)]
    return to_signed(np.stack(filled))
