"""Scores methods of filling holes on the test pictures, with the masks of a list.

Every number in a table comes from the composite: the method's pixels, rounded to uint8, in the
hole, and the untouched picture elsewhere. So PNG files of any other program can stand beside it.
"""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gmsrm_jax.data.decoding import resize_for_test
from gmsrm_jax.data.sources import Pictures
from gmsrm_jax.errors import UserError
from gmsrm_jax.evaluation.examples import Examples, spread, write_examples
from gmsrm_jax.evaluation.mask_lists import MaskList
from gmsrm_jax.files import write_atomically
from gmsrm_jax.metrics import DEFINITIONS, METRICS

Fill = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(image, mask, example_index) → raw output.

image: float32 [N, S, S, 3] in [-1, 1], holes zeroed. mask: float32 [N, S, S, 1], 1 in the hole.
example_index: int32 [N], picture · (masks per picture) + mask; the only source of randomness that
a method should use. Output: float32 [N, S, S, 3] in [-1, 1].
"""

IMAGE_KINDS = {
    "composite": "output rounded to uint8 in the hole, the given picture elsewhere",
    "composite_unrounded": "output clipped to 0..255 but not rounded in the hole, the given "
    "picture elsewhere",
    "raw": "output clipped to 0..255 but not rounded, known pixels included",
}
METRICS_FILE = "metrics.json"
PER_IMAGE_FILE = "per_image.csv"
EXAMPLES_FILE = "examples.npz"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The outcome: `metrics` as written to metrics.json, and the pictures kept for the report."""

    metrics: dict[str, Any]
    examples: Examples


def evaluated_names(pictures: Pictures, max_images: int) -> list[str]:
    """Names of the pictures that are evaluated: the first `max_images`, or all if that is 0."""
    count = min(len(pictures), max_images) if max_images else len(pictures)
    return [pictures.name(index) for index in range(count)]


def composite(
    image: np.ndarray, mask: np.ndarray, raw: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Puts a method's output into the holes.

    Args:
        image: uint8 [..., 3], 0..255.
        mask: uint8 [..., 1], 1 in the hole.
        raw: float32 [..., 3] in [-1, 1]; values outside are clipped.

    Returns:
        The composite with the output rounded, uint8; the composite with the output as it is,
        float32 in 0..255; the output alone, float32 in 0..255.
    """
    pixels = (np.clip(raw.astype(np.float32), -1.0, 1.0) + np.float32(1.0)) * np.float32(127.5)
    hole = mask.astype(bool)
    rounded = np.where(hole, np.rint(pixels).astype(np.uint8), image)
    unrounded = np.where(hole, pixels, image.astype(np.float32))
    return rounded, unrounded, pixels


@jax.jit
def _score(predictions: jax.Array, targets: jax.Array) -> dict[str, jax.Array]:
    return {name: metric(predictions, targets) for name, metric in METRICS.items()}


def _load(
    pictures: Pictures, mask_list: MaskList, batch_size: int, resize: Callable[[Any], np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """Batches of (image uint8, mask uint8, example_index int32, number of examples that count).

    The last batch is filled up with copies of its last example, so that all have one shape.
    """
    total = len(mask_list.names) * len(mask_list.bins)
    loaded, picture = -1, np.empty(0, np.uint8)
    for start in range(0, total, batch_size):
        count = min(batch_size, total - start)
        index = np.minimum(np.arange(start, start + batch_size), total - 1).astype(np.int32)
        images = []
        for example in index:
            wanted = int(example) // len(mask_list.bins)
            if wanted != loaded:
                loaded, picture = wanted, resize(pictures.image(wanted))
            images.append(picture)
        masks = np.stack([mask_list.mask(int(example)) for example in index])
        yield np.stack(images), masks, index, count


def _fill(
    method: str, fill: Fill, image: np.ndarray, mask: np.ndarray, index: np.ndarray
) -> np.ndarray:
    """The output of one method, checked."""
    network_image = (image.astype(np.float32) / np.float32(127.5) - np.float32(1.0)) * (1 - mask)
    raw = np.asarray(fill(network_image.astype(np.float32), mask.astype(np.float32), index))
    if raw.shape != image.shape:
        raise ValueError(f"method {method!r} returned {raw.shape}, expected {image.shape}")
    if not np.isfinite(raw).all():
        raise UserError(
            f"method {method!r}: its output holds values that are not finite; the weights are "
            "damaged or diverged, take an earlier checkpoint"
        )
    return raw


def _summary(
    by_metric: Mapping[str, np.ndarray], bins: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """For each bin and metric the mean of the defined values and how many there are.

    `by_metric` holds float64 [P * B], NaN where the metric is undefined.
    """

    def mean(values: np.ndarray) -> dict[str, Any]:
        defined = values[~np.isnan(values)]
        return {
            "mean": float(defined.mean()) if defined.size else None,
            "count": int(defined.size),
            "undefined": int(values.size - defined.size),
        }

    return {
        name: {metric: mean(values[position :: len(bins)]) for metric, values in by_metric.items()}
        for position, name in enumerate(bins)
    }


def _per_image_csv(
    mask_list: MaskList, scores: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]
) -> bytes:
    """One line per example and method, scores of the composite; undefined ones are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "mask_index", "bin", "ratio", "mask_sha256", "method", *METRICS])
    for picture, picture_name in enumerate(mask_list.names):
        for position, bin_name in enumerate(mask_list.bins):
            example = picture * len(mask_list.bins) + position
            ratio = format(mask_list.ratios[picture, position], ".6f")
            digest = mask_list.hashes[picture][position]
            for method, kinds in scores.items():
                values = [float(kinds["composite"][metric][example]) for metric in METRICS]
                cells = ["" if math.isnan(value) else format(value, ".9g") for value in values]
                writer.writerow([picture_name, example, bin_name, ratio, digest, method, *cells])
    return text.getvalue().encode()


def evaluate(
    methods: Mapping[str, Fill],
    pictures: Pictures,
    mask_list: MaskList,
    *,
    image_size: int,
    shorter_side: float,
    test_resize: str,
    batch_size: int,
    max_images: int = 0,
    output_dir: str | Path | None = None,
    facts: Mapping[str, Any] | None = None,
    panel_rows: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Fills every picture's holes with every method and scores the results.

    Args:
        methods: name to `Fill`, in the order of the tables' rows.
        pictures: the test set.
        mask_list: masks of exactly the evaluated pictures, at `image_size`.
        image_size: side S [px].
        shorter_side: shorter side after the resize, in image sizes.
        test_resize: "shorter_side" or "direct", see `resize_for_test`.
        batch_size: examples given to a method at once; the last batch is padded to it.
        max_images: pictures evaluated, from the first; 0 means all.
        output_dir: folder for metrics.json, per_image.csv and examples.npz; None writes nothing.
        facts: what else metrics.json shall state, such as config and checkpoint; JSON values.
        panel_rows: examples kept for the report; 0 keeps none.
        progress: called with (examples done, examples in all) after each batch.

    Returns:
        The metrics and the examples kept.

    Raises:
        UserError: size or names of the mask list are not those evaluated, or an output is not
            finite.
        ValueError: an output has another shape than its input, or there is no method.
    """
    if not methods:
        raise ValueError("evaluate needs at least one method")
    mask_list.check(evaluated_names(pictures, max_images), image_size)
    bins = mask_list.bins
    total = len(mask_list.names) * len(bins)
    scores = {
        method: {kind: {name: np.full(total, np.nan) for name in METRICS} for kind in IMAGE_KINDS}
        for method in methods
    }
    chosen = spread(len(mask_list.names), len(bins), panel_rows)
    shape = (len(chosen), image_size, image_size, 3)
    truth_kept = np.zeros(shape, np.uint8)
    composite_kept, raw_kept = (np.zeros((len(methods), *shape), np.uint8) for _ in range(2))

    def resize(picture: np.ndarray) -> np.ndarray:
        return resize_for_test(picture, image_size, shorter_side, test_resize)

    for image, mask, index, count in _load(pictures, mask_list, batch_size, resize):
        rows = {int(example): row for row, example in enumerate(index[:count])}
        here = [(place, rows[example]) for place, example in enumerate(chosen) if example in rows]
        for place, row in here:
            truth_kept[place] = image[row]
        targets = np.broadcast_to(image.astype(np.float32), (len(IMAGE_KINDS), *image.shape))
        for number, (method, fill) in enumerate(methods.items()):
            kinds = composite(image, mask, _fill(method, fill, image, mask, index))
            values = _score(jnp.stack([k.astype(np.float32) for k in kinds]), targets)
            for name, array in values.items():
                for kind, row_values in zip(IMAGE_KINDS, np.asarray(array), strict=True):
                    scores[method][kind][name][index[:count]] = row_values[:count]
            for place, row in here:
                composite_kept[number, place] = kinds[0][row]
                raw_kept[number, place] = np.rint(kinds[2][row])
        if progress is not None:
            progress(int(index[count - 1]) + 1, total)

    examples = Examples(
        pictures=tuple(mask_list.names[example // len(bins)] for example in chosen),
        bins=tuple(bins[example % len(bins)] for example in chosen),
        ratios=mask_list.ratios.reshape(-1)[chosen],
        methods=tuple(methods),
        truth=truth_kept,
        mask=np.array([mask_list.mask(example) for example in chosen], np.uint8),
        composite=composite_kept,
        raw=raw_kept,
    )
    metrics: dict[str, Any] = {
        "definitions": {name: definition._asdict() for name, definition in DEFINITIONS.items()},
        "images": dict(IMAGE_KINDS),
        "facts": dict(facts or {}),
        "image_size": image_size,
        "shorter_side": shorter_side,
        "test_resize": test_resize,
        "pictures": len(mask_list.names),
        "examples": total,
        "mask_list": mask_list.facts(),
        "methods": {
            method: {kind: _summary(by_metric, bins) for kind, by_metric in kinds.items()}
            for method, kinds in scores.items()
        },
    }
    if output_dir is not None:
        folder = Path(output_dir)
        write_examples(folder / EXAMPLES_FILE, examples)
        write_atomically(folder / PER_IMAGE_FILE, _per_image_csv(mask_list, scores))
        # Last, so that its presence says that the evaluation is complete.
        text = json.dumps(metrics, indent=2, allow_nan=False, ensure_ascii=False)
        write_atomically(folder / METRICS_FILE, f"{text}\n".encode())
    return Evaluation(metrics, examples)
