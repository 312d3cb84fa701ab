"""Says what a VGG distance in the hole is worth: python tools/distance_scale.py configs/facades.py.

The hole of each test picture is filled with the truth itself, moved to the right or blurred; the
table gives the distance from the truth, and PSNR, in each bin of hole sizes: a scale to read the
distances of fillings on. What lies along the rows stays in its place when they are moved.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageFilter

from gmsrm_jax import metrics
from gmsrm_jax.commands import Parser
from gmsrm_jax.commands.config_files import change_fields, read_config_file
from gmsrm_jax.commands.options import add_fields
from gmsrm_jax.config.checks import check_config
from gmsrm_jax.data.decoding import resize_for_test
from gmsrm_jax.evaluation.run import open_test_set
from gmsrm_jax.metrics.perceptual import VGG_HOLE_LAYER, vgg_hole
from gmsrm_jax.nn.vgg import load_vgg19
from gmsrm_jax.runtime.errors import status_of
from gmsrm_jax.runtime.jax_setup import set_up_jax
from gmsrm_jax.runtime.log import open_text_log

Change = Callable[[np.ndarray], np.ndarray]


def moved(truth: np.ndarray, pixels: int) -> np.ndarray:
    """Moves a picture [S, S, 3] to the right; its leftmost column fills what becomes free."""
    return np.concatenate([np.repeat(truth[:, :1], pixels, 1), truth[:, :-pixels]], axis=1)


def blurred(truth: np.ndarray, deviation: float) -> np.ndarray:
    """Blurs a uint8 picture [S, S, 3] with a Gaussian, its standard deviation in pixels."""
    return np.asarray(Image.fromarray(truth).filter(ImageFilter.GaussianBlur(deviation)))


CHANGES: dict[str, Change] = {
    **{f"moved by {k} px": partial(moved, pixels=k) for k in (1, 2, 4)},
    **{f"blurred, σ = {s} px": partial(blurred, deviation=s) for s in (0.5, 1.0, 2.0)},
}


def distance_scale(config: ConfigDict) -> str:
    """Returns a Markdown table, "VGG distance / PSNR of the composite" for each change and bin.

    Raises:
        UserError: test pictures or masks cannot be used.
    """
    pictures, masks = open_test_set(config)
    vgg = load_vgg19("bundled", (VGG_HOLE_LAYER,))
    count, bins = len(masks.names), len(masks.bins)
    scores = np.zeros((len(CHANGES), count, bins, 2))
    for place in range(count):
        truth = resize_for_test(
            pictures.image(place),
            config.image_size,
            config.data.shorter_side,
            config.data.test_resize,
        )
        holes = np.stack([masks.mask(place * bins + position) for position in range(bins)])
        truths = np.broadcast_to(truth, (bins, *truth.shape))
        for row, change in enumerate(CHANGES.values()):
            filled = np.where(holes > 0, change(truth), truth)
            scores[row, place, :, 0] = vgg_hole(vgg, filled, truths, holes)
            scores[row, place, :, 1] = metrics.psnr(filled, truths)
    lines = [f"| the truth | {' | '.join(masks.bins)} |", f"| --- |{' ---: |' * bins}"]
    for name, means in zip(CHANGES, scores.mean(1), strict=True):
        cells = (f"{distance:.2f} / {psnr:.1f}" for distance, psnr in means)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table and returns the exit status, 2 after an error that is one line."""
    parser = Parser(description="Measures the VGG distance of moved and blurred truths.")
    add = parser.add_argument
    add("config", metavar="FILE", help="a config file *.py[:ARGUMENT]")
    add_fields(parser)
    args = parser.parse_args(arguments)
    open_text_log(None)

    def measure() -> None:
        config = read_config_file(args.config)
        change_fields(config, args.set)
        check_config(config)
        set_up_jax(config.matmul_precision)
        print(distance_scale(config))

    return status_of("distance_scale", measure)


if __name__ == "__main__":
    sys.exit(main())
