"""Fillings that know nothing of pictures: what any trained model has to beat."""

import numpy as np

MEAN_COLOUR = "mean colour"


def mean_colour(image: np.ndarray, mask: np.ndarray, example_index: np.ndarray) -> np.ndarray:
    """Fills with the mean of the known pixels of each channel.

    Args:
        image: float32 [N, S, S, 3] in [-1, 1], holes zeroed.
        mask: float32 [N, S, S, 1], 1 in the hole.
        example_index: int32 [N], not used.

    Returns:
        float32 [N, S, S, 3], constant over each picture; mid-grey (0) where no pixel is known.
    """
    del example_index
    known = 1.0 - mask.astype(np.float64)
    total = np.sum(image * known, axis=(1, 2), keepdims=True)
    count = np.sum(known, axis=(1, 2), keepdims=True)
    colour = total / np.maximum(count, 1.0)
    return np.broadcast_to(colour, image.shape).astype(np.float32)
