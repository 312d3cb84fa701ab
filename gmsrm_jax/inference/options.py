"""The options of a filling, for Python, shell, page and REST: each stands here, once."""

from typing import Any, Literal

import numpy as np
import pydantic

from gmsrm_jax.data.fields import MAX_PIXELS
from gmsrm_jax.runtime.fields import Section, setting

_SEEDS = 2**32
_MOST_SAMPLES = 10_000  # whose files are named, and pictures held, before one is written


class FillOptions(Section):
    """How the hole of a picture is found and filled.

    A mask's options hold for the picture's transparent part too, where that is the hole.
    """

    num_samples: int = setting(
        1, "fillings of a hole, which differ inside it", ge=1, le=_MOST_SAMPLES
    )
    seed: int = setting(0, "of the first filling; the next has seed + 1", ge=0, le=_SEEDS - 1)
    strategy: Literal["auto", "resize", "crop", "tile", "detail"] = setting(
        "auto", "how a picture of any size is shown to the network, which has one size"
    )
    feather: int = setting(
        0, "pixels inside the hole over which the filling is blended into its surroundings", ge=0
    )
    mask_invert: bool = setting(False, "black, or what is opaque, is the hole")
    mask_threshold: int | None = setting(
        None,
        "grey value from which on a pixel of a mask is white, or opaque; without it 128, and what "
        "is no clear mask is refused",
        ge=1,
        le=255,
    )
    mask_dilate: int = setting(0, "pixels by which the hole grows on every side", ge=0)
    mask_resize: Literal["nearest"] | None = setting(
        None, "how to fit a mask of another size than the picture; without it, it is refused"
    )
    max_pixels: int = setting(MAX_PIXELS, "largest picture or mask that is read", ge=1)

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _python_number(cls, value: Any) -> Any:
        # A seed or a width often comes out of an array.
        single = isinstance(value, np.generic) or getattr(value, "shape", None) == ()
        return value.item() if single else value

    @pydantic.field_validator("seed")
    @classmethod
    def _all_seeds_fit(cls, seed: int, info: pydantic.ValidationInfo) -> int:
        last = _SEEDS - info.data.get("num_samples", 1)
        if seed > last:
            raise ValueError(f"use 0 to {last}")
        return seed
