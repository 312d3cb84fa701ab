"""`gmsrm masks`: draw, pack, assign and look at hole masks."""

import argparse
from collections.abc import Callable
from typing import Any

from gmsrm_jax.commands import Subparsers, add_command
from gmsrm_jax.commands.config_files import change_fields, is_config_file, read_config_file
from gmsrm_jax.commands.options import add_fields, whole, writing
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import user_path


def _side(text: str) -> int:
    value = whole(1)(text)
    if value < 32 or value & (value - 1):
        raise argparse.ArgumentTypeError(f"{value} is no power of two from 32")
    return value


def _path(option: str) -> Callable[[str], str]:
    """Returns argparse's type of a file or folder, ~ for a home."""
    return lambda text: str(user_path(text, option))


_SAMPLER = (
    "a sampler, of which `gmsrm masks samplers` prints a list; a mixture by weight, such as"
    " pic:0.7,lama:0.3; or centre holes of a share of the picture, such as centre:0.25"
)
_SIZE: Any = {
    "type": _side,
    "default": 256,
    "metavar": "PX",
    "help": "side [px] (default: %(default)s)",
}
_SEED: Any = {
    "type": whole(0),
    "default": 0,
    "metavar": "N",
    "help": "seed of the draw (default: %(default)s)",
}
_COUNT: Any = {"type": whole(1), "metavar": "N"}
_INVERT: Any = {"action": "store_true", "help": "black is the hole in a folder"}


def add_parser(subparsers: Subparsers) -> None:
    """Adds `masks` with its subcommands."""
    masks = subparsers.add_parser("masks", help="draw, pack, assign and look at hole masks")
    actions = masks.add_subparsers(dest="action", required=True, metavar="ACTION")
    draw = add_command(actions, "draw", _draw.__doc__, _draw).add_argument
    draw("--sampler", required=True, metavar="SPEC", help=_SAMPLER)
    draw("--size", **_SIZE)
    count = "number of masks (default: 2000; 1 of centre holes, which are all alike)"
    draw("--count", **_COUNT, help=count)
    draw("--seed", **_SEED)
    _add_output(draw, "BANK.npz|DIR", "the bank, or a new folder of PNGs")

    pack = add_command(actions, "pack", _pack.__doc__, _pack).add_argument
    folder = _path("--input")
    pack("--input", required=True, type=folder, metavar="DIR", help="folder of mask pictures")
    pack("--size", **_SIZE)
    pack("--invert", **_INVERT)
    _add_output(pack, "BANK.npz", "the bank to write")

    assigning = add_command(actions, "assign", _assign.__doc__, _assign)
    assign = assigning.add_argument
    assign(
        "--images",
        required=True,
        metavar="CONFIG|SPEC",
        help="the test set: of a config file *.py, or as config.data.test; of a folder with a"
        " train/, the part that training would test on",
    )
    assign("--max-images", default=0, **_COUNT, help="the first N pictures (default: all)")
    assign("--size", **_SIZE)
    assign("--seed", **_SEED)
    masks_help = "drawn ones, or a folder of mask pictures (default: %(default)s)"
    drawn: Any = {"type": _path("--masks"), "default": "generated", "metavar": "generated|DIR"}
    assign("--masks", **drawn, help=masks_help)
    assign("--invert", **_INVERT)
    _add_output(assign, "LIST.npz", "the list to write")
    add_fields(assigning)

    show = add_command(actions, "show", _show.__doc__, _show).add_argument
    show("masks", metavar="PATH|SPEC", help=f"as above, or {_SAMPLER}; a path goes first")
    show("--size", type=_side, metavar="PX", help="side [px], of a folder or drawn (default: 256)")
    show("--count", **_COUNT, help="number of masks to draw (default: 2000)")
    show("--seed", type=whole(0), metavar="N", help="seed of the draw (default: 0)")
    show("--invert", **_INVERT)
    sheet = _path("--output")
    show("--output", type=sheet, metavar="SHEET.png", help="the sheet to write")

    add_command(actions, "samplers", _samplers.__doc__, _samplers)


def _add_output(add: Callable[..., Any], metavar: str, about: str) -> None:
    add("--output", required=True, type=_path("--output"), metavar=metavar, help=about)
    add("--overwrite", action="store_true", help="replace what exists there")


def _draw(args: argparse.Namespace) -> None:
    """Draw masks from a seed.

    Draws masks into a bit-packed bank (*.npz), from which data.pipeline = 'arrays' trains, or into
    a folder of PNGs, white in the hole. Mask k is a function of sampler, size, seed and k. Samplers
    need TensorFlow, centre holes do not.
    """
    from gmsrm_jax.data.masks.sets import check_output, draw_masks, write_masks
    from gmsrm_jax.data.masks.summary import describe

    _prepare()
    check_output(args.output, args.overwrite)
    masks = draw_masks(args.sampler, args.size, args.count, args.seed)
    with writing(args.output, "--output"):
        write_masks(args.output, masks)
    print(f"{describe(masks)}\nwrote {args.output}")


def _pack(args: argparse.Namespace) -> None:
    """Put a folder of mask pictures into a bank.

    Packs the mask pictures of a folder and its subfolders, NVIDIA's irregular masks or any others,
    into a bit-packed bank. White is the hole, black with --invert, as in filling. Masks are
    resized by the nearest pixel, which keeps their hole ratio.
    """
    from gmsrm_jax.data.masks.sets import check_output, read_mask_folder, write_masks
    from gmsrm_jax.data.masks.summary import describe

    _prepare()
    _check_suffix(args.output, ".npz")
    check_output(args.output, args.overwrite)
    masks = read_mask_folder(args.input, args.size, args.invert)
    with writing(args.output, "--output"):
        write_masks(args.output, masks)
    print(f"{describe(masks)}\nwrote {args.output}")


def _assign(args: argparse.Namespace) -> None:
    """Give every test picture its masks, and write the list.

    Gives every test picture one mask of each ratio bin, (0, 10] to (50, 60] %, measured after the
    resize, and the two centre holes, and writes them with their hashes to a list for
    config.evaluation.masks. In a folder of masks white is the hole, as in filling, black with
    --invert. Two lists with the same SHA-256 are the same pixels. A list that exists is compared,
    and kept unless --overwrite is given.
    """
    from gmsrm_jax.config.fields import base_config
    from gmsrm_jax.data.masks.assignment import assign_from_folder, make_mask_list
    from gmsrm_jax.data.masks.list_file import save_mask_list
    from gmsrm_jax.data.sources import EncodedPictures, open_pictures
    from gmsrm_jax.data.splits import open_test
    from gmsrm_jax.evaluation.batches import evaluated_names

    _prepare()
    _check_suffix(args.output, ".npz")
    if args.invert and args.masks == "generated":
        raise UserError("--invert is for a folder of masks; leave it out, or give --masks=DIR")
    if is_config_file(args.images):
        given = read_config_file(args.images)
        change_fields(given, args.set)
        pictures = open_test(given)
    elif args.set:
        raise UserError("--config.FIELD changes a config file; name one such as configs/demo.py")
    else:
        pictures = open_pictures(args.images, split="test")
        if any(pictures.name(index).startswith("train/") for index in range(len(pictures))):
            config = base_config()
            config.data.train = args.images
            pictures = open_test(config)
    if isinstance(pictures, EncodedPictures):
        pictures.bad.say_all()
    names = evaluated_names(pictures, args.max_images)
    if args.masks == "generated":
        mask_list = make_mask_list(names, args.size, args.seed)
    else:
        mask_list = assign_from_folder(names, args.size, args.seed, args.masks, args.invert)
    with writing(args.output, "--output"):
        written = save_mask_list(args.output, mask_list, args.overwrite)
    facts = mask_list.facts()
    shape = f"{count_of(len(names), 'picture')} × {count_of(len(mask_list.bins), 'mask')}"
    print(f"{shape} of {args.size} px: {mask_list.source}")
    for name, cell in facts["bins"].items():
        masks = count_of(cell["count"], "mask", "7d")
        print(f"{name:>10} {masks}, mean ratio {100 * cell['mean_ratio']:5.2f} %")
    print(f"SHA-256 {facts['sha256']}")
    print(f"wrote {args.output}" if written else f"{args.output} holds this list already")


def _show(args: argparse.Namespace) -> None:
    """Print how hole ratios are spread, and draw a sheet of masks.

    Prints number, mean, standard deviation, quantiles and histogram of the hole ratios of masks,
    measured after the resize: of a mask bank or list (*.npz), a folder of mask pictures, or masks
    to draw. With --output, also draws up to 48 of them, evenly spread over the set in the order of
    their ratios, in one PNG.
    """
    from gmsrm_jax.data.masks.sets import open_masks
    from gmsrm_jax.data.masks.summary import contact_sheet, describe
    from gmsrm_jax.runtime.files import write_atomically
    from gmsrm_jax.runtime.image_grid import to_png

    _prepare()
    if args.output:
        _check_suffix(args.output, ".png")
    masks = open_masks(args.masks, args.size, args.count, args.seed, args.invert)
    print(describe(masks))
    if args.output:
        with writing(args.output, "--output"):
            write_atomically(args.output, to_png(contact_sheet(masks)))
        print(f"wrote {args.output}")


def _samplers(args: argparse.Namespace) -> None:
    """List the samplers."""
    _prepare()
    from gmsrm_jax.data.masks import DESCRIPTIONS

    for name, description in DESCRIPTIONS.items():
        print(f"{name:<14} {description}")


def _prepare() -> None:
    """Lets progress and pictures that are left out be said on the terminal."""
    from gmsrm_jax.runtime.log import open_text_log

    open_text_log(None)


def _check_suffix(path: str, suffix: str) -> None:
    if not path.endswith(suffix):
        raise UserError(f"--output={path}: its name must end in {suffix}")
