"""Which mask belongs to which picture, and where its fillings go; all clashes before any work.

Folders are paired by stem, the path below the folder without its suffix, and never by order: one
missing file would give every later picture its neighbour's mask.
"""

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from gmsrm_jax.data.bad_pictures import named, printable
from gmsrm_jax.data.formats import SUFFIXES
from gmsrm_jax.data.listing import list_images
from gmsrm_jax.data.masks.names import masks_of, named_after, stem_of
from gmsrm_jax.inference.picture_io import format_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import real_path


@dataclass(frozen=True)
class Pair:
    """A picture and its mask.

    Attributes:
        stem: path below the folder without the suffix, or the file's name without it.
        image: the picture's file.
        mask: the mask's file; None for the picture's own transparent part.
    """

    stem: str
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class Job:
    """A pair and the files that its fillings are written to, one for each sample."""

    pair: Pair
    outputs: tuple[Path, ...]


@dataclass(frozen=True)
class Plan:
    """All that is to be written, and the folder that it lies in or below."""

    folder: Path
    jobs: list[Job]


def find_pairs(
    images: Path, masks: Path | None, options: tuple[str, str] = ("--image", "--mask")
) -> list[Pair]:
    """Finds pictures and their masks.

    A mask file or a folder of masks may lie below the folder of the pictures, and the folder of
    the pictures below that of the masks: what is one is not listed as the other.

    Args:
        images: a picture file, or a folder of them with subfolders.
        masks: a mask file, which is for all pictures; a folder of masks named after the pictures,
            which may be the pictures' own if each is named as a mask; None: each picture's own
            transparent part.
        options: what gave the two, for messages.

    Returns:
        Pairs in the order of their stems.

    Raises:
        UserError: nothing there, pictures without masks, masks without pictures, two files of one
            stem, or two masks for a picture; names them.
    """
    of_images, of_masks = options
    _check_exists(of_images, images)
    if masks is not None:
        _check_exists(of_masks, masks)
    if not images.is_dir():
        if masks is not None and masks.is_dir():
            raise UserError(
                f"{of_masks}={masks}: is a folder, but {of_images}={images} is one file; name the "
                "mask file"
            )
        return [Pair(images.stem, images, masks)]
    pictures = _by_stem(of_images, images, masks)
    if masks is None or not masks.is_dir():
        return [Pair(*picture, masks) for picture in pictures.values()]
    if real_path(images) == real_path(masks):
        of_stem = {key: file for key, file in pictures.items() if named_after(key, pictures)}
        if not of_stem:
            raise UserError(
                f"{of_masks}={masks}: is the folder of the pictures, and none in it is named "
                "NAME_mask after another; name the masks so, or put them into a folder and pass "
                "that"
            )
        pictures = {key: file for key, file in pictures.items() if key not in of_stem}
    else:
        of_stem = _by_stem(of_masks, masks, images)
    of_picture = masks_of(pictures, of_stem)
    _check_paired(of_masks, images, pictures, masks, of_stem, of_picture)
    return [Pair(*picture, of_stem[of_picture[key]][1]) for key, picture in pictures.items()]


def plan_outputs(
    pairs: Sequence[Pair], images: Path, output: Path, samples: int, keep_format: bool
) -> Plan:
    """Names the files that the fillings are written to.

    A folder gets STEM.png with the pictures' subfolders. Of several samples each file's stem ends
    in its number: STEM_s00.png. A single picture's output is a file if its name has a picture's
    suffix, and a folder otherwise.

    Args:
        pairs: what `find_pairs` returned.
        images: what it found them in.
        output: a folder, or the file of a single picture.
        samples: fillings of each picture.
        keep_format: the suffix is that of the picture and not .png.

    Raises:
        UserError: an output would be a picture or a mask, or lie among them, or the name asks for
            another format than is written.
    """
    is_file = _is_of_a_picture(output) and not output.is_dir()
    if is_file and images.is_dir():
        raise UserError(
            f"--output={output}: is the name of a file, but --image={images} is a folder; name a "
            "folder"
        )
    if is_file:
        _check_format(output, pairs[0].image, keep_format)
    elif output.exists() and not output.is_dir():
        raise UserError(f"--output={output}: is a file that is no picture; name a folder, or *.png")
    else:
        _check_apart(output, images)
    digits = max(2, len(str(samples - 1)))
    ends = [f"_s{sample:0{digits}d}" for sample in range(samples)] if samples > 1 else [""]
    jobs = []
    for pair in pairs:
        suffix = pair.image.suffix if keep_format else ".png"
        if keep_format:
            format_of(pair.image)
        base = output if is_file else output / f"{pair.stem}{suffix}"
        jobs.append(Job(pair, tuple(base.with_name(base.stem + e + base.suffix) for e in ends)))
    inputs = {real_path(file) for pair in pairs for file in (pair.image, pair.mask) if file}
    _check_inputs_kept((file for job in jobs for file in job.outputs), inputs)
    return Plan(output.parent if is_file else output, jobs)


def existing_outputs(jobs: Iterable[Job]) -> list[Path]:
    """Returns the output files that are there already, broken links among them."""
    return [file for job in jobs for file in job.outputs if os.path.lexists(file)]


def _check_exists(option: str, path: Path) -> None:
    if path.is_file() or path.is_dir():
        return
    if path.exists():
        raise UserError(
            f"{option}={path}: is neither a file nor a folder; save it as a file, and name that"
        )
    parent = path.parent
    there = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    shown = difflib.get_close_matches(path.name, there) or [n for n in there if n[0] != "."]
    found = f"no folder {_quoted(parent)}"
    if parent.is_dir():
        found = f"{_quoted(parent)} holds {named(shown) or 'nothing'}"
    raise UserError(printable(f"{option}={path}: there is no such file or folder ({found})"))


def _by_stem(option: str, folder: Path, other: Path | None) -> dict[str, tuple[str, Path]]:
    """Lists a folder; stem and path under the stem in composed Unicode, as file systems differ."""
    left_out = _below(folder, other)
    found: dict[str, tuple[str, Path]] = {}
    clashes = []
    for path in list_images(folder):
        relative = path.relative_to(folder)
        if left_out is not None and (relative == left_out or left_out in relative.parents):
            continue
        stem = relative.with_suffix("").as_posix()
        first = found.setdefault(stem_of(relative), (stem, path))
        if first[1] != path:
            clashes.append(f"{first[1].relative_to(folder)} = {relative}")
    if clashes:
        raise UserError(
            f"{option}={folder}: files with the same name but for the suffix: {named(clashes)}; "
            "rename or remove one of each"
        )
    if not found:
        raise UserError(f"{option}={folder}: holds no picture but those of {other}; add some")
    return found


def _below(folder: Path, other: Path | None) -> Path | None:
    """Returns the path of a file or folder below another folder, None if it is elsewhere."""
    if other is None:
        return None
    inside, outside = real_path(other), real_path(folder)
    return inside.relative_to(outside) if outside in inside.parents else None


def _check_paired(
    option: str,
    images: Path,
    pictures: dict[str, tuple[str, Path]],
    masks: Path,
    of_stem: dict[str, tuple[str, Path]],
    of_picture: dict[str, str],
) -> None:
    bare = [pictures[key][0] for key in sorted(pictures.keys() - of_picture.keys())]
    spare = [of_stem[key][0] for key in sorted(of_stem.keys() - set(of_picture.values()))]
    if not bare and not spare:
        return
    faults, of_images, of_masks = [], _quoted(images), _quoted(masks)
    if bare:
        faults.append(f"in {of_masks} is no mask for {len(bare)} of {of_images}: {named(bare)}")
    if spare:
        faults.append(
            f"in {of_images} is no picture for {len(spare)} of {of_masks}: {named(spare)}"
        )
    cure = "name each mask NAME or NAME_mask after its picture, or give one mask file for all"
    if not bare:
        cure = "move these masks away, or add their pictures"
    if any(named_after(key, pictures) for key in pictures):
        cure = f"if the masks lie beside the pictures, pass {option}={images}"
    raise UserError("; ".join([*faults, cure]))


def _quoted(folder: Path) -> str:
    """A folder that reads as one in a sentence, whatever word it is called."""
    return f"'{printable(str(folder))}/'"


def _is_of_a_picture(path: Path) -> bool:
    """Whether a name has the suffix of a picture, be its kind written or not."""
    suffix = path.suffix.lower()
    return suffix in SUFFIXES or suffix in Image.registered_extensions()


def _check_format(output: Path, image: Path, keep_format: bool) -> None:
    asked = format_of(output)
    if not keep_format and asked != "PNG":
        raise UserError(
            f"--output={output}: PNG is written, which keeps every known pixel; name it "
            f"{output.with_suffix('.png')}, or pass --format same"
        )
    if keep_format and asked != format_of(image):
        raise UserError(
            f"--output={output}: --format same writes {format_of(image)} as {image} is; name it "
            f"{output.with_suffix(image.suffix)}"
        )


def _check_apart(output: Path, images: Path) -> None:
    """Checks that an output folder neither is the pictures' folder nor lies below it."""
    if not images.is_dir():
        return
    place, inputs = real_path(output), real_path(images)
    if place == inputs or inputs in place.parents:
        where = "is" if place == inputs else "lies in"
        raise UserError(
            f"--output={output}: {where} the folder of --image, where results would be taken for "
            "pictures the next time; name another folder"
        )


def _check_inputs_kept(outputs: Iterable[Path], inputs: set[Path]) -> None:
    """Checks that no output replaces an input; each output folder is resolved once."""
    folders: dict[Path, Path] = {}
    for file in outputs:
        if file.parent not in folders:
            folders[file.parent] = real_path(file.parent)
        if folders[file.parent] / file.name in inputs or (
            file.is_symlink() and real_path(file) in inputs
        ):
            raise UserError(f"{file}: is a picture or mask given; name another --output")
