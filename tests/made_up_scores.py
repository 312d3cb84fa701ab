"""The content of a metrics.json, made up."""

import numpy as np

from gmsrm_jax.data.masks.bins import BIN_NAMES
from gmsrm_jax.metrics import DEFINITIONS

PAPER_METRICS = ("psnr", "ssim", "ncc", "lmse")


def entry(mean, count=7, undefined=0):
    return {"mean": mean, "count": count, "undefined": undefined}


def make_metrics(methods, seed=0, bins=BIN_NAMES):
    """The content of a metrics.json with the paper's four metrics, every score another one."""
    random = np.random.default_rng(seed)
    return {
        "definitions": {name: DEFINITIONS[name]._asdict() for name in PAPER_METRICS},
        "images": {"composite": "rounded", "raw": "as it is"},
        "pictures": 7,
        "image_size": 64,
        "mask_list": {
            "source": "drawn & kept",
            "seed": 0,
            "sha256": f"{seed:02d}" * 32,
            "bins": {name: {"count": 7, "mean_ratio": 0.1} for name in bins},
        },
        "methods": {
            method: {
                kind: {
                    name: {
                        metric: entry(float(random.uniform(20, 30) if metric == "psnr" else value))
                        for metric, value in zip(
                            PAPER_METRICS, random.uniform(0.1, 0.9, 4), strict=True
                        )
                    }
                    for name in bins
                }
                for kind in ("composite", "raw")
            }
            for method in methods
        },
    }
