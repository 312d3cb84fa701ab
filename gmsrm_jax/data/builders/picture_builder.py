"""What the builders share: manual files in, the files' own bytes out, written for random access."""

import abc
import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from gmsrm_jax.data.builders.storage import Found, Picture, Place, find_pictures, read_pictures
from gmsrm_jax.runtime.errors import UserError

Splits = dict[str, dict[str, Picture]]  # by split and key
_FORMAT = "array_record"  # the format of TFDS that gives random access


class PictureBuilder(tfds.core.GeneratorBasedBuilder):
    """A set of pictures that someone got by hand.

    Its files lie in MANUAL_DIR/NAME if there is such a folder, else in MANUAL_DIR itself, unpacked
    or as the archives they came in. Features: `image`, the bytes of the file as it is, and
    `filename`. TFDS orders the records by a hash of their keys, so their order does not depend on
    how the files were stored.

    Attributes:
        folder: where the files are looked for; known once that has begun.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    DESCRIPTION = ""
    HOMEPAGE = ""
    folder = Path()

    @abc.abstractmethod
    def place(self, folder: str, file: str) -> Place | None:
        """Says where a file belongs, see `storage.find_pictures`."""

    @abc.abstractmethod
    def divide(self, found: Found) -> Splits:
        """Divides what was found into splits.

        Raises:
            UserError: something is missing.
        """

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Prepares the set as array_record, whatever format was asked for; see TFDS."""
        super().download_and_prepare(**(kwargs | {"file_format": _FORMAT}))

    def missing(self, what: str) -> UserError:
        """Returns the error for manual files that are not there."""
        instructions = " ".join(self.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        return UserError(f"{self.name}: no {what} found in {self.folder}; {instructions}")

    def compare(self, what: str, found: int, expected: int) -> None:
        """Says so when there are not as many pictures as the benchmark has."""
        if found != expected:
            # A warning reaches the terminal of `tfds build`, too, where no log is open.
            logging.getLogger("gmsrm").warning(
                "%s: %d %s found, but the benchmark has %d; going on with what is there",
                self.name,
                found,
                what,
                expected,
            )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Image(), "filename": tfds.features.Text()}
            ),
            homepage=self.HOMEPAGE,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        try:
            folder = Path(dl_manager.manual_dir)
        except AssertionError as error:  # the folder does not exist, or is empty
            raise UserError(f"{self.name}: {' '.join(str(error).split())}") from error
        own = folder / self.name
        self.folder = own if own.is_dir() else folder
        splits = self.divide(find_pictures(self.folder, self.place))
        return {name: self._generate_examples(pictures) for name, pictures in splits.items()}

    def _generate_examples(
        self, pictures: Mapping[str, Picture]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for key, picture, encoded in read_pictures(pictures):
            yield key, {"image": encoded, "filename": picture.name}


def seeded_order(seed: str, keys: Iterable[str]) -> list[str]:
    """Returns keys in an order that depends on the seed and each key alone, by SHA-256.

    Leaving keys out leaves the order of the others as it is.
    """
    return sorted(keys, key=lambda key: hashlib.sha256(f"{seed}/{key}".encode()).digest())


def proportion(count: int, part: int, whole: int) -> int:
    """Returns part / whole of count, rounded to the nearest (halves up), and 1 at least."""
    return max(1, (2 * count * part + whole) // (2 * whole))
