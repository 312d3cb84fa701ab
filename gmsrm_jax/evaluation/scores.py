"""The scores of all examples, and what is told of them: means per ratio bin, and every single one.

Arrays of scores are named METHOD/KIND/METRIC, with the method's number and one of `IMAGE_KINDS`, or
METHOD/samples_mean, samples_best and samples_diversity for several samples of each hole.
"""

import csv
import dataclasses
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gmsrm_jax.data.masks.list_file import MaskList
from gmsrm_jax.evaluation.batches import IMAGE_KINDS

SAMPLES = {
    "samples_mean": "mean over the k samples of each hole",
    "samples_best": "best of the k samples of each hole by that very metric, which needs the truth",
    "samples_diversity": "mean over the pairs of the k samples of a hole; l1 in the hole, 0..255",
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Scores of M methods on P pictures with B masks each.

    Attributes:
        mask_list: the masks.
        methods: M names.
        arrays: float64 [P * B] each, NaN where a metric is undefined, see above.
        covered: for each method, bool [P * B]: the examples that it filled.
    """

    mask_list: MaskList
    methods: tuple[str, ...]
    arrays: Mapping[str, np.ndarray]
    covered: Mapping[str, np.ndarray]

    def of(self, method: str, kind: str) -> dict[str, np.ndarray]:
        """Returns the scores of a method by metric."""
        start = f"{self.methods.index(method)}/{kind}/"
        return {k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)}

    def means(self, method: str, kind: str) -> dict[str, dict[str, dict[str, Any]]]:
        """For each bin and metric: mean of the defined values, their number, and of undefined."""
        bins = self.mask_list.bins
        covered = self.covered[method].reshape(-1, len(bins))
        return {
            name: {
                metric: _mean(values.reshape(-1, len(bins))[:, place], covered[:, place])
                for metric, values in self.of(method, kind).items()
            }
            for place, name in enumerate(bins)
        }

    def samples(self, method: str) -> dict[str, Any]:
        """What several samples of each hole give, by bin; empty for one sample."""
        parts = {kind: self.means(method, kind) for kind in SAMPLES}
        return parts if self.of(method, "samples_mean") else {}

    def per_image_csv(self) -> bytes:
        """One line per example and method, scores of the composite; undefined ones are empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        by_method = {method: self.of(method, "composite") for method in self.methods}
        names = list(by_method[self.methods[0]])
        writer.writerow(["picture", "mask_index", "bin", "ratio", "mask_sha256", "method", *names])
        bins = self.mask_list.bins
        for example in range(len(self.mask_list.names) * len(bins)):
            picture, place = divmod(example, len(bins))
            row = [
                self.mask_list.names[picture],
                example,
                bins[place],
                format(self.mask_list.ratios[picture, place], ".6f"),
                self.mask_list.hashes[picture][place],
            ]
            for method, by_metric in by_method.items():
                if self.covered[method][example]:
                    writer.writerow([*row, method, *(_cell(by_metric[n][example]) for n in names)])
        return text.getvalue().encode()

    def as_json(self) -> dict[str, Any]:
        """The means of all methods, as they stand in metrics.json."""
        methods = {
            method: {kind: self.means(method, kind) for kind in IMAGE_KINDS}
            for method in self.methods
        }
        samples = {method: self.samples(method) for method in self.methods}
        samples = {method: parts for method, parts in samples.items() if parts}
        return {"methods": methods, **({"samples": samples} if samples else {})}


def _mean(values: np.ndarray, filled: np.ndarray) -> dict[str, Any]:
    defined = values[filled & ~np.isnan(values)]
    return {
        "mean": float(defined.mean()) if defined.size else None,
        "count": int(defined.size),
        "undefined": int(filled.sum() - defined.size),
    }


def _cell(value: float) -> str:
    return "" if math.isnan(value) else format(float(value), ".9g")
