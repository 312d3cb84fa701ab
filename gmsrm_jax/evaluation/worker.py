"""The rows of an evaluation at work: they fill batches of examples, which are scored at once."""

import dataclasses
import time
from collections.abc import Mapping

import jax
import numpy as np

from gmsrm_jax.evaluation.batches import IMAGE_KINDS, Fill, fill_holes, image_kinds
from gmsrm_jax.evaluation.measures import Judge


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of the tables.

    Attributes:
        methods: name to `Fill`, in the order of the rows; at least one.
        samples: for methods that draw, how many samples of each hole are scored; the first is the
            one of the tables. 1 for those not named.
        covered: for methods that fill some examples only, which, bool [examples].
    """

    methods: Mapping[str, Fill]
    samples: Mapping[str, int] = dataclasses.field(default_factory=dict)
    covered: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def filled(self, examples: int) -> dict[str, np.ndarray]:
        """Which examples each method fills, bool [examples]."""
        everything = np.ones(examples, bool)
        return {name: self.covered.get(name, everything) for name in self.methods}


class Worker:
    """Fills and scores batches; its arrays have one entry for each of some examples or pictures."""

    def __init__(self, rows: Rows, judge: Judge, chosen: set[int], total: int, bins: int) -> None:
        """Prepares the work.

        Args:
            rows: what fills.
            judge: the measures.
            chosen: examples whose pictures are kept.
            total: number of examples.
            bins: masks of each picture.
        """
        self.rows, self.judge, self.chosen, self.total = rows, judge, chosen, total
        self.samples = {name: count for name, count in rows.samples.items() if count > 1}
        self._bins = bins

    def work(
        self, image: np.ndarray, mask: np.ndarray, index: np.ndarray, count: int
    ) -> dict[str, np.ndarray]:
        """Scores, features and chosen pictures of the first `count` examples of a batch."""
        started = time.monotonic()
        rows = [row for row in range(count) if int(index[row]) in self.chosen]
        first_of_picture = index[:count] % self._bins == 0
        result = {
            "kept/example": index[rows],
            "kept/truth": image[rows],
            "truth/features": self.judge.features(image[:count][first_of_picture]),
        }
        for number, (method, fill) in enumerate(self.rows.methods.items()):
            kinds = image_kinds(image, mask, fill_holes(method, fill, image, mask, index))
            scores = self.judge.score(dict(zip(IMAGE_KINDS, kinds, strict=True)), image, mask)
            if method in self.samples:
                scores |= self._further_samples(method, kinds[0], scores, image, mask, index)
            result |= {f"{number}/{name}": values[:count] for name, values in scores.items()}
            result[f"{number}/features"] = self.judge.features(kinds[0][:count])
            exact = (kinds[0] == image).all(-1, keepdims=True) & (mask == 1)
            share = exact.sum((1, 2, 3)) / np.maximum(mask.sum((1, 2, 3)), 1)
            result[f"{number}/exact"] = share[:count]
            result[f"kept/{number}/composite"] = kinds[0][rows]
            result[f"kept/{number}/raw"] = np.rint(kinds[2][rows]).astype(np.uint8)
        devices = jax.local_devices()
        return result | {
            "seconds": np.array([time.monotonic() - started]),
            "devices": np.array([len(devices)]),
            "device": np.array([devices[0].device_kind]),
        }

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
            shifted = index + np.int32(sample * self.total)
            raw = fill_holes(method, self.rows.methods[method], image, mask, shifted)
            filled.append(image_kinds(image, mask, raw)[0])
        others = [self.judge.score({"composite": x}, image, mask) for x in filled[1:]]
        result = {}
        for key in others[0]:
            name = key.removeprefix("composite/")
            values = np.stack([first_scores[key], *(scores[key] for scores in others)])
            result[f"samples_mean/{name}"] = values.mean(0)
            # The best is the largest of these.
            ranks = {"higher": values, "lower": -values, "nearer to 1": -np.abs(values - 1.0)}
            best = ranks[self.judge.definitions[name].better].argmax(0)[None]
            result[f"samples_best/{name}"] = np.take_along_axis(values, best, 0)[0]
        apart = self.judge.diversity(np.stack(filled), mask)
        return result | {f"samples_diversity/{name}": values for name, values in apart.items()}
