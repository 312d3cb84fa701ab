"""Samples of a study: one picture of each method, and the input, paired by name."""

import hashlib
import os
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from gmsrm_jax.data.decoding import UnreadablePicture, decode_image
from gmsrm_jax.data.listing import list_images
from gmsrm_jax.runtime.errors import UserError

INPUT = ""  # stands for the picture with its hole where a method's name stands for its result
_NAMED = 3  # samples that a message names before it counts the others


class Picture(NamedTuple):
    """One picture file, as it was when the study read it.

    Attributes:
        path: the file.
        sha256: SHA-256 of its bytes, hexadecimal.
        size: width and height in pixels, upright.
    """

    path: Path
    sha256: str
    size: tuple[int, int]


class Sample(NamedTuple):
    """The pictures that are shown side by side.

    Attributes:
        name: path in every folder, without the suffix.
        size: width and height in pixels, of all of them.
        pictures: by method; by INPUT the picture with its hole, if the study shows it.
    """

    name: str
    size: tuple[int, int]
    pictures: Mapping[str, Picture]


def read_samples(
    methods: Mapping[str, str | os.PathLike[str]], inputs: str | os.PathLike[str] | None
) -> list[Sample]:
    """Reads every picture once, and pairs them by their path in the folder without the suffix.

    Args:
        methods: folder of each method's results.
        inputs: folder of the pictures with holes; None to show none.

    Returns:
        Samples sorted by name.

    Raises:
        UserError: a folder has no pictures, two of one name, or not those of the other folders; a
            picture cannot be decoded; or the pictures of a sample differ in size.
    """
    folders = {method: Path(folder) for method, folder in methods.items()}
    labels = {method: f"{method}={folder}" for method, folder in folders.items()}
    if inputs is not None:
        folders[INPUT], labels[INPUT] = Path(inputs), f"--input={inputs}"
    files = {method: _by_stem(folder) for method, folder in folders.items()}
    names = sorted(set().union(*files.values()))
    for method, found in files.items():
        missing = [name for name in names if name not in found]
        if missing:
            other = next(label for m, label in labels.items() if missing[0] in files[m])
            raise UserError(
                f"{labels[method]}: no picture named {_named(missing)}, which {other} has; pictures"
                " are paired by name without suffix, so give every folder the same names"
            )
    with ThreadPoolExecutor() as pool:  # the decoders release Python's lock
        read = {method: pool.map(_read, map(found.get, names)) for method, found in files.items()}
        columns = {method: list(pictures) for method, pictures in read.items()}
    samples = []
    for row, name in enumerate(names):
        pictures = {method: column[row] for method, column in columns.items()}
        first, *others = pictures
        for method in others:
            if pictures[method].size != pictures[first].size:
                a, b = ("{} x {} px".format(*pictures[m].size) for m in (first, method))
                raise UserError(
                    f"{name}: {a} in {labels[first]} but {b} in {labels[method]}; save all pictures"
                    " of a sample in one size, or their size tells the methods apart"
                )
        samples.append(Sample(name, pictures[first].size, pictures))
    return samples


def _named(names: Collection[str]) -> str:
    """Returns up to three names, quoted, and the number of the others."""
    text = ", ".join(repr(name) for name in list(names)[:_NAMED])
    return text if len(names) <= _NAMED else f"{text} and {len(names) - _NAMED} more"


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in list_images(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise UserError(
                f"{folder}: {found[stem].name} and {path.name} have one name, {stem!r}, and"
                " pictures are paired by it; remove one of the two"
            )
        found[stem] = path
    return found


def _read(path: Path) -> Picture:
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the right to") from error
    try:
        height, width, _ = decode_image(encoded).shape
    except UnreadablePicture as error:
        raise UnreadablePicture(error.reason, str(path)) from error
    return Picture(path, hashlib.sha256(encoded).hexdigest(), (width, height))
