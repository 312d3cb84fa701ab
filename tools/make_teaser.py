"""Makes the README's teaser: python tools/make_teaser.py --output teaser.png.

Each row is a test picture with a hole, the mask, fillings of several seeds, and the truth. The
pictures are cut by the test rule of an evaluation, then filled as `Inpainter` fills them for
anybody. Weights, pictures, masks and seed alone decide what is drawn.
"""

import argparse
import itertools
import pathlib
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.assets import BUNDLED_NETWORKS, resolve_path
from gmsrm_jax.commands.options import writing
from gmsrm_jax.config.of_run import config_of_run
from gmsrm_jax.data.bad_pictures import printable
from gmsrm_jax.data.decoding import MIN_SIDE, resize_for_test
from gmsrm_jax.data.masks.assignment import make_mask_list
from gmsrm_jax.data.masks.bins import (
    BIN_NAMES,
    CENTRE_RATIOS,
    RATIO_BINS,
    bin_name,
    center_mask,
    ratio_bin,
)
from gmsrm_jax.data.masks.sets import MaskSet, open_masks
from gmsrm_jax.data.sources import Pictures, open_pictures
from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.networks import Pretrained, load_pretrained
from gmsrm_jax.runtime.errors import UserError, status_of
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.image_grid import holed, labelled_sheet, mask_picture, to_png, upscale
from gmsrm_jax.runtime.jax_setup import set_up_jax
from gmsrm_jax.runtime.log import open_text_log
from gmsrm_jax.runtime.sha256sums import SUMS_FILE

_RATIOS = ("20-30%", "40-50%", "centre 25%")
_CENTRES = dict(zip(BIN_NAMES[len(RATIO_BINS) :], CENTRE_RATIOS, strict=True))
_LEAST_PIXELS = 96  # smaller pictures are enlarged, so that the headings have room
_SEEDS = 2**32


def make_teaser(args: argparse.Namespace) -> str:
    """Writes the picture, and returns what was written from what, one line.

    Raises:
        UserError: an option, the weights, a picture or the masks cannot be used.
    """
    _check_options(args)
    pictures, ratios = open_pictures(args.images), args.ratios
    places = _chosen(pictures, args.pictures, len(ratios), args.seed)
    network = load_pretrained(args.checkpoint)
    size = args.size or network.config.image_size
    masks = _masks(args.masks, ratios, size, args.seed)
    rule = _test_rule(args.checkpoint, network)
    inpainter = Inpainter(network)
    factor = -(-_LEAST_PIXELS // size)
    rows = []
    for place, mask in zip(places, masks, strict=True):
        picture = pictures.image(place)
        truth = resize_for_test(picture, size, rule.shorter_side, rule.test_resize)
        result = inpainter(truth, mask[..., 0] > 0, num_samples=args.samples, seed=args.seed)
        cells = [holed(truth, mask), mask_picture(mask), *map(np.asarray, result.images), truth]
        rows.append([upscale(cell, factor) for cell in cells])
    seeds = [f"filled, seed {args.seed + sample}" for sample in range(args.samples)]
    labels = ["input", "mask", *seeds, "truth"]
    with writing(args.output, "--output"):
        write_atomically(args.output, to_png(labelled_sheet(labels, rows)))
    shown = ", ".join(
        f"{printable(pictures.name(place))} ({ratio})"
        for place, ratio in zip(places, ratios, strict=True)
    )
    return (
        f"{args.output}: {shown} at {size} px, filled by {printable(inpainter.source)}, sha256 "
        f"{inpainter.sha256[:12]}"
    )


def _check_options(args: argparse.Namespace) -> None:
    unknown = [ratio for ratio in args.ratios if ratio not in BIN_NAMES]
    if unknown:
        raise UserError(f"--ratios: {unknown[0]!r} is none of {', '.join(BIN_NAMES)}; use these")
    if args.pictures and len(args.pictures) != len(args.ratios):
        raise UserError(
            f"--pictures names {len(args.pictures)}, --ratios {len(args.ratios)} "
            f"({', '.join(args.ratios)}); give one ratio for each picture"
        )
    if not 0 <= args.seed < _SEEDS:
        raise UserError(f"--seed={args.seed}; use 0 to {_SEEDS - 1}")
    if args.samples < 1:
        raise UserError(f"--samples={args.samples}; use 1 or more")
    if args.size is not None and args.size < MIN_SIDE:
        raise UserError(f"--size={args.size}; use {MIN_SIDE} or more pixels")
    if args.output.suffix != ".png":
        raise UserError(f"--output={args.output}: its name must end in .png")


def _chosen(pictures: Pictures, names: Sequence[str], count: int, seed: int) -> list[int]:
    """Places of the named pictures, or of some drawn by the seed, in the order of the set."""
    place_of = {pictures.name(place): place for place in range(len(pictures))}
    for name in names:
        if name not in place_of:
            raise UserError(
                f"--pictures: {printable(name)} is not among the {len(pictures)} pictures of "
                f"{pictures.location}; take a name from there, such as "
                f"{printable(pictures.name(0))}"
            )
    if names:
        return [place_of[name] for name in names]
    if count > len(pictures):
        raise UserError(
            f"--ratios: {count} rows, but {pictures.location} has {len(pictures)} pictures; give "
            "fewer ratios, or name the --pictures"
        )
    drawn = np.random.default_rng(seed).permutation(len(pictures))[:count]
    return sorted(int(place) for place in drawn)


def _test_rule(checkpoint: str | None, network: Pretrained) -> ConfigDict:
    """`config.data` of a workdir's own training; an export does not hold it, and has the default.

    Only a workdir is a folder without sums of its files.
    """
    if checkpoint not in (None, *BUNDLED_NETWORKS):
        folder = pathlib.Path(checkpoint).expanduser()
        if folder.is_dir() and not (folder / SUMS_FILE).is_file():
            return config_of_run(folder).data
    return network.config.data


def _masks(spec: str | None, ratios: Sequence[str], size: int, seed: int) -> list[np.ndarray]:
    """A hole for each row, uint8 [size, size, 1]; none comes twice before all of its bin came."""
    irregular = [ratio for ratio in ratios if ratio not in _CENTRES]
    drawn: Iterator[np.ndarray] = iter(())
    if irregular and spec is None:
        listed = make_mask_list([""] * len(irregular), size, seed)
        drawn = (
            listed.mask(row * len(BIN_NAMES) + BIN_NAMES.index(ratio))
            for row, ratio in enumerate(irregular)
        )
    elif irregular and spec is not None:
        drawn = _dealt(_mask_set(spec, size), spec, irregular, seed)
    return [
        center_mask(size, _CENTRES[ratio]).astype(np.uint8) if ratio in _CENTRES else next(drawn)
        for ratio in ratios
    ]


def _mask_set(spec: str, size: int) -> MaskSet:
    path = resolve_path(spec)
    if not path.exists():
        raise UserError(f"--masks: {path} does not exist; name a folder of masks, or a *.npz")
    masks = open_masks(spec, size if path.is_dir() else None)
    if masks.size != size:
        raise UserError(
            f"--masks: those of {path} have {masks.size} px and the pictures {size} px; name a "
            f"folder of mask pictures, which are resized, or --size={masks.size}"
        )
    return masks


def _dealt(masks: MaskSet, spec: str, ratios: Sequence[str], seed: int) -> Iterator[np.ndarray]:
    """For each ratio the next mask of its bin, in an order drawn from the seed."""
    found = [ratio_bin(ratio) for ratio in masks.ratios()]
    names = np.array([None if index is None else bin_name(index) for index in found])
    orders = {}
    for ratio in dict.fromkeys(ratios):
        members = np.flatnonzero(names == ratio)
        if not len(members):
            raise UserError(
                f"--masks: none of the {len(masks)} masks of {spec} has a hole of {ratio} at "
                f"{masks.size} px; name others, or another of --ratios"
            )
        rng = np.random.default_rng([seed, BIN_NAMES.index(ratio)])
        orders[ratio] = itertools.cycle(rng.permutation(members))
    return (masks.mask(int(next(orders[ratio]))) for ratio in ratios)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Makes the README's teaser: holes, fillings and truth, row by row.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        metavar="NAME|DIR",
        help="weights, as of `gmsrm inpaint` (default: the bundled ones)",
    )
    add(
        "--images",
        default="bundled:facades/test",
        metavar="DIR|SPEC",
        help="the pictures, as config.data.test (default: %(default)s)",
    )
    add(
        "--masks",
        metavar="DIR|FILE.npz",
        help="masks to draw from, white is the hole (default: generated)",
    )
    add(
        "--pictures",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names in the set, a row each (default: drawn)",
    )
    add(
        "--ratios",
        nargs="+",
        default=list(_RATIOS),
        metavar="BIN",
        # A bare % would be taken for a format.
        help=(
            f"a hole for each row, of {', '.join(BIN_NAMES)} (default: {', '.join(_RATIOS)})"
        ).replace("%", "%%"),
    )
    add("--samples", type=int, default=3, help="fillings of each hole (default: %(default)s)")
    add(
        "--seed",
        type=int,
        default=0,
        help="of pictures, masks and the first filling (default: %(default)s)",
    )
    add("--size", type=int, metavar="PX", help="side of the pictures (default: the network's)")
    add(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("teaser.png"),
        metavar="FILE.png",
        help="default: %(default)s",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the picture and returns the exit status, 2 after an error that is one line."""
    args = _parser().parse_args(arguments)
    open_text_log(None)
    set_up_jax("default")
    return status_of("make_teaser", lambda: print(make_teaser(args)))


if __name__ == "__main__":
    sys.exit(main())
