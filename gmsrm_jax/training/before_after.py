"""What further training has changed: the same holes filled before and after, side by side."""

import pathlib
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Variables
from gmsrm_jax.methods.filler import Filler
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.image_grid import holed, labelled_sheet, to_png, upscale

BEFORE_AFTER = "before_after.png"
_ROWS = 4
_PIXELS = 192  # smaller pictures are enlarged


def write_before_after(
    path: pathlib.Path,
    config: ConfigDict,
    before: Variables,
    after: Variables,
    pictures: Mapping[str, np.ndarray],
) -> None:
    """Writes up to four rows: picture with its hole, filled before, filled after, truth.

    Args:
        path: of the PNG file.
        config: of the training.
        before: variables that training began with.
        after: trained variables.
        pictures: {"image": uint8 [k, S, S, 3], "mask": uint8 [k, S, S, 1]} that were not trained
            on.
    """
    count = min(_ROWS, config.batch_size)
    truth, mask = pictures["image"][:count], pictures["mask"][:count]
    # A batch as large as those of the stage's validations, whose program is compiled already.
    rows = np.arange(config.batch_size) % len(truth)
    seeds = np.full(len(rows), config.seed, np.uint32)
    filler = Filler(METHODS[config.method], config, {})
    columns = {"given": holed(truth, mask)}
    for label, variables in (("before", before), ("after", after)):
        output, _ = filler(truth[rows], mask[rows], seeds, rows, variables=variables)
        columns[label] = np.where(mask > 0, output[: len(truth)], truth)
    columns["truth"] = truth
    factor = max(-(-_PIXELS // truth.shape[1]), 1)
    sheet = [
        [upscale(column[row], factor) for column in columns.values()] for row in range(len(truth))
    ]
    write_atomically(path, to_png(labelled_sheet(list(columns), sheet)))
