"""`gmsrm data`: look at pictures before training, write array files.

Decodes every picture, and prints how many there are for training, validation and test, their sizes
and kinds, those that cannot be used, and duplicates. Writes a sheet of training samples with their
masks.

Exit status: 0 everything is fine; 1 training can start, but something was found (pictures left out,
fewer in validation or test than the first of data.validation_bounds and of data.test_bounds, 4 by
default, or the same picture in training and test); 2 it cannot start.
"""

import argparse
import statistics
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.commands import Subparsers, add_command
from gmsrm_jax.commands.config_files import change_fields, is_config_file, read_config_file
from gmsrm_jax.commands.options import add_fields, try_folder, whole, writing
from gmsrm_jax.data.bad_pictures import BadPictures, printable
from gmsrm_jax.data.decoding import MIN_SIDE, resize_for_test
from gmsrm_jax.data.inspection import Inspection, duplicates, inspect
from gmsrm_jax.data.sources import TFDS, EncodedPictures, Part, Pictures, open_pictures
from gmsrm_jax.data.splits import has_test_pictures, open_test, split_pictures
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import real_path, write_atomically
from gmsrm_jax.runtime.image_grid import grid, to_png
from gmsrm_jax.runtime.log import Progress, open_text_log

_SHOWN = 20  # names of a kind, without --all
_SHEET_COLUMNS = 8
_SHEET_ROWS = 4
_MAX_SIDE = 16384  # px


def add_parser(subparsers: Subparsers) -> None:
    """Adds `data`."""
    parser = add_command(subparsers, "data", __doc__, run)
    add = parser.add_argument
    add(
        "target",
        metavar="CONFIG|PICTURES",
        help="a config file *.py[:ARGUMENT]; or a folder, a list *.txt, tfds:NAME, which are"
        " divided as configs/folder.py does it",
    )
    add("--test", default="", metavar="PICTURES", help="the test pictures")
    add("--size", type=whole(1), default=0, metavar="PX", help="of the crop; the config's, or 128")
    add("--masks", default="", metavar="SAMPLER", help="training masks to draw")
    add(
        "--max-bad-share",
        type=float,
        metavar="SHARE",
        help="share of pictures that may be left out; the config's, or 0.01",
    )
    add("--threads", type=whole(1), default=0, metavar="N", help="default: one per core")
    add(
        "--sheet",
        default="data_sheet.png",
        metavar="FILE",
        help="the sheet to write, - for none (default: %(default)s)",
    )
    add("--all", action="store_true", help="print every name, not the first ones")
    add(
        "--array",
        default="",
        metavar="FILE.npy",
        help="write the pictures, scaled and cut to squares, for data.pipeline=arrays",
    )
    add(
        "--part",
        default="all",
        choices=["all", "train", "test"],
        help="which pictures --array takes (default: %(default)s)",
    )
    add(
        "--side",
        type=whole(1, _MAX_SIDE),
        default=0,
        metavar="PX",
        help="side of --array's squares; default: the longest that training scales to",
    )
    add("--prepare", action="store_true", help="download and prepare a TFDS set first")
    add("--tfds-dir", default="", metavar="DIR", help="where TFDS sets lie")
    add("--manual-dir", default="", metavar="DIR", help="of what --prepare needs by hand")
    add_fields(parser)


def run(args: argparse.Namespace) -> int:
    """Prints what is there; returns the exit status."""
    open_text_log(None)
    config = _config(args)
    _check_outputs(args, config)
    if args.prepare:
        _prepare(config, args)
    if args.sheet != "-" and config.data.pipeline != "arrays" and not find_spec("tensorflow"):
        raise UserError(
            "the sheet's holes are drawn by TensorFlow, which is not installed; leave it out with "
            "--sheet -, or pip install --constraint constraints.txt . in the checkout"
        )
    # Everything is looked at and written before the share of bad pictures is judged.
    share = config.data.max_bad_share
    config.data.max_bad_share = 1.0
    train = open_pictures(config.data.train, config.data)
    looks = {"train": _look(train, config, args)}
    test = open_test(config) if has_test_pictures(config) else None
    looks["test"] = looks["train"]
    if test is not None and not isinstance(test, Part):
        looks["test"] = _look(test, config, args)
    findings = _print_splits(config, looks)
    if args.array:
        with writing(args.array, "--array"):
            _write_array(config, looks, args)
    if args.sheet != "-":
        with writing(args.sheet, "--sheet"):
            _write_sheet(config, Path(args.sheet))
    for pictures, look in ((train, looks["train"]), (test, looks["test"])):
        if pictures is not None and look is not None:
            BadPictures(pictures.location, look.good + len(look.bad), share, look.bad)
    return 1 if findings else 0


def _check_outputs(args: argparse.Namespace, config: ConfigDict) -> None:
    """Checks what is written, before pictures are decoded for hours."""
    if args.array and not args.array.endswith(".npy"):
        raise UserError(f"--array={args.array}: its name must end in .npy")
    if 0 < args.side < MIN_SIDE:
        raise UserError(f"--side={args.side}: training takes pictures from {MIN_SIDE} px")
    if args.sheet != "-" and Path(args.sheet).suffix.lower() != ".png":
        raise UserError(f"--sheet={args.sheet}: its name must end in .png, or be - for none")
    for spec in (config.data.train, config.data.test):
        if args.sheet != "-" and spec and real_path(spec) in real_path(args.sheet).parents:
            raise UserError(
                f"--sheet={args.sheet}: lies in {spec}, where it would be taken for a picture; "
                "name another file, or - for none"
            )
    for option, path in (("--array", args.array), ("--sheet", args.sheet)):
        if path and path != "-":
            with writing(path, option):
                try_folder(Path(path).parent)


def _config(args: argparse.Namespace) -> ConfigDict:
    """Returns the config that the target and the options describe."""
    from gmsrm_jax.config.checks import check_config
    from gmsrm_jax.config.fields import base_config

    if is_config_file(args.target):
        config = read_config_file(args.target)
    else:
        config = base_config()
        config.image_size = 128
        config.data.train = args.target
        if args.target.endswith(".npy"):
            config.data.pipeline = "arrays"
    change_fields(config, args.set)
    config.data.test = args.test or config.data.test
    config.data.tfds_dir = args.tfds_dir or config.data.tfds_dir
    config.image_size = args.size or config.image_size
    if args.max_bad_share is not None:
        config.data.max_bad_share = args.max_bad_share
    config.masks.train = args.masks or config.masks.train
    check_config(config)
    return config


def _prepare(config: ConfigDict, args: argparse.Namespace) -> None:
    from gmsrm_jax.data.tfds_pictures import prepare

    if not config.data.train.startswith(TFDS):
        raise UserError(f"--prepare is for tfds:NAME; {config.data.train!r} needs none")
    print(prepare(config.data.train, config.data.tfds_dir, args.manual_dir or None))


def _look(pictures: Pictures, config: ConfigDict, args: argparse.Namespace) -> Inspection | None:
    """Decodes pictures and prints what they are; None for those of an array file."""
    if not isinstance(pictures, EncodedPictures):
        print(f"{pictures.location}: {count_of(len(pictures), 'picture')} in an array file")
        return None
    found = inspect(pictures, args.threads)
    print(f"{pictures.location}: {count_of(found.good, 'picture')}")
    if found.good:
        _print_sizes(found, config.image_size)
    print("kinds: " + ", ".join(f"{n} × {kind}" for kind, n in found.kinds.most_common()))
    _print_names(f"{len(found.bad)} left out", [f"{n}: {r}" for n, r in found.bad.items()], args)
    same = duplicates(found.digests)
    _print_names(
        f"{count_of(len(same), 'group')} of the same file", [" = ".join(g) for g in same], args
    )
    return found


def _print_sizes(found: Inspection, size: int) -> None:
    sides = sorted(min(pair) for pair in found.sizes.elements())
    print(f"shorter side: {sides[0]} to {sides[-1]} px, median {round(statistics.median(sides))}")
    common = ", ".join(f"{n} × {w} x {h}" for (w, h), n in found.sizes.most_common(5))
    print(f"sizes: {len(found.sizes)} different, most common {common}")
    small = sum(side < size for side in sides)
    if small:
        print(f"small: {small} have a side below the {size} px of a crop, and will be enlarged")


def _print_names(title: str, lines: list[str], args: argparse.Namespace) -> None:
    if not lines:
        return
    shown = lines if args.all else lines[:_SHOWN]
    print(f"{title}:")
    for line in shown:
        print(f"  {printable(line)}")
    if len(shown) < len(lines):
        print(f"  and {len(lines) - len(shown)} more; --all prints them")


def _print_splits(config: ConfigDict, looks: dict[str, Inspection | None]) -> int:
    """Prints the size of each split; returns the number of things found to look at."""
    split = split_pictures(config)
    test = open_test(config) if has_test_pictures(config) else None
    print(
        f"splits: {len(split.training)} training, {len(split.validation)} validation, "
        f"{len(test) if test else 0} test"
    )
    if split.rule:
        print(f"  divided by: {split.rule}")
    print(f"  validation: {split.origin}")
    train, others = looks["train"], looks["test"]
    different = {id(look): look for look in (train, others) if look is not None}
    findings = sum(len(look.bad) for look in different.values())
    parts = [("validation", len(split.validation), config.data.validation_bounds[0])]
    if test is not None:
        parts.append(("test", len(test), config.data.test_bounds[0]))
    for part, count, fewest in parts:
        if count < fewest:
            print(f"{part}: {count} is too few to judge by; use {fewest} or more")
            findings += 1
    if test is None or train is None or others is None:
        return findings
    trained = {train.digests.get(split.pictures.name(int(i))) for i in split.training} - {None}
    leaked = [test.name(i) for i in range(len(test)) if others.digests.get(test.name(i)) in trained]
    if leaked:
        said = (
            "1 test picture is a training picture"
            if len(leaked) == 1
            else f"{len(leaked)} test pictures are training pictures"
        )
        print(f"{said} too, such as {printable(leaked[0])}")
    return findings + len(leaked)


class _Squares:
    """Pictures scaled and cut to squares, one at a time."""

    def __init__(self, pictures: Pictures, indices: Sequence[int], side: int) -> None:
        self._pictures, self._indices, self._side = pictures, indices, side
        self._progress = Progress("writing", 0, len(indices), 1)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: int) -> np.ndarray:
        self._progress.update(place + 1, "")
        image = self._pictures.image(self._indices[place])
        return resize_for_test(image, self._side, 1.0, "shorter_side")


def _write_array(
    config: ConfigDict, looks: dict[str, Inspection | None], args: argparse.Namespace
) -> None:
    """Writes pictures as an array file; those that cannot be decoded are left out."""
    from gmsrm_jax.data.arrays import write_pictures

    if args.part == "test":
        pictures, look = open_test(config), looks["test"]
        indices: Sequence[int] = range(len(pictures))
    else:
        split = split_pictures(config)
        pictures, look = split.pictures, looks["train"]
        chosen = np.concatenate([split.training, split.validation])
        indices = np.sort(chosen).tolist() if args.part == "train" else range(len(pictures))
    bad = look.bad if look else {}
    indices = [index for index in indices if pictures.name(index) not in bad]
    side = args.side or round(config.image_size * config.data.shorter_side * config.data.scale[1])
    write_pictures(args.array, _Squares(pictures, indices, side))
    print(f"{args.array}: {count_of(len(indices), 'picture')} of {side} x {side} px")


def _write_sheet(config: ConfigDict, path: Path) -> None:
    """Writes training samples, and beside each the same with its hole in white."""
    from gmsrm_jax.data.loading import open_data

    batch = next(open_data(config).batches(_SHEET_COLUMNS // 2 * _SHEET_ROWS, 0, 0))
    image, mask = batch["image"], batch["mask"]
    holed = np.where(mask == 1, np.uint8(255), image)
    pairs = np.stack([image, holed], axis=1).reshape(-1, *image.shape[1:])
    write_atomically(path, to_png(grid(pairs, _SHEET_COLUMNS)))
    print(f"{path}: {len(image)} training samples and their holes ({config.masks.train})")
