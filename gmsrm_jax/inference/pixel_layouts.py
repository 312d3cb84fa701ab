"""Every way pixels are laid out: Pillow's modes and arrays, to sRGB bytes and back.

A layout is Pillow's name of a mode, or one with ";16" behind it for arrays of 16 bits per channel.
Its numbers ("native") become 8-bit grey, RGB or CMYK ("plain", what colour profiles explain), and
plain numbers become sRGB. Only pixels in holes ever go the way back.
"""

import numpy as np
from PIL import Image

from gmsrm_jax.inference.icc import Profile, open_profile
from gmsrm_jax.inference.number_range import NumberRange, find_range

LAYOUTS = ("1", "L", "LA", "I", "F", "I;16", "LA;16", "RGB", "RGBA", "CMYK", "RGB;16", "RGBA;16")
_GREY = LAYOUTS[:7]
_WITH_ALPHA = ("LA", "RGBA", "LA;16", "RGBA;16")


def plain_mode(layout: str) -> str:
    """Returns the Pillow mode of a layout's plain numbers: "L", "RGB" or "CMYK"."""
    return "L" if layout in _GREY else "CMYK" if layout == "CMYK" else "RGB"


def to_plain(
    native: np.ndarray, layout: str, numbers: NumberRange
) -> tuple[Image.Image, np.ndarray | None]:
    """Returns the plain picture, and alpha as uint8 [H, W] where the layout has it."""
    alpha = None
    if layout == "1":
        native = native.astype(np.uint8) * np.uint8(255)
    if layout in _WITH_ALPHA:
        native, alpha = native[..., :-1], native[..., -1]
        alpha = numbers._replace(white=numbers.opaque, black=0.0).to_bytes(alpha)
    return as_image(numbers.to_bytes(native), plain_mode(layout)), alpha


def from_plain(plain: Image.Image, layout: str, numbers: NumberRange) -> np.ndarray:
    """Returns opaque native numbers of a plain picture, in a dtype that casts to the layout's."""
    levels = np.asarray(plain)
    if layout == "1":
        return levels >= 128
    native = numbers.from_bytes(levels)
    if layout in _WITH_ALPHA:
        native = np.dstack([native, np.full(levels.shape[:2], numbers.opaque, native.dtype)])
    return native


def to_srgb(plain: Image.Image, profile: Profile | None) -> np.ndarray:
    """Returns sRGB bytes, uint8 [H, W, 3]."""
    converted = profile.to_srgb(plain) if profile else plain.convert("RGB")
    return np.asarray(converted)


def from_srgb(rgb: np.ndarray, mode: str, profile: Profile | None) -> Image.Image:
    """Returns sRGB bytes [H, W, 3] as a plain picture."""
    image = Image.fromarray(np.ascontiguousarray(rgb))
    return profile.from_srgb(image) if profile else image.convert(mode)


def as_image(native: np.ndarray, mode: str) -> Image.Image:
    """Returns native numbers as a Pillow image of this mode, bit for bit."""
    height, width = native.shape[:2]
    if mode == "1":
        return Image.fromarray(np.ascontiguousarray(native))
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(native).tobytes())


def converted(image: Image.Image, info: dict, held: tuple[str, ...]) -> tuple[Image.Image, dict]:
    """Converts an image to the mode of a file format that loses least.

    Args:
        image: in a mode of `LAYOUTS`.
        info: what belongs to it.
        held: modes of the format, RGB among them.

    Returns:
        The image, over white if it loses its alpha, and what of `info` still holds: CMYK becomes
        sRGB and leaves its profile behind.
    """
    native = np.asarray(image)
    plain, alpha = to_plain(native, image.mode, find_range(native, image.mode, "picture"))
    if plain.mode == "CMYK":
        profile = open_profile(info.get("icc_profile"), "CMYK", "picture")[0]
        plain = Image.fromarray(to_srgb(plain, profile))
        info = {key: value for key, value in info.items() if key != "icc_profile"}
    modes = [plain.mode, "RGB"] if alpha is None else [f"{plain.mode}A", "RGBA", plain.mode, "RGB"]
    mode = next(each for each in modes if each in held)
    if alpha is not None and mode not in _WITH_ALPHA:
        plain = over_white(plain, alpha)
    plain = plain.convert(mode)
    if alpha is not None and mode in _WITH_ALPHA:
        plain.putalpha(Image.fromarray(alpha))
    return plain, info


def over_white(image: Image.Image, alpha: np.ndarray) -> Image.Image:
    """Returns what is seen of an L or RGB image with alpha [H, W] on a white page."""
    white = Image.new(image.mode, image.size, "white")
    return Image.composite(image, white, Image.fromarray(alpha))
