"""ICC profiles: from a picture's own numbers to sRGB, which the network knows, and back."""

import io

import numpy as np
from PIL import Image, ImageCms

_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
# Levels of 255 by which two ways to write down sRGB differ.
_ROUNDING = 2
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION


class Profile:
    """The conversion between one profile and sRGB, relative colorimetric with black points."""

    def __init__(self, icc_profile: bytes, mode: str):
        """Builds both directions.

        Args:
            icc_profile: the profile's bytes.
            mode: Pillow mode of the numbers that it explains: "L", "RGB" or "CMYK".

        Raises:
            ImageCms.PyCMSError: damaged, for another kind of numbers, or without a way back.
        """
        own = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        srgb = ImageCms.createProfile("sRGB")
        self._forth = ImageCms.buildTransform(own, srgb, mode, "RGB", _INTENT, _FLAGS)
        self._back = ImageCms.buildTransform(srgb, own, "RGB", mode, _INTENT, _FLAGS)
        named = mode == "RGB" and "srgb" in ImageCms.getProfileDescription(own).lower()
        # Linear profiles and wider ones are named after sRGB too.
        self.is_srgb = named and self._changes_little()

    def to_srgb(self, image: Image.Image) -> Image.Image:
        """Returns the picture as sRGB, mode "RGB"."""
        converted = ImageCms.applyTransform(image, self._forth)
        assert converted is not None  # not in place
        return converted

    def from_srgb(self, image: Image.Image) -> Image.Image:
        """Returns an sRGB picture in the profile's own numbers."""
        converted = ImageCms.applyTransform(image, self._back)
        assert converted is not None  # not in place
        return converted

    def _changes_little(self) -> bool:
        steps = np.linspace(0, 255, 6).astype(np.uint8)
        grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(6, 36, 3)
        seen = np.asarray(self.to_srgb(Image.fromarray(grid)))
        return int(np.abs(seen.astype(int) - grid).max()) <= _ROUNDING


def open_profile(icc_profile: bytes | None, mode: str, name: str) -> tuple[Profile | None, str]:
    """Makes the conversion of a picture's profile, where it needs one.

    Returns:
        The conversion, None where the numbers are used as they are; and a warning if the profile
        cannot be used, otherwise "".
    """
    if not icc_profile:
        return None, ""
    try:
        profile = Profile(icc_profile, mode)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        return None, f"{name}: its colour profile is kept but not applied ({reason})"
    return (None if profile.is_srgb else profile), ""
