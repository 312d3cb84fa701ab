"""Pictures that another program filled, so that it stands in the same table on the same masks.

`export_inputs` writes what the other program needs; its outputs are read by the same names,
STEM__BIN.png, in the sub-folders of the pictures.
"""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from gmsrm_jax.data.decoding import UnreadablePicture, decode_image
from gmsrm_jax.data.masks.list_file import MaskList
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.image_grid import to_png
from gmsrm_jax.runtime.pixels import to_signed

_HOLE_GREY = 128  # as 8 bits of the 0 in [-1, 1] that methods here are given


def file_name(picture: str, bin_name: str) -> str:
    """Returns the name of an example's files: "a/b.jpg" in "20-30%" is "a/b__20-30.png".

    A leading slash and "..", as names from a list of files may have them, are left out, so that the
    files stay within their folder.
    """
    path = PurePosixPath(picture)
    label = bin_name.removesuffix("%").replace(" ", "")
    folders = [part for part in path.parent.parts if part not in (path.anchor, "..")]
    return PurePosixPath(*folders, f"{path.stem}__{label}.png").as_posix()


def export_inputs(
    folder: Path, mask_list: MaskList, image: Callable[[int], np.ndarray]
) -> tuple[Path, Path]:
    """Writes every example for another program: pictures with grey holes, and masks.

    Args:
        folder: gets the sub-folders `images` and `masks`, with the same names in both.
        mask_list: the masks.
        image: index of a picture to uint8 [S, S, 3], by the test rule.

    Returns:
        Both sub-folders.

    Raises:
        UserError: two pictures have the same name but for the suffix.
    """
    _names(mask_list)
    for picture, name in enumerate(mask_list.names):
        truth = image(picture)
        for position, bin_name in enumerate(mask_list.bins):
            mask = mask_list.mask(picture * len(mask_list.bins) + position)
            target = file_name(name, bin_name)
            held = np.where(mask == 1, np.uint8(_HOLE_GREY), truth)
            write_atomically(folder / "images" / target, to_png(held))
            write_atomically(folder / "masks" / target, to_png(mask * np.uint8(255)))
    return folder / "images", folder / "masks"


class Predictions:
    """A folder of filled pictures as a method of an evaluation.

    Attributes:
        covered: bool [examples], those that the folder holds.
    """

    def __init__(self, folder: Path, mask_list: MaskList) -> None:
        """Checks that the folder holds every example of each ratio bin that it holds any of.

        Raises:
            UserError: files are missing, or there are none.
        """
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of filled pictures")
        names = _names(mask_list)
        paths = [folder / name for name in names]
        there = np.array([path.is_file() for path in paths]).reshape(-1, len(mask_list.bins))
        if not there.any():
            raise UserError(
                f"{folder}: holds no filled pictures; they are looked for by name, such as "
                f"{names[0]}, as `gmsrm evaluate --export-inputs DIR` writes them"
            )
        for position, bin_name in enumerate(mask_list.bins):
            missing = np.flatnonzero(~there[:, position])
            if 0 < len(missing) < len(there):
                name = names[int(missing[0]) * len(mask_list.bins) + position]
                raise UserError(
                    f"{folder}: {len(missing)} of {len(there)} pictures of {bin_name} are missing, "
                    f"the first is {name}; add them, or leave the whole bin out"
                )
        self._paths, self._size = paths, mask_list.size
        self.covered = there.reshape(-1)

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) over the number and the bytes of every file that is scored.

        Raises:
            UserError: one cannot be read.
        """
        digest = hashlib.sha256()
        for example in np.flatnonzero(self.covered).tolist():
            content = hashlib.sha256(_bytes(self._paths[example])).hexdigest()
            digest.update(f"{example} {content}\n".encode())
        return digest.hexdigest()

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, example_index: np.ndarray
    ) -> np.ndarray:
        """Returns the filled pictures, float32 [N, S, S, 3] in [-1, 1]; zeros where not covered.

        Raises:
            UserError: one cannot be read, or has another size.
        """
        del mask
        filled = np.zeros(image.shape, np.float32)
        for row, example in enumerate(example_index.tolist()):
            if self.covered[example]:
                filled[row] = self._read(self._paths[example])
        return filled

    def _read(self, path: Path) -> np.ndarray:
        try:
            pixels = decode_image(_bytes(path))
        except UnreadablePicture as error:
            raise UnreadablePicture(error.reason, str(path)) from error
        if pixels.shape[:2] != (self._size, self._size):
            raise UserError(
                f"{path}: {pixels.shape[1]} x {pixels.shape[0]} px, but {self._size} x "
                f"{self._size} px are evaluated; fill the exported pictures as they are"
            )
        return to_signed(pixels)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the right to") from error


def _names(mask_list: MaskList) -> list[str]:
    """Returns the file name of every example, in order."""
    stems: dict[str, str] = {}
    for name in mask_list.names:
        other = stems.setdefault(file_name(name, ""), name)
        if other != name:
            raise UserError(
                f"test pictures {other} and {name} differ in their suffix only (leading / and .. "
                "do not count), so files cannot be told apart by name; rename one"
            )
    return [file_name(name, bin_name) for name in mask_list.names for bin_name in mask_list.bins]
