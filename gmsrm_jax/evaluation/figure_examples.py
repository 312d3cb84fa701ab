"""Which examples an evaluation keeps for the figures: of named pictures, or drawn by a seed."""

from collections.abc import Sequence

import numpy as np

from gmsrm_jax.evaluation.published import ABLATION_BIN, IRREGULAR_BINS
from gmsrm_jax.runtime.errors import UserError


def figure_examples(
    names: Sequence[str],
    bins: Sequence[str],
    *,
    pictures: Sequence[str] = (),
    seed: int = 0,
    count: int = 4,
) -> list[int]:
    """Chooses pictures, and for each an irregular hole and the centre hole of 50 %.

    The k-th picture gets the k-th of the paper's irregular bins, in turn; so `count` pictures fill
    the rows of Figures 6, 8 and 9, and the same pictures those of Figure 10.

    Args:
        names: names of the evaluated pictures.
        bins: names of the bins that every picture has a mask of.
        pictures: names of the wanted ones, in order; without any they are drawn.
        seed: of the draw; the same seed and names give the same pictures.
        count: pictures to draw, at most as many as there are.

    Returns:
        Example indices, picture · len(bins) + bin, without the bins that `bins` lacks.

    Raises:
        UserError: a wanted picture is not among `names`.
    """
    places = {name: place for place, name in enumerate(names)}
    for name in pictures:
        if name not in places:
            raise UserError(
                f"figures: {name} is not among the {len(names)} evaluated pictures "
                f"({names[0]} … {names[-1]}); take names from per_image.csv"
            )
    if pictures:
        chosen = [places[name] for name in dict.fromkeys(pictures)]
    else:
        order = np.random.default_rng(seed).permutation(len(names))
        chosen = sorted(int(place) for place in order[:count])
    irregular = [name for name in IRREGULAR_BINS if name in bins]
    examples = []
    for row, picture in enumerate(chosen):
        wanted = [irregular[row % len(irregular)]] if irregular else []
        wanted += [ABLATION_BIN] if ABLATION_BIN in bins else []
        examples += [picture * len(bins) + list(bins).index(name) for name in wanted]
    return examples
