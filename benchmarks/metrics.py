"""Images scored per second with the paper's four measures, against scikit-image and plain NumPy.

    python benchmarks/metrics.py [--size 256] [--batch 16] [--repeats 9] [--references 4]

Pictures are the bundled ones with noise in a hole. "gmsrm_jax" scores a uint8 batch with all four
in one compiled program, the copy to the device included. The reference takes PSNR and SSIM from
scikit-image, NCC and LMSE from NumPy as it is usually written: LMSE in loops over windows. Both
take turns; the best of the repeats counts, since other programs on the machine only slow them
down. Prints a Markdown table, and by how much the values differ. Needs scikit-image.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

from gmsrm_jax.data.decoding import resize_for_test
from gmsrm_jax.data.sources import open_pictures
from gmsrm_jax.metrics import METRICS

try:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity
except ModuleNotFoundError:
    sys.exit("this benchmark compares with scikit-image: python -m pip install scikit-image")

Score = Callable[[np.ndarray, np.ndarray], float]


def reference_psnr(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean of scikit-image's values of the three channels."""
    channels = [
        peak_signal_noise_ratio(target[..., c], prediction[..., c], data_range=255)
        for c in range(3)
    ]
    return float(np.mean(channels))


def reference_ssim(prediction: np.ndarray, target: np.ndarray) -> float:
    """scikit-image's value with its uniform 7x7 window."""
    return float(structural_similarity(target, prediction, data_range=255, channel_axis=-1))


def reference_ncc(prediction: np.ndarray, target: np.ndarray) -> float:
    """The textbook formula."""
    x, y = prediction.astype(np.float64), target.astype(np.float64)
    return float(np.mean((x - x.mean()) * (y - y.mean())) / (x.std() * y.std()))


def reference_lmse(prediction: np.ndarray, target: np.ndarray) -> float:
    """Loops over channels and windows."""
    prediction, target = prediction.astype(np.float64), target.astype(np.float64)
    height, width, channels = target.shape
    error = energy = 0.0
    for channel in range(channels):
        for i in range(0, height - 19, 10):
            for j in range(0, width - 19, 10):
                output = prediction[i : i + 20, j : j + 20, channel]
                truth = target[i : i + 20, j : j + 20, channel]
                square = np.sum(output**2)
                factor = np.sum(truth * output) / square if square > 1e-5 else 0.0
                error += np.sum((truth - factor * output) ** 2)
                energy += np.sum(truth**2)
    return float(error / energy)


REFERENCES: dict[str, Score] = {
    "psnr": reference_psnr,
    "ssim": reference_ssim,
    "ncc": reference_ncc,
    "lmse": reference_lmse,
}


def examples(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets, uint8 [count, size, size, 3]."""
    pictures = open_pictures("bundled:facades/test")
    targets = np.stack(
        [
            resize_for_test(pictures.image(i % len(pictures)), size, 1.25, "shorter_side")
            for i in range(count)
        ]
    )
    predictions = targets.copy()
    hole = (slice(None), slice(size // 4, -size // 4), slice(size // 4, -size // 4))
    noise = np.random.default_rng(0).normal(0.0, 30.0, predictions[hole].shape)
    predictions[hole] = np.clip(np.rint(targets[hole] + noise), 0, 255).astype(np.uint8)
    return predictions, targets


def seconds(run: Callable[..., object], *arguments: object) -> float:
    """How long one call takes, its result on the device waited for."""
    started = time.perf_counter()
    jax.block_until_ready(run(*arguments))
    return time.perf_counter() - started


def main() -> None:
    """Measures what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--size", type=int, default=256, help="side of the pictures [px]")
    parser.add_argument("--batch", type=int, default=16, help="pictures scored at once")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--references", type=int, default=4, help="pictures for the reference")
    args = parser.parse_args()
    predictions, targets = examples(args.batch, args.size)
    few = range(min(args.references, args.batch))
    programs = {name: jax.jit(metric) for name, metric in METRICS.items()}
    programs["all four"] = jax.jit(lambda x, y: {name: f(x, y) for name, f in METRICS.items()})

    def reference(name: str) -> list[float]:
        return [REFERENCES[name](predictions[i], targets[i]) for i in few]

    ours = {name: np.asarray(programs[name](predictions, targets)) for name in METRICS}
    programs["all four"](predictions, targets)
    differences = {name: np.abs(ours[name][: len(few)] - reference(name)).max() for name in METRICS}

    times = {name: [np.inf, np.inf] for name in programs}
    for _ in range(args.repeats):
        by_name = {}
        for name, program in programs.items():
            taken = seconds(program, predictions, targets)
            times[name][0] = min(times[name][0], taken / args.batch)
        for name in METRICS:
            by_name[name] = seconds(reference, name) / len(few)
        by_name["all four"] = sum(by_name.values())
        for name, taken in by_name.items():
            times[name][1] = min(times[name][1], taken)

    device = jax.devices()[0]
    print(
        f"{args.size} px, batch {args.batch}, best of {args.repeats}; {device.device_kind}, "
        f"{len(os.sched_getaffinity(0))} cores; the reference uses one core\n"
    )
    print("| measure | gmsrm_jax [images/s] | reference [images/s] | ratio | largest difference |")
    print("|---|---:|---:|---:|---:|")
    for name, (own, other) in times.items():
        difference = f"{differences[name]:.1e}" if name in differences else ""
        print(f"| {name} | {1 / own:,.0f} | {1 / other:,.1f} | {other / own:.0f} | {difference} |")


if __name__ == "__main__":
    main()
