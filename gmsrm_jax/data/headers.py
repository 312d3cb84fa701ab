"""The headers of a whole set of pictures, read in parallel."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from gmsrm_jax.data.decoding import Header, UnreadablePicture
from gmsrm_jax.runtime.log import Progress

_THREADS = 8
_CHUNK = 256  # pictures
_MANY = 20_000  # pictures, from which on progress is shown


def read_headers(
    count: int, read: Callable[[int], Header], location: object
) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Reads headers with several threads, and says how far it is when that takes long.

    Args:
        count: number of pictures N.
        read: reads the header of a picture by its row, 0 to N - 1; may raise UnreadablePicture.
        location: where the pictures are, for messages.

    Returns:
        The numbers of each good picture's `Header`, int32 [n, 4]; the rows of these, int64 [n],
        ascending; and row and reason of the others, in the same order.
    """
    numbers = np.zeros((count, 4), np.int32)
    reasons: dict[int, str] = {}

    def chunk(start: int) -> None:
        for row in range(start, min(start + _CHUNK, count)):
            try:
                numbers[row] = read(row)[:4]
            except UnreadablePicture as error:
                reasons[row] = error.reason

    progress = Progress(f"headers of {location}", 0, count, 1) if count > _MANY else None
    with ThreadPoolExecutor(_THREADS) as pool:
        for chunks, _ in enumerate(pool.map(chunk, range(0, count, _CHUNK)), start=1):
            if progress:
                progress.update(min(chunks * _CHUNK, count), "")
    if progress:
        progress.close()
    good = np.delete(np.arange(count), list(reasons))
    return numbers[good], good, dict(sorted(reasons.items()))
