"""Finds and reads pictures, and prepares them for tests. Pillow and NumPy only."""

import os
from collections import Counter
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

from gmsrm_jax.assets import resolve_path
from gmsrm_jax.errors import UserError
from gmsrm_jax.holes import UNREADABLE

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
MIN_SIDE = 32  # pixels; nothing smaller can fill a training crop with detail


def list_images(folder: str | os.PathLike) -> list[Path]:
    """Lists the pictures of a folder and its subfolders by suffix, in any case.

    Returns:
        Paths sorted by their relative POSIX path.

    Raises:
        UserError: there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the folder that holds the pictures")
    files = [path for path in folder.rglob("*") if path.is_file()]
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not images:
        others = Counter(path.suffix.lower() or "no suffix" for path in files)
        found = ", ".join(f"{n} × {suffix}" for suffix, n in others.most_common(5)) or "no files"
        wanted = " ".join(f"*{suffix}" for suffix in SUFFIXES)
        raise UserError(
            f"{folder}: no pictures ({wanted}) in it or its subfolders, found {found}; "
            f"put pictures there or name another folder"
        )
    return sorted(images, key=lambda path: path.relative_to(folder).as_posix())


def load_image(path: str | os.PathLike) -> np.ndarray:
    """Reads a picture upright (EXIF orientation applied) as RGB, uint8 [H, W, 3].

    Raises:
        UserError: the file cannot be read, or has 32 bits per channel.
    """
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I;16"):  # convert() would cut 16 bits off at 255
                return np.repeat((np.asarray(upright) >> 8).astype(np.uint8)[..., None], 3, axis=2)
            if upright.mode in ("I", "F"):
                raise UserError(f"{path}: has 32 bits per channel; save it again with 8")
            return np.array(upright.convert("RGB"))
    except UNREADABLE as error:
        raise UserError(
            f"{path}: not a readable picture ({error}); save it again as PNG or JPEG, or remove it"
        ) from error


def resize_for_test(
    image: np.ndarray, size: int, shorter_side: float, test_resize: str
) -> np.ndarray:
    """Resizes a picture by the test rule, with Pillow's antialiased bicubic.

    Args:
        image: uint8 [H, W, 3].
        size: side S of the result in pixels.
        shorter_side: shorter side before the centre crop, in units of S.
        test_resize: "shorter_side": the shorter side becomes round(shorter_side * S), then the
            centre S x S is cut out, offsets rounded down; "direct": straight to S x S.

    Returns:
        uint8 [S, S, 3].

    Raises:
        UserError: test_resize is unknown, or the shorter side is below S.
    """
    picture = Image.fromarray(image)
    if test_resize == "direct":
        return np.array(picture.resize((size, size), Image.Resampling.BICUBIC))
    if test_resize != "shorter_side":
        raise UserError(
            f"config.data.test_resize = {test_resize!r}; use one of: shorter_side, direct"
        )
    shorter = round(shorter_side * size)
    if shorter < size:
        raise UserError(f"config.data.shorter_side = {shorter_side}; it must be at least 1")
    scale = shorter / min(picture.size)
    width, height = round(picture.width * scale), round(picture.height * scale)
    left, top = (width - size) // 2, (height - size) // 2
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.array(resized.crop((left, top, left + size, top + size)))


class Pictures(Protocol):
    """A numbered set of pictures.

    Attributes:
        location: where the pictures are, for messages.
    """

    location: str

    def __len__(self) -> int:
        """Returns the number of pictures."""

    def name(self, index: int) -> str:
        """Returns a name that is unique in the set and does not depend on where it lies."""

    def image(self, index: int) -> np.ndarray:
        """Returns the picture, uint8 [H, W, 3].

        Raises:
            UserError: it cannot be read, or a side is below MIN_SIDE.
        """


class FolderPictures:
    """The pictures of a folder and its subfolders; their names are relative paths."""

    def __init__(self, folder: Path) -> None:
        """Lists the folder. Raises UserError if there is no picture."""
        self.location = str(folder)
        self.paths = list_images(folder)
        self._names = [path.relative_to(folder).as_posix() for path in self.paths]

    def __len__(self) -> int:
        """Returns the number of pictures."""
        return len(self.paths)

    def name(self, index: int) -> str:
        """Returns the relative POSIX path."""
        return self._names[index]

    def image(self, index: int) -> np.ndarray:
        """Returns the picture, uint8 [H, W, 3]."""
        image = load_image(self.paths[index])
        check_sides(self.paths[index], image.shape[0], image.shape[1])
        return image


class ArrayPictures:
    """The pictures of an array file, uint8 [N, H, W, 3]; their names are numbers."""

    def __init__(self, path: Path) -> None:
        """Maps the file into memory. Raises UserError if it does not hold such an array."""
        self.location = str(path)
        cure = "give a uint8 array [N, H, W, 3], or a folder of pictures"
        try:
            self.array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: not a readable array file ({error}); {cure}") from error
        if self.array.dtype != np.uint8 or self.array.ndim != 4 or self.array.shape[3] != 3:
            raise UserError(f"{path}: {self.array.dtype} array of {self.array.shape}; {cure}")
        if len(self.array) == 0:
            raise UserError(f"{path}: holds no pictures; {cure}")
        check_sides(path, self.array.shape[1], self.array.shape[2])

    def __len__(self) -> int:
        """Returns the number of pictures."""
        return len(self.array)

    def name(self, index: int) -> str:
        """Returns the number as six digits or more."""
        return f"{index:06d}"

    def image(self, index: int) -> np.ndarray:
        """Returns the picture, uint8 [H, W, 3]."""
        return np.array(self.array[index])


def open_pictures(spec: str) -> Pictures:
    """Opens a set of pictures.

    Args:
        spec: a folder, "bundled:NAME" in the package, or an array file (*.npy).

    Raises:
        UserError: there are no pictures.
    """
    if not spec:
        raise UserError(
            "no folder of pictures is named; set --config.data.train and --config.data.test "
            "to a folder or a *.npy file"
        )
    path = resolve_path(spec)
    return ArrayPictures(path) if path.suffix == ".npy" else FolderPictures(path)


def check_sides(path: str | os.PathLike, height: int, width: int) -> None:
    """Raises UserError if a side [px] is below MIN_SIDE."""
    if min(height, width) < MIN_SIDE:
        raise UserError(
            f"{path}: {width} x {height} px; use pictures of at least {MIN_SIDE} x {MIN_SIDE} px"
        )
