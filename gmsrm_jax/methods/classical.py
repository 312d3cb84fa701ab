"""Fillings without training: what any trained model has to beat.

Each takes (image, mask, example_index) and gives the raw output, as `evaluate.Fill` says. Those of
OpenCV and scikit-image need the extra `eval`.
"""

from collections.abc import Callable, Iterable
from types import ModuleType

import jax
import numpy as np

from gmsrm_jax.nn.smooth_fill import smooth_fill
from gmsrm_jax.runtime.errors import UserError

# Neighbourhood of a pixel that is filled [px]; OpenCV's own examples use 3.
_OPENCV_RADIUS = 3.0


def mean_colour(image: np.ndarray, mask: np.ndarray, example_index: np.ndarray) -> np.ndarray:
    """Fills with the mean of the known pixels of each channel.

    Args:
        image: float32 [N, S, S, 3] in [-1, 1], holes zeroed.
        mask: float32 [N, S, S, 1], 1 in the hole.
        example_index: int32 [N], not used.

    Returns:
        float32 [N, S, S, 3], constant over each picture; mid-grey (0) where no pixel is known.
    """
    del example_index
    known = 1.0 - mask.astype(np.float64)
    total = np.sum(image * known, axis=(1, 2), keepdims=True)
    count = np.sum(known, axis=(1, 2), keepdims=True)
    colour = total / np.maximum(count, 1.0)
    return np.broadcast_to(colour, image.shape).astype(np.float32)


def smooth(image: np.ndarray, mask: np.ndarray, example_index: np.ndarray) -> np.ndarray:
    """Pull-push, what a network with `model.smooth_skip` corrects; shapes as for `mean_colour`."""
    del example_index
    return np.asarray(jax.jit(smooth_fill)(image, mask))


def telea(image: np.ndarray, mask: np.ndarray, example_index: np.ndarray) -> np.ndarray:
    """OpenCV's fast marching fill (Telea 2004), radius 3 px; shapes as for `mean_colour`."""
    del example_index
    cv2 = _opencv()
    return _each(
        image, mask, lambda x, hole: cv2.inpaint(x, hole, _OPENCV_RADIUS, cv2.INPAINT_TELEA)
    )


def navier_stokes(image: np.ndarray, mask: np.ndarray, example_index: np.ndarray) -> np.ndarray:
    """OpenCV's fluid dynamics fill (Bertalmio et al. 2001), radius 3 px; as `mean_colour`."""
    del example_index
    cv2 = _opencv()
    return _each(image, mask, lambda x, hole: cv2.inpaint(x, hole, _OPENCV_RADIUS, cv2.INPAINT_NS))


def biharmonic(image: np.ndarray, mask: np.ndarray, example_index: np.ndarray) -> np.ndarray:
    """scikit-image's biharmonic fill (Damelin and Hoang 2018); shapes as for `mean_colour`.

    It solves a linear system as large as the hole, in seconds to minutes for a picture.
    """
    del example_index
    inpaint_biharmonic = _inpaint_biharmonic()

    def fill(x: np.ndarray, hole: np.ndarray) -> np.ndarray:
        filled = inpaint_biharmonic(x / 255.0, hole.astype(bool), channel_axis=-1)
        return np.clip(filled, 0.0, 1.0) * 255.0

    return _each(image, mask, fill)


BASELINES: dict[str, tuple[str, Callable[..., np.ndarray]]] = {
    "mean": ("mean colour", mean_colour),
    "smooth": ("smooth (pull-push)", smooth),
    "telea": ("Telea (OpenCV)", telea),
    "ns": ("Navier-Stokes (OpenCV)", navier_stokes),
    "biharmonic": ("biharmonic (scikit-image)", biharmonic),
}
"""Name on the command line -> row of the tables, method."""


def check_baselines(names: Iterable[str]) -> None:
    """Checks that the packages of the named baselines are there, without filling anything.

    Raises:
        UserError: one is missing; names it.
    """
    for name in names:
        if name in ("telea", "ns"):
            _opencv()
        elif name == "biharmonic":
            _inpaint_biharmonic()


def _each(
    image: np.ndarray,
    mask: np.ndarray,
    fill: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Fills pictures one by one; `fill` takes and gives 0..255, uint8 [S, S, 3] and [S, S]."""
    pixels = np.rint((image + 1.0) * 127.5).astype(np.uint8)
    holes = mask[..., 0].astype(np.uint8)
    filled = [fill(x, hole) for x, hole in zip(pixels, holes, strict=True)]
    return (np.stack(filled) / 127.5 - 1.0).astype(np.float32)


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise _missing("telea and ns", "opencv-python-headless", error) from error
    return cv2


def _inpaint_biharmonic() -> Callable[..., np.ndarray]:
    try:
        from skimage.restoration import inpaint_biharmonic
    except ImportError as error:
        raise _missing("biharmonic", "scikit-image", error) from error
    return inpaint_biharmonic


def _missing(names: str, package: str, error: ImportError) -> UserError:
    return UserError(
        f"baselines {names} need {package}, which cannot be imported ({error}); "
        'pip install "gmsrm-jax[eval]", or leave them out'
    )
