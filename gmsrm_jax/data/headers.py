"""Looks at a whole set of pictures in parallel, such as at their headers."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from gmsrm_jax.data.decoding import Header, UnreadablePicture
from gmsrm_jax.runtime.log import shown

_Found = TypeVar("_Found")
_THREADS = 8
_MANY = 20_000  # pictures, from which on progress is shown


def in_threads(
    look: Callable[[int], _Found], count: int, threads: int | None, at_once: int
) -> Iterator[_Found]:
    """Yields look(0), look(1), ... look(count - 1), which threads make `at_once` in a row."""

    def part(start: int) -> list[_Found]:
        return [look(row) for row in range(start, min(start + at_once, count))]

    with ThreadPoolExecutor(threads) as pool:
        for found in pool.map(part, range(0, count, at_once)):
            yield from found


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

    def header(row: int) -> str:
        try:
            numbers[row] = read(row)[:4]
            return ""
        except UnreadablePicture as error:
            return error.reason

    found = in_threads(header, count, _THREADS, 256)
    for row, reason in enumerate(shown(found, f"headers of {location}", count, _MANY)):
        if reason:
            reasons[row] = reason
    good = np.delete(np.arange(count), list(reasons))
    return numbers[good], good, reasons
