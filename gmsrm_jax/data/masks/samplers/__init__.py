"""Random training masks as TensorFlow ops: stateless, at any size, 1 = hole.

Every sampler is a pure function of its seed and runs inside `tf.data` without Python. Lengths are
given at 256 px and scale by size/256, so that the share of the hole does not depend on the size.
"""

import itertools
import math

from gmsrm_jax.data.masks.samplers.drawing import Sampler, mixture
from gmsrm_jax.data.masks.samplers.free_form import free_form
from gmsrm_jax.data.masks.samplers.lama import lama, lama_medium, lama_thick, lama_thin
from gmsrm_jax.data.masks.samplers.mat import mat
from gmsrm_jax.data.masks.samplers.pic import pic, pic_irregular, pic_regular
from gmsrm_jax.runtime.errors import UserError

__all__ = ["DESCRIPTIONS", "SAMPLERS", "Sampler", "sampler"]

SAMPLERS: dict[str, Sampler] = {
    "pic_regular": pic_regular,
    "pic_irregular": pic_irregular,
    "pic": pic,
    "free_form": free_form,
    "lama_thin": lama_thin,
    "lama_medium": lama_medium,
    "lama_thick": lama_thick,
    "lama": lama,
    "mat": mat,
}
"""Name -> function of (seed int32 [2], size S), which returns float32 [S, S, 1], 1 in the hole."""

DESCRIPTIONS: dict[str, str] = {
    "pic_regular": "1 to 5 rectangles (PIC, CVPR 2019); mean hole ratio 0.30",
    "pic_irregular": "16 to 64 lines, discs and arcs (PIC, CVPR 2019); mean hole ratio 0.53",
    "pic": "pic_regular or pic_irregular, half each (GM-SRM's choice); mean hole ratio 0.42",
    "free_form": "a box and 1 to 3 strokes (DeepFillV2, ICCV 2019); mean hole ratio 0.31",
    "lama_thin": "thin chains, at most half (LaMa evaluation, WACV 2022); mean hole ratio 0.29",
    "lama_medium": "chains or boxes, at most half (LaMa evaluation); mean hole ratio 0.24",
    "lama_thick": "thick chains or boxes, at most half (LaMa evaluation); mean hole ratio 0.27",
    "lama": "thick chains or boxes, half each (LaMa training at 256 px); mean hole ratio 0.35",
    "mat": "0 to 4 boxes and 0 to 7 strokes (MAT at 256 px, CVPR 2022); mean hole ratio 0.40",
}
"""One line for each sampler of `SAMPLERS`, in the same order."""


def sampler(spec: str) -> Sampler:
    """The sampler of config.masks.train.

    Args:
        spec: a name of `SAMPLERS`, or names with positive weights, "pic:0.7,lama:0.3". The weights
            are divided by their sum; every mask is drawn by one sampler, chosen by its weight.

    Raises:
        UserError: an unknown name, a name given twice, or a weight that is missing or not positive.
    """
    entries = spec.split(",")
    weights: dict[str, float] = {}
    for entry in entries:
        name, colon, text = (part.strip() for part in entry.partition(":"))
        if name not in SAMPLERS:
            unknown = "is unknown" if name == spec else f"names {name!r}, which is unknown"
            raise _wrong(spec, unknown if name else "lacks a name")
        if name in weights:
            raise _wrong(spec, f"names {name!r} twice")
        alone = len(entries) == 1 and not colon
        weights[name] = 1.0 if alone else _weight(text, name, spec)
    if len(weights) == 1:
        return SAMPLERS[name]
    total = math.fsum(weights.values())
    bounds = itertools.accumulate(weight / total for weight in weights.values())
    return mixture([SAMPLERS[name] for name in weights], list(bounds)[:-1])


def _weight(text: str, name: str, spec: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0.0 < weight < math.inf:
        raise _wrong(spec, f"gives {name!r} the weight {text!r}, not a positive number")
    return weight


def _wrong(spec: str, reason: str) -> UserError:
    return UserError(
        f"mask sampler {spec!r} {reason}; use one of {', '.join(SAMPLERS)}, or a mixture "
        "by weight such as 'pic:0.7,lama:0.3'"
    )
