"""Pictures of TFDS sets: opens those that are prepared for random access, and prepares them.

A set is named as "tfds:NAME[/CONFIG][:VERSION][#SPLIT]", the split in TFDS's language:
"tfds:places365_small#train[:1000]". The project's own builders (`data/builders/`) count as known.
"""

import io
import re
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.data.bad_pictures import BadPictures
from gmsrm_jax.data.decoding import Header, UnreadablePicture, decode_image, read_header
from gmsrm_jax.data.fields import Data
from gmsrm_jax.data.headers import read_headers
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import user_path

try:
    import tensorflow_datasets as tfds
except ImportError as error:
    raise UserError(
        f"TFDS cannot be imported ({error}); install tensorflow-datasets, or name a folder of "
        "pictures"
    ) from error

from gmsrm_jax.data.builders import BUILDERS

_FORMAT = "array_record"
_IMAGE = "image"
_FILENAMES = ("filename", "image/filename")  # features that may hold a picture's name
_SPEC = re.compile(
    r"tfds:(?P<set>(?P<name>[A-Za-z]\w*)(/[\w+.-]+)?(:[\d*]+\.[\d*]+\.[\d*]+)?)(#.+)?"
)
_CONSTRUCTING = re.compile(r'Failed to construct dataset .*?}": ')  # what TFDS puts in front
_LONG = 400  # characters of TFDS's messages that are shown


class TfdsPictures:
    """The pictures of a split; see `sources.EncodedPictures`.

    Their names are those of the feature `filename`, if there is one that tells all of them apart,
    else SPLIT/INDEX, counted in the whole split.
    """

    files = None

    def __init__(self, builder: Any, spec: str, split: str, data: Data | ConfigDict) -> None:
        """Reads the header of every record; `builder` is that of a prepared set.

        Raises:
            UserError: no such split, no feature to take pictures from, or too many bad pictures.
        """
        self.location = f"{spec.partition('#')[0]}#{split}"
        self.max_pixels = data.max_pixels
        self._feature = _image_feature(builder.info.features, self.location)
        places = _places(builder, split, self.location)
        try:
            stored = _of_type(builder.info.features, tfds.features.Image)
            undecoded = dict.fromkeys(stored, tfds.decode.SkipDecoding())
            self._records = builder.as_data_source(split, decoders=undecoded)
        except NotImplementedError as error:
            raise UserError(
                f"{self.location}: lies in {builder.data_path} as "
                f"{builder.info.file_format.value}, which gives no random access; move that folder "
                f"away and run `gmsrm data {spec.partition('#')[0]} --prepare`"
            ) from error
        filename = _filename_feature(builder.info.features)
        given = [""] * len(self._records)

        def read(row: int) -> Header:
            record = self._record(row)
            if filename is not None and record[filename] is not None:
                given[row] = record[filename].decode("utf-8", "replace")
            return read_header(io.BytesIO(record[self._feature]), self.max_pixels)

        self.headers, self._rows, reasons = read_headers(len(given), read, self.location)
        names = [name or place for name, place in zip(given, places, strict=True)]
        if len(set(names)) < len(names) or not all(map(_is_relative, names)):
            names = places
        bad = {names[row]: reason for row, reason in reasons.items()}
        self.bad = BadPictures(self.location, len(names), data.max_bad_share, bad)
        self._names = [names[row] for row in self._rows]

    def __len__(self) -> int:
        """Returns the number of pictures."""
        return len(self._names)

    def name(self, index: int) -> str:
        """Returns the picture's name."""
        return self._names[index]

    def encoded(self, index: int) -> bytes:
        """Returns the picture's file as it was stored in the set."""
        return self._record(int(self._rows[index]))[self._feature]

    def image(self, index: int) -> np.ndarray:
        """Returns the picture upright, uint8 [H, W, 3]."""
        try:
            return decode_image(self.encoded(index), self.max_pixels)
        except UnreadablePicture as error:
            name = f"{self.location}, {self.name(index)}"
            raise UnreadablePicture(error.reason, name) from error

    def _record(self, row: int) -> dict[str, Any]:
        try:
            record = self._records[row]
        except RuntimeError as error:  # array_record's, of a file that is damaged or gone
            raise UnreadablePicture(f"its record cannot be read ({_one_line(error)})") from error
        if record[self._feature] is None:
            raise UnreadablePicture("its record is damaged")
        return record


def open_tfds(spec: str, split: str, data: Data | ConfigDict) -> TfdsPictures:
    """Opens a prepared set.

    Args:
        spec: "tfds:NAME[/CONFIG][:VERSION][#SPLIT]".
        split: the split if the spec names none.
        data: config.data, for max_pixels, max_bad_share and tfds_dir.

    Raises:
        UserError: the set cannot be used; says why, and what helps.
    """
    return TfdsPictures(_prepared(spec, data.tfds_dir), spec, spec.partition("#")[2] or split, data)


def split_names(spec: str, data_dir: str) -> list[str]:
    """Returns the splits of a prepared set. Raises UserError as `open_tfds` does."""
    return list(_prepared(spec, data_dir).info.splits)


def prepare(spec: str, data_dir: str, manual_dir: str | None = None) -> str:
    """Downloads and prepares a set for random access, unless that is done already.

    Args:
        spec: as for `open_tfds`; its split plays no part.
        data_dir: where TFDS sets lie; "" for TFDS's own choice.
        manual_dir: folder of what the set needs by hand; None for TFDS's own choice.

    Returns:
        One line, what is there now.

    Raises:
        UserError: it cannot be prepared; says why, and what helps.
    """
    builder = _builder(spec, data_dir)
    done = "is prepared already"
    if not builder.is_prepared():
        done = "prepared"
        manual = str(user_path(manual_dir, "--manual-dir")) if manual_dir else None
        config = tfds.download.DownloadConfig(manual_dir=manual, try_download_gcs=False)
        try:
            builder.download_and_prepare(download_config=config, file_format=_FORMAT)
        except (AssertionError, OSError, ValueError, tfds.download.DownloadError) as error:
            raise UserError(f"{spec}: cannot be prepared: {_one_line(error)}") from error
    splits = ", ".join(f"{name} {info.num_examples}" for name, info in builder.info.splits.items())
    return (
        f"{spec.partition('#')[0]} {done}: {splits} pictures in {builder.data_path} "
        f"({builder.info.dataset_size}, {builder.info.file_format.value})"
    )


def _builder(spec: str, data_dir: str) -> Any:
    """Returns the builder of a set, prepared or not."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UserError(f"{spec}: not of the form tfds:NAME[/CONFIG][:VERSION][#SPLIT]")
    folder = str(user_path(data_dir, "config.data.tfds_dir")) if data_dir else None
    try:
        return tfds.builder(match["set"], data_dir=folder)
    except tfds.core.DatasetNotFoundError as error:
        ours = ", ".join(builder.name for builder in BUILDERS)
        raise UserError(
            f"{spec}: no TFDS set of this name; name one of ours ({ours}) or of "
            "https://www.tensorflow.org/datasets/catalog/overview"
        ) from error
    except (AssertionError, ValueError) as error:  # of the config, or the version
        configs = ", ".join(tfds.builder_cls(match["name"]).builder_configs) or "none"
        raise UserError(f"{spec}: {_one_line(error)} (its configs: {configs})") from error


def _prepared(spec: str, data_dir: str) -> Any:
    """Returns the builder of a prepared set."""
    builder = _builder(spec, data_dir)
    if not builder.is_prepared():
        raise UserError(
            f"{spec}: not prepared (looked for {builder.data_path}); run "
            f"`gmsrm data {spec.partition('#')[0]} --prepare`, or name the folder that holds it "
            "with --config.data.tfds_dir"
        )
    return builder


def _image_feature(features: Any, location: str) -> str:
    """Returns the feature that is the picture."""
    labels = _of_type(features, tfds.features.LabeledImage)  # such as segmentations
    images = [name for name in _of_type(features, tfds.features.Image) if name not in labels]
    if _IMAGE in images:
        return _IMAGE
    if len(images) != 1:
        raise UserError(
            f"{location}: needs a picture called {_IMAGE!r}, or just one under another name; its "
            f"features are {', '.join(sorted(features))}, of which {len(images)} are pictures; "
            "name another set"
        )
    return images[0]


def _filename_feature(features: Any) -> str | None:
    texts = _of_type(features, tfds.features.Text)
    return next((name for name in _FILENAMES if name in texts), None)


def _of_type(features: Any, kind: type) -> list[str]:
    return [name for name, feature in features.items() if isinstance(feature, kind)]


def _places(builder: Any, split: str, location: str) -> list[str]:
    """Returns SPLIT/INDEX of every record of a split, counted in the whole split it is of."""
    splits = builder.info.splits
    known = ", ".join(splits)
    try:
        chosen = tfds.core.ReadInstruction.from_spec(split).to_absolute(splits)
    except ValueError as error:
        raise UserError(f"{location}: {_one_line(error)}; its splits are {known}") from error
    places = [
        f"{part.splitname}/{row:06d}"
        for part in chosen
        for row in range(splits[part.splitname].num_examples)[part.from_ : part.to]
    ]
    if not places:
        raise UserError(f"{location}: holds no records; its splits are {known}")
    if len(set(places)) < len(places):
        raise UserError(f"{location}: takes records twice; write parts that do not overlap")
    return places


def _is_relative(name: str) -> bool:
    """Whether a name can be that of a file below any folder."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _one_line(error: Exception) -> str:
    text = _CONSTRUCTING.sub("", " ".join(str(error).split())).rstrip(".")
    return text if len(text) <= _LONG else text[:_LONG] + "..."
