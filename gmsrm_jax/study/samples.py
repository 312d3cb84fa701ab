"""Samples of a study: one picture of each method, and the input, paired by name."""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gmsrm_jax.data.decoding import UnreadablePicture, decode_image
from gmsrm_jax.data.listing import list_images
from gmsrm_jax.runtime.errors import UserError

INPUT = "input"
_NAMED = 3  # samples that a message names before it counts the others


@dataclass(frozen=True)
class Picture:
    """One picture file, as it was when the study read it.

    Attributes:
        path: the file.
        sha256: SHA-256 of its bytes, hexadecimal.
        width: pixels, upright.
        height: pixels, upright.
    """

    path: Path
    sha256: str
    width: int
    height: int


@dataclass(frozen=True)
class Sample:
    """The pictures that are shown side by side; all have the same size.

    Attributes:
        name: path in every folder, without the suffix.
        results: picture of each method.
        input: the picture with its hole, None if the study shows no inputs.
    """

    name: str
    results: Mapping[str, Picture]
    input: Picture | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        first = next(iter(self.results.values()))
        return first.width, first.height

    def pictures(self) -> dict[tuple[str, str], Picture]:
        """Returns all pictures by their kind: ("result", method), or ("input", "")."""
        inputs = {} if self.input is None else {(INPUT, ""): self.input}
        return inputs | {("result", name): picture for name, picture in self.results.items()}


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
    folders = {f"{name}={folder}": Path(folder) for name, folder in methods.items()}
    if inputs is not None:
        folders[f"--input={inputs}"] = Path(inputs)
    files = {label: _by_stem(folder) for label, folder in folders.items()}
    _check_same_names(files)
    paths = [path for found in files.values() for path in found.values()]
    with ThreadPoolExecutor() as pool:  # the decoders release Python's lock
        pictures = dict(zip(paths, pool.map(_read, paths), strict=True))
    samples = []
    for name in sorted(files[next(iter(files))]):
        found = [pictures[files[label][name]] for label in files]
        _check_same_size(name, dict(zip(folders, found, strict=True)))
        results = dict(zip(methods, found, strict=False))
        samples.append(Sample(name, results, None if inputs is None else found[-1]))
    return samples


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


def _check_same_names(files: Mapping[str, Mapping[str, Path]]) -> None:
    for label, found in files.items():
        for other, others in files.items():
            missing = sorted(others.keys() - found.keys())
            if missing:
                raise UserError(
                    f"{label}: no picture named {named(missing)}, which {other} has; pictures are"
                    " paired by name without suffix, so give every folder the same names"
                )


def _check_same_size(name: str, pictures: Mapping[str, Picture]) -> None:
    sizes = {label: (picture.width, picture.height) for label, picture in pictures.items()}
    first, *others = sizes
    for label in others:
        if sizes[label] != sizes[first]:
            a, b = (f"{width} x {height} px" for width, height in (sizes[first], sizes[label]))
            raise UserError(
                f"{name}: {a} in {first} but {b} in {label}; save all pictures of a sample in one"
                " size, or their size tells the methods apart"
            )


def named(names: list[str]) -> str:
    """Returns up to three names, quoted, and the number of the others."""
    text = ", ".join(repr(name) for name in names[:_NAMED])
    return text if len(names) <= _NAMED else f"{text} and {len(names) - _NAMED} more"


def _read(path: Path) -> Picture:
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the right to") from error
    try:
        height, width, _ = decode_image(encoded).shape
    except UnreadablePicture as error:
        raise UnreadablePicture(error.reason, str(path)) from error
    return Picture(path, hashlib.sha256(encoded).hexdigest(), width, height)
