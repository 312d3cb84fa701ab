"""The headers of a whole set of pictures, as arrays, read in parallel."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from gmsrm_jax.data.decoding import Header, UnreadablePicture
from gmsrm_jax.runtime.log import Progress

_THREADS = 8
_CHUNK = 256  # pictures
_MANY = 20_000  # pictures, from which on progress is shown


@dataclass(frozen=True)
class Headers:
    """Headers of N pictures, see `decoding.Header`.

    Attributes:
        codec: uint8 [N].
        orientation: uint8 [N].
        height: int32 [N], as stored.
        width: int32 [N], as stored.
    """

    codec: np.ndarray
    orientation: np.ndarray
    height: np.ndarray
    width: np.ndarray

    def __len__(self) -> int:
        """Returns N."""
        return len(self.codec)

    def take(self, indices: np.ndarray) -> "Headers":
        """Returns the headers of some of the pictures, in the order given."""
        return Headers(
            self.codec[indices],
            self.orientation[indices],
            self.height[indices],
            self.width[indices],
        )


def read_headers(
    count: int, read: Callable[[int], Header], location: object
) -> tuple[Headers, np.ndarray, dict[int, str]]:
    """Reads headers with several threads, and says how far it is when that takes long.

    Args:
        count: number of pictures N.
        read: reads the header of a picture by its row, 0 to N - 1; may raise UnreadablePicture.
        location: where the pictures are, for messages.

    Returns:
        The headers of the good pictures; the rows of these, int64, ascending; and row and reason of
        the others, in the same order.
    """
    columns = np.zeros((count, 4), np.int32)
    reasons: dict[int, str] = {}

    def chunk(start: int) -> None:
        for row in range(start, min(start + _CHUNK, count)):
            try:
                columns[row] = read(row)[:4]
            except UnreadablePicture as error:
                reasons[row] = error.reason

    progress = Progress(f"headers of {location}", 0, count, 1) if count > _MANY else None
    with ThreadPoolExecutor(_THREADS) as pool:
        for number, _ in enumerate(pool.map(chunk, range(0, count, _CHUNK)), start=1):
            if progress:
                progress.update(min(number * _CHUNK, count), "")
    if progress:
        progress.close()
    good = np.delete(np.arange(count), list(reasons))
    codec, orientation, height, width = columns[good].T
    headers = Headers(codec.astype(np.uint8), orientation.astype(np.uint8), height, width)
    return headers, good, dict(sorted(reasons.items()))
