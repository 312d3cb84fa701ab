"""Masks, 1 in the hole: samplers of training masks, mask files, and the assignment of a test set.

`SAMPLERS`, `DESCRIPTIONS`, `Sampler` and `sampler` need TensorFlow, which is imported when one of
them is first asked for; everything else does without.
"""

from typing import Any

from gmsrm_jax.data.masks.bins import center_mask

_NEED_TENSORFLOW = ("DESCRIPTIONS", "SAMPLERS", "Sampler", "sampler")
__all__ = ["center_mask", *_NEED_TENSORFLOW]


def __getattr__(name: str) -> Any:
    if name in _NEED_TENSORFLOW:
        from gmsrm_jax.data.masks import samplers

        return getattr(samplers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
