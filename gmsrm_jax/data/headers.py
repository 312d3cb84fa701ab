"""The headers of a whole set of pictures, as arrays, read in parallel."""

from collections.abc import Callable, Sequence
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
    indices: Sequence[int], read: Callable[[int], Header], location: object
) -> list[Header | str]:
    """Reads headers with several threads, and says how far it is when that takes long.

    Args:
        indices: which pictures.
        read: reads one header; may raise UnreadablePicture.
        location: where the pictures are, for messages.

    Returns:
        For each index its header, or the reason why there is none.
    """

    def chunk(start: int) -> list[Header | str]:
        results: list[Header | str] = []
        for index in indices[start : start + _CHUNK]:
            try:
                results.append(read(index))
            except UnreadablePicture as error:
                results.append(error.reason)
        return results

    found: list[Header | str] = []
    many = len(indices) > _MANY
    progress = Progress(f"headers of {location}", 0, len(indices), 1) if many else None
    with ThreadPoolExecutor(_THREADS) as pool:
        for part in pool.map(chunk, range(0, len(indices), _CHUNK)):
            found += part
            if progress:
                progress.update(len(found), "")
    if progress:
        progress.close()
    return found
