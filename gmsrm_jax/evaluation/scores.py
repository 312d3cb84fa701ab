"""The scores of all examples, and what is told of them: means per ratio bin, and every single one.

Arrays of scores are named METHOD/KIND/METRIC, with the method's number and one of `IMAGE_KINDS`, or
METHOD/samples_mean, samples_best and samples_diversity for several samples of each hole.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gmsrm_jax.data.masks.list_file import MaskList
from gmsrm_jax.evaluation.batches import IMAGE_KINDS

if TYPE_CHECKING:
    import pandas as pd

SAMPLES = {
    "samples_mean": "mean over the k samples of each hole",
    "samples_best": "best of the k samples of each hole by that very metric, which needs the truth",
    "samples_diversity": "mean over the pairs of the k samples of a hole; l1 in the hole, 0..255",
}


def score_frames(
    masks: MaskList, filled: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]
) -> "dict[str, pd.DataFrame]":
    """For each method one row for each example that it filled, its scores as KIND/METRIC.

    Args:
        masks: of P pictures with B masks each.
        filled: for each method, bool [P * B].
        arrays: float64 [P * B] each, NaN where a metric is undefined, and others, which are left.
    """
    import pandas as pd

    examples = pd.DataFrame(
        {
            "picture": np.repeat(masks.names, len(masks.bins)),
            "mask_index": np.arange(masks.ratios.size),
            "bin": masks.labels,
            "ratio": [f"{ratio:.6f}" for ratio in masks.ratios.flat],
            "mask_sha256": np.concatenate([*masks.hashes]),
        }
    )
    frames = {}
    for number, (method, which) in enumerate(filled.items()):
        start = f"{number}/"
        scores = {
            name.removeprefix(start): values
            for name, values in arrays.items()
            if name.startswith(start) and name.count("/") == 2
        }
        frames[method] = examples.assign(method=method, **scores)[which]
    return frames


def per_image_csv(frames: "Mapping[str, pd.DataFrame]") -> bytes:
    """One line per example and method, scores of the composite; undefined ones are empty."""
    import pandas as pd

    whole = pd.concat(frames.values()).sort_values("mask_index", kind="stable")
    kept = [name for name in whole if "/" not in name or name.startswith("composite/")]
    named = whole[kept].rename(columns=lambda name: name.removeprefix("composite/"))
    return named.to_csv(index=False, float_format="%.9g", lineterminator="\n").encode()


def means_as_json(frames: "Mapping[str, pd.DataFrame]", bins: tuple[str, ...]) -> dict[str, Any]:
    """The means of all methods by kind, bin and metric, as they stand in metrics.json."""
    methods = {
        method: {kind: _means(frame, kind, bins) for kind in IMAGE_KINDS}
        for method, frame in frames.items()
    }
    samples = {
        method: {kind: _means(frame, kind, bins) for kind in SAMPLES}
        for method, frame in frames.items()
        if any(name.startswith("samples_mean/") for name in frame)
    }
    return {"methods": methods, **({"samples": samples} if samples else {})}


def _means(frame: "pd.DataFrame", kind: str, bins: tuple[str, ...]) -> dict[str, Any]:
    """For each bin and metric: mean of the defined values, their number, and of undefined."""
    own = frame.filter(regex=f"^{kind}/").rename(columns=lambda name: name.partition("/")[2])
    return {
        name: {
            metric: {
                "mean": float(values.mean()) if values.count() else None,
                "count": int(values.count()),
                "undefined": int(values.isna().sum()),
            }
            for metric, values in own[frame["bin"] == name].items()
        }
        for name in bins
    }
