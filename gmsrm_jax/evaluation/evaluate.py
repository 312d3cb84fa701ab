"""Scores methods of filling holes on the test pictures, with the masks of a list.

Every number in a table comes from the composite: the method's pixels, rounded to uint8, in the
hole, and the untouched picture elsewhere. So PNG files of any other program can stand beside it.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gmsrm_jax.data.decoding import resize_for_test
from gmsrm_jax.data.masks.assignment import MaskList
from gmsrm_jax.data.sources import Pictures
from gmsrm_jax.evaluation.batches import (
    IMAGE_KINDS,
    Fill,
    composite,
    fill_holes,
    load_batches,
)
from gmsrm_jax.evaluation.examples import Examples, spread, write_examples
from gmsrm_jax.evaluation.measures import Judge
from gmsrm_jax.evaluation.partial import Parts
from gmsrm_jax.evaluation.scores import SAMPLES, Outcome
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically

METRICS_FILE = "metrics.json"
PER_IMAGE_FILE = "per_image.csv"
EXAMPLES_FILE = "examples.npz"
PARTS_FOLDER = "unfinished"
_BATCHES_IN_A_PART = 4
# Pixels of a hole that a fill gets exactly right; more is a copy of the truth.
_MOST_EXACT = 0.5
# Those that scores depend on. OpenCV has several distributions, and is optional like the others.
_PACKAGES = ("gmsrm-jax", "jax", "jaxlib", "flax", "numpy", "pillow")
_OPTIONAL = ("opencv-python", "opencv-python-headless", "scikit-image", "scikit-learn")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The outcome: `metrics` as written to metrics.json, and the pictures kept for the report."""

    metrics: dict[str, Any]
    examples: Examples


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that scores depend on, by name."""
    found = {}
    for name in (*_PACKAGES, *_OPTIONAL):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # optional, or imported from a folder without being installed
    return found


def evaluated_names(pictures: Pictures, max_images: int) -> list[str]:
    """Names of the pictures that are evaluated: the first `max_images`, or all if that is 0."""
    count = min(len(pictures), max_images) if max_images else len(pictures)
    return [pictures.name(index) for index in range(count)]


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
    kept: Sequence[int] = (),
    samples: Mapping[str, int] | None = None,
    covered: Mapping[str, np.ndarray] | None = None,
    judge: Judge | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Fills every picture's holes with every method and scores the results.

    With `output_dir`, what is finished is kept there, and the same call after an interruption goes
    on from it.

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
        panel_rows: examples kept for the report, spread over pictures and bins; 0 keeps none.
        kept: further examples to keep, picture · (masks per picture) + mask.
        samples: for methods that draw, how many samples of each hole are scored; the first is the
            one of the tables. 1 for those not named.
        covered: for methods that fill some examples only, which, bool [examples].
        judge: the measures; those that need no weights if None.
        progress: called with (examples done, examples in all) after each batch.

    Returns:
        The metrics and the examples kept.

    Raises:
        UserError: size or names of the mask list are not those evaluated, an output is not
            finite, or sets are to be compared and there is one picture only.
        ValueError: an output has another shape than its input, or there is no method.
    """
    if not methods:
        raise ValueError("evaluate needs at least one method")
    mask_list.check(evaluated_names(pictures, max_images), image_size)
    judge = judge or Judge()
    if judge.compares_sets and len(mask_list.names) < 2:
        raise UserError("FID, P-IDS and U-IDS need at least 2 pictures, found 1; leave fid out")
    total = len(mask_list.names) * len(mask_list.bins)
    wanted = [*spread(len(mask_list.names), len(mask_list.bins), panel_rows), *kept]
    chosen = list(dict.fromkeys(wanted))
    everything = np.ones(total, bool)
    filled = {name: (covered or {}).get(name, everything) for name in methods}
    versions = package_versions()
    bins = len(mask_list.bins)
    worker = _Worker(methods, judge, dict(samples or {}), set(chosen), total, bins)
    key = {
        "facts": dict(facts or {}),
        "masks": mask_list.sha256,
        "methods": list(methods),
        "measures": list(judge.definitions),
        "sizes": [image_size, shorter_side, test_resize, batch_size],
        "samples": worker.samples,
        "kept": sorted(chosen),
        "covered": [hashlib.sha256(filled[name].tobytes()).hexdigest() for name in methods],
        "versions": versions,
    }
    folder = None if output_dir is None else Path(output_dir)
    parts = Parts(None if folder is None else folder / PARTS_FOLDER, key)

    def resize(picture: np.ndarray) -> np.ndarray:
        return resize_for_test(picture, image_size, shorter_side, test_resize)

    found: list[dict[str, np.ndarray]] = []
    length = batch_size * _BATCHES_IN_A_PART
    for number, start in enumerate(range(0, total, length)):
        stop = min(start + length, total)
        part = parts.load(number)
        if part is None:
            batches = []
            for batch in load_batches(pictures, mask_list, batch_size, resize, start, stop):
                batches.append(worker.work(*batch))
                if progress is not None:
                    progress(int(batch[2][batch[3] - 1]) + 1, total)
            part = _joined(batches)
            parts.save(number, part)
        elif progress is not None:
            progress(stop, total)
        found.append(part)
    arrays = _joined(found)
    for name in covered or {}:
        _check_not_the_truth(name, arrays[f"{list(methods).index(name)}/exact"][filled[name]])
    outcome = Outcome(mask_list, tuple(methods), arrays, filled)
    examples = _examples(outcome, wanted)
    metrics: dict[str, Any] = {
        "definitions": {name: entry._asdict() for name, entry in judge.definitions.items()},
        "images": dict(IMAGE_KINDS),
        "facts": dict(facts or {}),
        "image_size": image_size,
        "shorter_side": shorter_side,
        "test_resize": test_resize,
        "pictures": len(mask_list.names),
        "examples": total,
        "mask_list": mask_list.facts(),
        **outcome.as_json(),
    }
    seconds = float(arrays["seconds"].sum())
    metrics["run"] = {
        "seconds": round(seconds, 3),
        "examples_per_second": round(total / seconds, 3),
        "devices": jax.device_count(),
        "device": jax.devices()[0].device_kind,
        "versions": versions,
    }
    if worker.samples:
        metrics["sample_kinds"] = dict(SAMPLES)
        metrics["sample_counts"] = worker.samples
    if judge.compares_sets:
        metrics["distribution"] = _distribution(outcome, judge)
    if folder is not None:
        write_examples(folder / EXAMPLES_FILE, examples)
        write_atomically(folder / PER_IMAGE_FILE, outcome.per_image_csv())
        # Last, so that its presence says that the evaluation is complete.
        text = json.dumps(metrics, indent=2, allow_nan=False, ensure_ascii=False)
        write_atomically(folder / METRICS_FILE, f"{text}\n".encode())
        parts.clear()
    return Evaluation(metrics, examples)


class _Worker:
    """Fills and scores batches; its arrays have one entry for each of some examples or pictures."""

    def __init__(
        self,
        methods: Mapping[str, Fill],
        judge: Judge,
        samples: dict[str, int],
        chosen: set[int],
        total: int,
        bins: int,
    ) -> None:
        self.samples = {name: count for name, count in samples.items() if count > 1}
        self._methods, self._judge = methods, judge
        self._chosen, self._total, self._bins = chosen, total, bins

    def work(
        self, image: np.ndarray, mask: np.ndarray, index: np.ndarray, count: int
    ) -> dict[str, np.ndarray]:
        """Scores, features and chosen pictures of the first `count` examples of a batch."""
        started = time.monotonic()
        rows = [row for row in range(count) if int(index[row]) in self._chosen]
        first_of_picture = index[:count] % self._bins == 0
        result = {
            "kept/example": index[rows],
            "kept/truth": image[rows],
            "truth/features": self._judge.features(image[:count][first_of_picture]),
        }
        for number, (method, fill) in enumerate(self._methods.items()):
            kinds = composite(image, mask, fill_holes(method, fill, image, mask, index))
            scores = self._judge.score(kinds, image, mask)
            if method in self.samples:
                scores |= self._further_samples(method, kinds[0], scores, image, mask, index)
            result |= {f"{number}/{name}": values[:count] for name, values in scores.items()}
            result[f"{number}/features"] = self._judge.features(kinds[0][:count])
            exact = (kinds[0] == image).all(-1, keepdims=True) & (mask == 1)
            share = exact.sum((1, 2, 3)) / np.maximum(mask.sum((1, 2, 3)), 1)
            result[f"{number}/exact"] = share[:count]
            result[f"kept/{number}/composite"] = kinds[0][rows]
            result[f"kept/{number}/raw"] = np.rint(kinds[2][rows]).astype(np.uint8)
        return result | {"seconds": np.array([time.monotonic() - started])}

    def _further_samples(
        self,
        method: str,
        first: np.ndarray,
        first_scores: Mapping[str, np.ndarray],
        image: np.ndarray,
        mask: np.ndarray,
        index: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Mean, best and diversity of several samples, the first of which is there already."""
        filled = [first]
        for sample in range(1, self.samples[method]):
            shifted = index + np.int32(sample * self._total)
            raw = fill_holes(method, self._methods[method], image, mask, shifted)
            filled.append(composite(image, mask, raw)[0])
        others = [self._judge.score_composite(x, image, mask) for x in filled[1:]]
        result = {}
        for name in others[0]:
            values = np.stack([first_scores[f"composite/{name}"], *(s[name] for s in others)])
            higher = self._judge.definitions[name].better == "higher"
            result[f"samples_mean/{name}"] = values.mean(0)
            result[f"samples_best/{name}"] = values.max(0) if higher else values.min(0)
        apart = self._judge.diversity(np.stack(filled), mask)
        return result | {f"samples_diversity/{name}": values for name, values in apart.items()}


def _check_not_the_truth(method: str, exact: np.ndarray) -> None:
    """Refuses pictures that were filled for other masks, and so hold the truth in these holes.

    Args:
        method: name of the row.
        exact: for each example the share of the hole's pixels that equal the truth.
    """
    if exact.mean() > _MOST_EXACT:
        raise UserError(
            f"predictions {method}: {exact.mean():.0%} of the pixels in the holes are the truth "
            "itself, so these pictures were filled for other masks; give the --images, --masks and "
            "--seed that they were exported with"
        )


def _joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Joins arrays; the parts are emptied on the way, for with features they are large."""
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}


def _examples(outcome: Outcome, wanted: Sequence[int]) -> Examples:
    """Puts the kept pictures into the wanted order."""
    arrays, masks = outcome.arrays, outcome.mask_list
    place = {int(example): row for row, example in enumerate(arrays["kept/example"])}
    order = [place[example] for example in wanted]
    bins = masks.bins

    def of_methods(what: str) -> np.ndarray:
        kept = [arrays[f"kept/{number}/{what}"][order] for number in range(len(outcome.methods))]
        return np.stack(kept)

    size = masks.size
    return Examples(
        pictures=tuple(masks.names[example // len(bins)] for example in wanted),
        bins=tuple(bins[example % len(bins)] for example in wanted),
        ratios=masks.ratios.reshape(-1)[list(wanted)],
        methods=outcome.methods,
        truth=arrays["kept/truth"][order],
        mask=np.array([masks.mask(e) for e in wanted], np.uint8).reshape(-1, size, size, 1),
        composite=of_methods("composite"),
        raw=of_methods("raw"),
    )


def _distribution(outcome: Outcome, judge: Judge) -> dict[str, dict[str, Any]]:
    """FID, P-IDS and U-IDS of each method, by bin; bins that a method left out are missing."""
    bins = outcome.mask_list.bins
    real = outcome.arrays["truth/features"]
    result: dict[str, dict[str, Any]] = {}
    for number, method in enumerate(outcome.methods):
        filled = outcome.arrays[f"{number}/features"]
        result[method] = {
            name: judge.compare_sets(filled[place :: len(bins)], real)
            for place, name in enumerate(bins)
            if outcome.covered[method][place :: len(bins)].all()
        }
    return result
