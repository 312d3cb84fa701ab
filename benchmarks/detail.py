"""Detail at full size against what `auto` was before it, and Telea's method: quality, time, memory.

    python -m benchmarks.detail --pictures=FOLDER --masks=FOLDER [--count=16] [--sides=384,512]
        [--seed=77] [--panels=FOLDER] [--large] [--torch-python=PATH]

Pictures are drawn by the seed and scaled down to a shorter side of 384 and 512 px in turn; holes
are in turn one or two rectangles of 10 to 30 %, a mask of the folder of 10 to 45 %, an object-like
blob, and a mask again. "auto before" is crop, or tile where crop would scale a window down more
than twice. Quality is measured on the hole but for PSNR. Seconds are the process's CPU time, since
other processes may be at work. --large fills 5 % of a picture scaled up to 12 megapixels and prints
the peak of resident memory; --torch-python times big-LaMa's network too (`lama_twin`).
"""

import argparse
import pathlib
import time

import numpy as np
from PIL import Image

from benchmarks.hardware import resident_peak_gib
from benchmarks.use import time_lama
from gmsrm_jax import Inpainter
from gmsrm_jax.inference.regions import find_regions
from gmsrm_jax.metrics import psnr
from gmsrm_jax.metrics.extra import sharpness
from gmsrm_jax.metrics.perceptual import VGG_HOLE_LAYER, texture, vgg_hole
from gmsrm_jax.nn.vgg import load_vgg19

_COLUMNS = ("PSNR", "VGG", "texture", "sharpness", "CPU s")


def rectangles(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """One or two rectangles of 10 to 30 % of a picture, bool [H, W]."""
    hole, number = np.zeros(shape, bool), int(rng.integers(1, 3))
    area = rng.uniform(0.1, 0.3) * hole.size / number
    for _ in range(number):
        high = int(min(shape[0] - 8, np.sqrt(area * np.exp(rng.uniform(-0.5, 0.5)))))
        wide = int(min(shape[1] - 8, area / high))
        top, left = rng.integers(4, shape[0] - high - 3), rng.integers(4, shape[1] - wide - 3)
        hole[top : top + high, left : left + wide] = True
    return hole


def blob(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """An upright shape with waves in its outline, bool [H, W]."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    rows = (rows - shape[0] * rng.uniform(0.35, 0.65)) / 1.6
    columns = columns - shape[1] * rng.uniform(0.3, 0.7)
    angle = np.arctan2(rows, columns)
    waves = 0.25 * np.sin(3 * angle + rng.uniform(0, 6)) + 0.15 * np.sin(5 * angle)
    return np.hypot(rows, columns) < 0.2 * min(shape) * (1 + waves)


def drawn_mask(
    shape: tuple[int, int], files: list[pathlib.Path], rng: np.random.Generator
) -> np.ndarray:
    """A mask of a folder of which 10 to 45 % are white, bool [H, W]."""
    while True:
        mask = Image.open(files[rng.integers(len(files))]).convert("L")
        hole = np.asarray(mask.resize(shape[::-1], Image.Resampling.NEAREST)) > 127
        if 0.1 <= hole.mean() <= 0.45:
            return hole


def before(hole: np.ndarray, size: int) -> str:
    """What `auto` meant before detail, for a picture larger than the network."""
    longest = max(box.longest for box in find_regions(hole, size).boxes)
    return "crop" if min(np.ceil(1.5 * longest), max(hole.shape)) <= 2 * size else "tile"


def compare(args: argparse.Namespace, inpainter: Inpainter) -> None:
    """Prints a line for each picture and method, and the table of means."""
    rng = np.random.default_rng(args.seed)
    files, masks = (
        sorted(x for x in pathlib.Path(folder).iterdir() if x.suffix in (".jpg", ".png"))
        for folder in (args.pictures, args.masks)
    )
    sides = [int(side) for side in args.sides.split(",")]
    weights = load_vgg19("bundled", (VGG_HOLE_LAYER,))
    means: dict[str, list[list[float]]] = {}
    for number, place in enumerate(rng.permutation(len(files))[: args.count]):
        image = Image.open(files[place]).convert("RGB")
        scale = min(1.0, sides[number % len(sides)] / min(image.size))
        image = image.resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS)
        truth = np.asarray(image)
        shape = truth.shape[:2]
        kind = (number // len(sides)) % 4
        draw = {0: rectangles, 2: blob}.get(kind)
        hole = draw(shape, rng) if draw else drawn_mask(shape, masks, rng)
        given = np.where(hole[..., None], np.uint8(0), truth)
        row = [truth, given]
        for name in ("auto before", "Telea", "detail"):
            began = time.process_time()
            if name == "Telea":
                filled = _telea(given, hole)
            else:
                strategy = name if name == "detail" else before(hole, inpainter.size)
                filled = np.asarray(inpainter(given, hole, strategy=strategy).images[0])
            seconds = time.process_time() - began
            mask = hole[..., None]
            scores = [
                float(psnr(filled, truth)),
                float(vgg_hole(weights, filled, truth, mask)),
                float(texture(weights, filled, truth, mask)),
                float(sharpness(filled, truth, mask)),
                seconds,
            ]
            means.setdefault(name, []).append(scores)
            line = ", ".join(f"{c} {v:.3f}" for c, v in zip(_COLUMNS, scores, strict=True))
            start = f"{files[place].name} {shape[0]}x{shape[1]} {hole.mean():.0%} {name}"
            print(f"{start}: {line}", flush=True)
            row.append(filled)
        if args.panels:
            folder = pathlib.Path(args.panels)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.concatenate(row, axis=1)).save(folder / f"{number:02d}.png")
    print(f"\n| {args.count} pictures | {' | '.join(_COLUMNS)} |\n|---|{'---|' * len(_COLUMNS)}")
    for name, rows in means.items():
        cells = " | ".join(f"{value:.3f}" for value in np.mean(rows, axis=0))
        print(f"| {name} | {cells} |")


def large(args: argparse.Namespace, inpainter: Inpainter) -> None:
    """Fills 5 % of 12 megapixels and prints time and memory."""
    file = min(x for x in pathlib.Path(args.pictures).iterdir() if x.suffix in (".jpg", ".png"))
    image = Image.open(file).convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 4, (3000, 4000, 1)).astype(np.int16)
    picture = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
    hole = np.zeros((3000, 4000), bool)
    hole[700:1250, 600:1250] = hole[1800:2300, 2500:3080] = True
    began, began_cpu = time.perf_counter(), time.process_time()
    inpainter(picture, hole)
    seconds = time.process_time() - began_cpu
    print(
        f"12 megapixels, {hole.mean():.1%} hole: {seconds:.1f} CPU s, "
        f"{time.perf_counter() - began:.1f} s; peak resident {resident_peak_gib():.2f} GiB"
    )


def _telea(given: np.ndarray, hole: np.ndarray) -> np.ndarray:
    import cv2

    filled = cv2.inpaint(given, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    return np.where(hole[..., None], filled, given)


def main() -> None:
    """Measures what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--pictures", required=True, metavar="FOLDER")
    parser.add_argument("--masks", required=True, metavar="FOLDER")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--sides", default="384,512", help="shorter sides in pixels")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--panels", metavar="FOLDER", help="where to write truth, hole and fills")
    parser.add_argument("--checkpoint", metavar="NAME|DIR", help="weights; default: the bundled")
    parser.add_argument("--large", action="store_true", help="12 megapixels too")
    parser.add_argument("--torch-python", metavar="PATH", help="a Python with PyTorch")
    args = parser.parse_args()
    inpainter = Inpainter.from_pretrained(args.checkpoint)
    for batch in (1, 2, 4):
        inpainter.warm_up(batch)
    if args.large:  # first: peak memory is the process's
        large(args, inpainter)
    compare(args, inpainter)
    if args.torch_python:
        print("big-LaMa's network, 512 x 910 px:", time_lama(args.torch_python, (512, 910)))


if __name__ == "__main__":
    main()
