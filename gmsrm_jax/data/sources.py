"""Sets of pictures: a folder, a list of files, an array file, a TFDS set, or a part of one."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.assets import resolve_path
from gmsrm_jax.data.bad_pictures import BadPictures
from gmsrm_jax.data.decoding import MIN_SIDE, UnreadablePicture, decode_image, read_header
from gmsrm_jax.data.fields import Data
from gmsrm_jax.data.headers import read_headers
from gmsrm_jax.data.listing import picture_names
from gmsrm_jax.runtime.errors import UserError

TFDS = "tfds:"
LIST_SUFFIXES = (".txt", ".flist")


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
        """Returns the picture upright, uint8 [H, W, 3].

        Raises:
            UnreadablePicture: it cannot be decoded.
        """


@runtime_checkable
class EncodedPictures(Pictures, Protocol):
    """Pictures as encoded files, such as tf.data reads.

    Pictures whose headers are bad were left out before they were numbered.

    Attributes:
        headers: int32 [N, 4], codec, orientation, height and width of each `decoding.Header`.
        files: their paths, None where they are no files.
        bad: what was left out, and where to report more.
        max_pixels: largest number of pixels decoded.
    """

    headers: np.ndarray
    files: Sequence[bytes] | None
    bad: BadPictures
    max_pixels: int

    def encoded(self, index: int) -> bytes:
        """Returns the picture as it is stored: a JPEG, PNG, BMP, WebP or TIFF file.

        Raises:
            UnreadablePicture: it cannot be read.
        """


class FilePictures:
    """Picture files; their names are paths relative to a root folder."""

    def __init__(
        self, names: Sequence[str], root: Path, location: str, data: Data | ConfigDict
    ) -> None:
        """Reads the headers of all files.

        Raises:
            UserError: too many of them are bad, or all.
        """
        self.location = location
        self.max_pixels = data.max_pixels
        self.headers, good, reasons = read_headers(
            len(names), lambda row: read_header(root / names[row], self.max_pixels), location
        )
        bad = {names[row]: reason for row, reason in reasons.items()}
        self.bad = BadPictures(location, len(names), data.max_bad_share, bad)
        self._names = [names[row] for row in good]
        self.files = [os.fsencode(root / name) for name in self._names]

    def __len__(self) -> int:
        """Returns the number of pictures."""
        return len(self._names)

    def name(self, index: int) -> str:
        """Returns the relative POSIX path."""
        return self._names[index]

    def encoded(self, index: int) -> bytes:
        """Returns the file's bytes."""
        try:
            return Path(os.fsdecode(self.files[index])).read_bytes()
        except OSError as error:
            raise UnreadablePicture(f"cannot be read ({error.strerror})") from error

    def image(self, index: int) -> np.ndarray:
        """Returns the picture upright, uint8 [H, W, 3]."""
        try:
            return decode_image(self.encoded(index), self.max_pixels)
        except UnreadablePicture as error:
            raise UnreadablePicture(error.reason, os.fsdecode(self.files[index])) from error


class ArrayPictures:
    """The pictures of an array file, uint8 [N, H, W, 3]; their names are numbers."""

    def __init__(self, path: Path) -> None:
        """Maps the file into memory. Raises UserError if it does not hold such an array."""
        self.location = str(path)
        cure = "write one with `gmsrm data FOLDER --array`, or name a folder of pictures"
        try:
            self.array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: not a readable array file ({error}); {cure}") from error
        if self.array.dtype != np.uint8 or self.array.ndim != 4 or self.array.shape[3] != 3:
            raise UserError(
                f"{path}: {self.array.dtype} array of {self.array.shape}, not uint8 [N, H, W, 3]; "
                f"{cure}"
            )
        if len(self.array) == 0:
            raise UserError(f"{path}: holds no pictures; {cure}")
        height, width = self.array.shape[1:3]
        if min(height, width) < MIN_SIDE:
            raise UserError(
                f"{path}: {width} x {height} px; use pictures of at least {MIN_SIDE} x {MIN_SIDE}"
            )

    def __len__(self) -> int:
        """Returns the number of pictures."""
        return len(self.array)

    def name(self, index: int) -> str:
        """Returns the number as six digits or more."""
        return f"{index:06d}"

    def image(self, index: int) -> np.ndarray:
        """Returns the picture, uint8 [H, W, 3]."""
        return np.array(self.array[index])


class Part:
    """Some pictures of a set, with the names they have there."""

    def __init__(self, pictures: Pictures, indices: np.ndarray) -> None:
        """Takes the pictures of the given indices, in that order."""
        self.location = pictures.location
        self._pictures, self._indices = pictures, indices

    def __len__(self) -> int:
        """Returns the number of pictures."""
        return len(self._indices)

    def name(self, index: int) -> str:
        """Returns the picture's name in the set."""
        return self._pictures.name(int(self._indices[index]))

    def image(self, index: int) -> np.ndarray:
        """Returns the picture, uint8 [H, W, 3]."""
        return self._pictures.image(int(self._indices[index]))


def open_pictures(
    spec: str, data: Data | ConfigDict | None = None, split: str = "train"
) -> Pictures:
    """Opens a set of pictures.

    Args:
        spec: a folder, with its subfolders; "bundled:NAME" in the package; a list of files (*.txt,
            *.flist), one path a line, relative to the list's folder; an array file (*.npy); or a
            TFDS set, "tfds:NAME[/CONFIG][:VERSION][#SPLIT]".
        data: config.data, for max_pixels, max_bad_share and tfds_dir; the defaults if None.
        split: of a TFDS set whose spec names none.

    Raises:
        UserError: there are no pictures, or too many of them cannot be used.
    """
    data = data or Data()
    if not spec:
        raise UserError(
            "no pictures are named; set --config.data.train to a folder, a list of files *.txt, "
            "an array file *.npy, or tfds:NAME"
        )
    if spec.startswith(TFDS):
        from gmsrm_jax.data.tfds_pictures import open_tfds

        return open_tfds(spec, split, data)
    path = resolve_path(spec)
    if path.suffix == ".npy":
        return ArrayPictures(path)
    if path.suffix in LIST_SUFFIXES:
        names, root = _read_list(path), path.parent
    else:
        names, root = picture_names(path), path
    return FilePictures(names, root, str(path), data)


def _read_list(path: Path) -> list[str]:
    """Returns the lines of a list of files, empty ones left out."""
    try:
        # Windows puts a mark (BOM) in front of UTF-8.
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); name a list of files, one path a line"
        ) from error
    lines = (line.strip() for line in text.split("\n"))
    # Without "./" and doubled slashes, so that a picture has one name.
    names = [PurePosixPath(line).as_posix() for line in lines if line]
    if not names:
        raise UserError(f"{path}: lists no files; write one path a line")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{path}: lists {twice[0]} more than once; leave each file in once")
    return names
