"""The four variants of Table IV, and what each one switches on."""

from typing import NamedTuple


class Variant(NamedTuple):
    """The parts of a variant.

    Attributes:
        memory: query a frozen generative memory (and so pre-train one).
        conditional_noise: noise N(μ_i, σ_i²) from the features (Eq. 8) and its KL term (Eq. 9).
        progressive: a new query code at every level (Eq. 7).
    """

    memory: bool
    conditional_noise: bool
    progressive: bool


VARIANTS = {
    "base": Variant(memory=False, conditional_noise=False, progressive=False),
    "gm_bm": Variant(memory=True, conditional_noise=False, progressive=False),
    "gm_csv": Variant(memory=True, conditional_noise=True, progressive=False),
    "gm_srm": Variant(memory=True, conditional_noise=True, progressive=True),
}
