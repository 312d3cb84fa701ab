"""Scores methods of filling holes on the test pictures, with the masks of a list.

Every number in a table comes from the composite: the method's pixels, rounded to uint8, in the
hole, and the untouched picture elsewhere. So PNG files of any other program can stand beside it.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gmsrm_jax.data.masks.list_file import MaskList
from gmsrm_jax.evaluation.batches import IMAGE_KINDS, EvaluationSet, load_batches
from gmsrm_jax.evaluation.examples import Examples, spread, write_examples
from gmsrm_jax.evaluation.measures import Judge
from gmsrm_jax.evaluation.partial import Parts
from gmsrm_jax.evaluation.scores import SAMPLES, means_as_json, per_image_csv, score_frames
from gmsrm_jax.evaluation.worker import Rows, Worker
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


def evaluate(
    rows: Rows,
    test_set: EvaluationSet,
    *,
    batch_size: int,
    judge: Judge | None = None,
    panel_rows: int = 8,
    kept: Sequence[int] = (),
    output_dir: str | Path | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Fills every picture's holes with every method and scores the results.

    With `output_dir`, what is finished is kept there, and the same call after an interruption goes
    on from it.

    Args:
        rows: what fills.
        test_set: what is filled.
        batch_size: examples given to a method at once; the last batch is padded to it.
        judge: the measures; those that need no weights if None.
        panel_rows: examples kept for the report, spread over pictures and bins; 0 keeps none.
        kept: further examples to keep, picture · (masks per picture) + mask.
        output_dir: folder for metrics.json, per_image.csv and examples.npz; None writes nothing.
        facts: what else metrics.json shall state, such as config and checkpoint; JSON values.
        progress: called with (examples done, examples in all) after each batch.

    Returns:
        The metrics and the examples kept.

    Raises:
        UserError: size or names of the mask list are not those evaluated, an output is not
            finite, or sets are to be compared and there is one picture only.
        ValueError: an output has another shape than its input, or there is no method.
    """
    if not rows.methods:
        raise ValueError("evaluate needs at least one method")
    test_set.check()
    masks, judge, facts = test_set.mask_list, judge or Judge(), dict(facts or {})
    if judge.compares_sets and len(masks.names) < 2:
        raise UserError("FID, P-IDS and U-IDS need at least 2 pictures, found 1; leave fid out")
    wanted = [*spread(len(masks.names), len(masks.bins), panel_rows), *kept]
    worker = Worker(rows, judge, set(wanted), len(masks.names) * len(masks.bins), len(masks.bins))
    folder = None if output_dir is None else Path(output_dir)
    parts = Parts(
        None if folder is None else folder / PARTS_FOLDER,
        _depends_on(worker, test_set, batch_size, facts),
    )
    arrays = _joined(list(_parts(worker, test_set, batch_size, parts, progress)))
    filled = rows.filled(worker.total)
    for number, name in enumerate(rows.methods):
        if name in rows.covered:
            _check_not_the_truth(name, arrays[f"{number}/exact"][filled[name]])
    frames = score_frames(masks, filled, arrays)
    metrics = {
        **_facts(worker, test_set, facts),
        **means_as_json(frames, masks.scored),
        "run": _run(worker.total, float(arrays["seconds"].sum())),
    }
    if worker.samples:
        metrics |= {"sample_kinds": dict(SAMPLES), "sample_counts": worker.samples}
    if judge.compares_sets:
        metrics["distribution"] = _distribution(masks, filled, arrays, judge)
    evaluation = Evaluation(metrics, _examples(masks, tuple(filled), arrays, wanted))
    if folder is not None:
        write_examples(folder / EXAMPLES_FILE, evaluation.examples)
        write_atomically(folder / PER_IMAGE_FILE, per_image_csv(frames))
        # Last, so that its presence says that the evaluation is complete.
        text = json.dumps(metrics, indent=2, allow_nan=False, ensure_ascii=False)
        write_atomically(folder / METRICS_FILE, f"{text}\n".encode())
        parts.clear()
    return evaluation


def _depends_on(
    worker: Worker, test_set: EvaluationSet, batch_size: int, facts: dict[str, Any]
) -> dict[str, Any]:
    """What the arrays of a part depend on, as JSON values."""
    filled = worker.rows.filled(worker.total)
    return {
        "facts": facts,
        "masks": test_set.mask_list.sha256,
        "methods": list(filled),
        "measures": list(worker.judge.definitions),
        "sizes": [
            test_set.image_size,
            test_set.shorter_side,
            test_set.test_resize,
            batch_size,
        ],
        "samples": worker.samples,
        "kept": sorted(worker.chosen),
        "covered": [hashlib.sha256(which.tobytes()).hexdigest() for which in filled.values()],
        "versions": package_versions(),
    }


def _parts(
    worker: Worker,
    test_set: EvaluationSet,
    batch_size: int,
    parts: Parts,
    progress: Callable[[int, int], None] | None,
) -> Iterator[dict[str, np.ndarray]]:
    """The scores of all examples, part by part; those that are on disk are not made again."""
    length = batch_size * _BATCHES_IN_A_PART
    for number, start in enumerate(range(0, worker.total, length)):
        stop = min(start + length, worker.total)
        part = parts.load(number)
        if part is None:
            batches = []
            for image, mask, index, count in load_batches(test_set, batch_size, start, stop):
                batches.append(worker.work(image, mask, index, count))
                if progress is not None:
                    progress(int(index[count - 1]) + 1, worker.total)
            part = _joined(batches)
            parts.save(number, part)
        elif progress is not None:
            progress(stop, worker.total)
        yield part


def _facts(worker: Worker, test_set: EvaluationSet, facts: dict[str, Any]) -> dict[str, Any]:
    """What metrics.json says of what was scored."""
    return {
        "definitions": {n: entry._asdict() for n, entry in worker.judge.definitions.items()},
        "images": dict(IMAGE_KINDS),
        "facts": facts,
        "image_size": test_set.image_size,
        "shorter_side": test_set.shorter_side,
        "test_resize": test_set.test_resize,
        "pictures": len(test_set.mask_list.names),
        "examples": worker.total,
        "mask_list": test_set.mask_list.facts(),
    }


def _run(examples: int, seconds: float) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 3),
        "examples_per_second": round(examples / seconds, 3),
        "devices": jax.device_count(),
        "device": jax.devices()[0].device_kind,
        "versions": package_versions(),
    }


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


def _examples(
    masks: MaskList,
    methods: tuple[str, ...],
    arrays: Mapping[str, np.ndarray],
    wanted: Sequence[int],
) -> Examples:
    """Puts the kept pictures into the wanted order."""
    place = {int(example): row for row, example in enumerate(arrays["kept/example"])}
    order = [place[example] for example in wanted]
    bins, size = masks.bins, masks.size

    def of_methods(what: str) -> np.ndarray:
        return np.stack([arrays[f"kept/{number}/{what}"][order] for number in range(len(methods))])

    return Examples(
        pictures=tuple(masks.names[example // len(bins)] for example in wanted),
        bins=tuple(masks.labels[example] for example in wanted),
        ratios=masks.ratios.reshape(-1)[list(wanted)],
        methods=methods,
        truth=arrays["kept/truth"][order],
        mask=np.array([masks.mask(e) for e in wanted], np.uint8).reshape(-1, size, size, 1),
        composite=of_methods("composite"),
        raw=of_methods("raw"),
    )


def _distribution(
    masks: MaskList,
    filled: Mapping[str, np.ndarray],
    arrays: Mapping[str, np.ndarray],
    judge: Judge,
) -> dict[str, dict[str, Any]]:
    """FID, P-IDS and U-IDS of each method, by bin, if it filled all of it, 2 pictures or more."""
    count, real = len(masks.bins), arrays["truth/features"]
    places = {name: np.flatnonzero(np.array(masks.labels) == name) for name in masks.scored}
    return {
        method: {
            name: judge.compare_sets(arrays[f"{number}/features"][own], real[own // count])
            for name, own in places.items()
            if which[own].all() and len(own) > 1
        }
        for number, (method, which) in enumerate(filled.items())
    }
