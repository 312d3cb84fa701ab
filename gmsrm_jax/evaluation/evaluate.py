"""Scores methods of filling holes on the test pictures, with the masks of a list.

Every number in a table comes from the composite: the method's pixels, rounded to uint8, in the
hole, and the untouched picture elsewhere. So PNG files of any other program can stand beside it.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gmsrm_jax.data.masks.list_file import MaskList
from gmsrm_jax.evaluation.batches import IMAGE_KINDS, EvaluationSet, load_batches
from gmsrm_jax.evaluation.examples import Examples, spread, write_examples
from gmsrm_jax.evaluation.measures import Judge
from gmsrm_jax.evaluation.partial import Parts
from gmsrm_jax.evaluation.scores import SAMPLES, means_as_json, per_image_csv, score_frames
from gmsrm_jax.evaluation.worker import Rows, Worker
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.shares import Join, Share

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
    output_dir: str | Path,
    judge: Judge | None = None,
    panel_rows: int = 8,
    kept: Sequence[int] = (),
    facts: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    share: Share | Join | None = None,
) -> Evaluation | None:
    """Fills every picture's holes with every method and scores the results.

    What is finished is kept in `output_dir`, and the same call after an interruption goes on from
    it.

    Args:
        rows: what fills.
        test_set: what is filled.
        batch_size: examples given to a method at once; the last batch is padded to it.
        output_dir: folder for metrics.json, per_image.csv and examples.npz.
        judge: the measures; those that need no weights if None.
        panel_rows: examples kept for the report, spread over pictures and bins; 0 keeps none.
        kept: further examples to keep, picture · (masks per picture) + mask.
        facts: what else metrics.json shall state, such as config and checkpoint; JSON values.
        progress: called with (examples done, examples in all, or of the share) after each batch.
        share: do only this one, a few batches in turn, for all others the same, into the same
            `output_dir`; or fill nothing, and join what the shares did; None: all.

    Returns:
        The metrics and the examples kept; None of a share.

    Raises:
        UserError: size or names of the mask list are not those evaluated, an output is not
            finite, or sets are to be compared and there is one picture only; or a share is not
            finished.
        ValueError: an output has another shape than its input, or there is no method.
    """
    if not rows.methods:
        raise ValueError("evaluate needs at least one method")
    test_set.check()
    masks, judge = test_set.mask_list, judge or Judge()
    if judge.compares_sets and len(masks.names) < 2:
        raise UserError("FID, P-IDS and U-IDS need at least 2 pictures, found 1; leave fid out")
    total, bins = len(masks.names) * len(masks.bins), len(masks.bins)
    wanted = list(dict.fromkeys([*spread(len(masks.names), bins, panel_rows), *kept]))
    worker = Worker(rows, judge, set(wanted), total, bins)
    work = _Work(worker, test_set, batch_size, wanted, Path(output_dir), dict(facts or {}))
    if isinstance(share, Share):
        for _ in work.parts([number for number in work.numbers if share.has(number)], progress):
            pass  # it is on disk
        return None
    if share is not None:
        work.check_finished(share.count)
    return work.outcome(_joined(list(work.parts(work.numbers, progress))))


@dataclasses.dataclass(frozen=True)
class _Work:
    """An evaluation in numbered parts of a few batches, and its outcome."""

    worker: Worker
    test_set: EvaluationSet
    batch_size: int
    wanted: Sequence[int]  # examples to keep, in order
    folder: Path
    facts: dict[str, Any]

    @functools.cached_property
    def disk(self) -> Parts:
        """Where finished parts are."""
        key = _depends_on(self.worker, self.test_set, self.batch_size, self.facts)
        return Parts(self.folder / PARTS_FOLDER, key)

    @functools.cached_property
    def spans(self) -> list[range]:
        """The examples of each part."""
        total, step = self.worker.total, self.batch_size * _BATCHES_IN_A_PART
        return [range(start, min(start + step, total)) for start in range(0, total, step)]

    @property
    def numbers(self) -> range:
        """All parts."""
        return range(len(self.spans))

    def parts(
        self, numbers: Sequence[int], progress: Callable[[int, int], None] | None
    ) -> Iterator[dict[str, np.ndarray]]:
        """The scores of some parts; those that are on disk are not made again."""
        done, total = 0, sum(len(self.spans[number]) for number in numbers)
        for number in numbers:
            span, part = self.spans[number], self.disk.load(number)
            if part is None:
                batches = []
                for image, mask, index, count in load_batches(
                    self.test_set, self.batch_size, span.start, span.stop
                ):
                    batches.append(self.worker.work(image, mask, index, count))
                    if progress is not None:
                        progress(done + int(index[count - 1]) + 1 - span.start, total)
                part = _joined(batches)
                self.disk.save(number, part)
            elif progress is not None:
                progress(done + len(span), total)
            done += len(span)
            yield part

    def check_finished(self, count: int) -> None:
        """Checks that every part is on disk.

        Raises:
            UserError: names the shares, of `count`, that are not finished.
        """
        faults = []
        for share in (Share(index, count) for index in range(count)):
            own = [number for number in self.numbers if share.has(number)]
            missing = [number for number in own if self.disk.load(number) is None]
            if missing:
                faults.append(
                    f"share {share} lacks {len(missing)} of its {count_of(len(own), 'part')}"
                )
        if faults:
            raise UserError(
                f"{self.folder}: {'; '.join(faults)}; run it again with --shard and the same "
                "options, checkpoint, pictures and versions, then join"
            )

    def outcome(self, arrays: dict[str, np.ndarray]) -> Evaluation:
        """Means and examples of the joined parts, which are written, and the parts removed."""
        worker, masks = self.worker, self.test_set.mask_list
        filled = worker.rows.filled(worker.total)
        for number, name in enumerate(worker.rows.methods):
            if name in worker.rows.covered:
                _check_not_the_truth(name, arrays[f"{number}/exact"][filled[name]])
        frames = score_frames(masks, filled, arrays)
        metrics = {
            **_stated(worker, self.test_set, self.facts),
            **means_as_json(frames, masks.scored),
            "run": _run(worker.total, arrays),
        }
        if worker.samples:
            metrics |= {"sample_kinds": dict(SAMPLES), "sample_counts": worker.samples}
        if worker.judge.compares_sets:
            metrics["distribution"] = _distribution(masks, filled, arrays, worker.judge)
        examples = _examples(masks, tuple(filled), arrays, self.wanted)
        write_examples(self.folder / EXAMPLES_FILE, examples)
        write_atomically(self.folder / PER_IMAGE_FILE, per_image_csv(frames))
        # Last, so that its presence says that the evaluation is complete.
        text = json.dumps(metrics, indent=2, allow_nan=False, ensure_ascii=False)
        write_atomically(self.folder / METRICS_FILE, f"{text}\n".encode())
        self.disk.clear()
        return Evaluation(metrics, examples)


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


def _stated(worker: Worker, test_set: EvaluationSet, facts: dict[str, Any]) -> dict[str, Any]:
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


def _run(examples: int, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    seconds = float(arrays["seconds"].sum())
    return {
        "seconds": round(seconds, 3),  # of all processes together
        "examples_per_second": round(examples / seconds, 3),  # of one of them
        "devices": int(arrays["devices"].max()),  # likewise
        "device": ", ".join(sorted(set(arrays["device"].tolist()))),
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
