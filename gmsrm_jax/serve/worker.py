"""The one thread that works on pictures, and the short queue before it."""

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import TypeVar

from gmsrm_jax.serve.limits import Refused

T = TypeVar("T")


class Worker:
    """Runs jobs one after another in a thread of its own; may be used from several threads.

    A place in the queue is taken before a request's body is read, so that what waits is bounded.
    """

    def __init__(self, capacity: int, seconds: float):
        """Starts the thread.

        Args:
            capacity: places, the job that runs included.
            seconds: for which a place may be held before its request is answered with 504.
        """
        self._capacity, self._seconds = capacity, seconds
        self._lock = threading.Lock()
        self._taken = 0
        self._last_seconds = 0.0
        self._thread = ThreadPoolExecutor(1, "worker")

    @property
    def length(self) -> int:
        """Places that are taken."""
        return self._taken

    def place(self) -> "Place":
        """Takes a place, to be used in a `with` block.

        Raises:
            Refused: all are taken; 503.
        """
        with self._lock:
            if self._taken >= self._capacity:
                wait = min(60, max(1, math.ceil(self._last_seconds * self._taken)))
                raise Refused(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"{self._taken} requests are waiting already; try again in {wait} s",
                    retry_after=wait,
                )
            self._taken += 1
        return Place(self, self._seconds)

    def stop(self) -> None:
        """Takes no more jobs, and forgets those that wait."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Puts a job behind the others."""
        return self._thread.submit(self._timed, job)

    def release(self) -> None:
        """Gives a place to others."""
        with self._lock:
            self._taken -= 1

    def _timed(self, job: Callable[[], T]) -> T:
        start = time.monotonic()
        try:
            return job()
        finally:
            self._last_seconds = time.monotonic() - start


class Place:
    """A place in the queue: it is free again when its block is left and its job is over."""

    def __init__(self, worker: Worker, seconds: float):
        """Starts the clock; see `Worker.place`."""
        self._worker, self._seconds = worker, seconds
        self._deadline = time.monotonic() + seconds
        self._submitted = False

    def __enter__(self) -> "Place":
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Frees the place, unless its job holds it."""
        if not self._submitted:
            self._worker.release()

    def check(self) -> None:
        """Raises Refused, 504, when the time is over; for jobs, between their steps."""
        if time.monotonic() > self._deadline:
            raise self._too_late()

    async def within(self, awaitable: Awaitable[T]) -> T:
        """Awaits something for as long as the time lasts.

        Raises:
            Refused: it took too long; 504.
        """
        left = max(0.0, self._deadline - time.monotonic())
        try:
            return await asyncio.wait_for(awaitable, left)
        except TimeoutError as error:
            raise self._too_late() from error

    async def run(self, job: Callable[[], T]) -> T:
        """Runs one job in the worker's thread; if it is not begun in time, it never is.

        Raises:
            Refused: it took too long; 504. And whatever the job raises.
        """
        future = self._worker.submit(job)
        self._submitted = True
        future.add_done_callback(lambda _: self._worker.release())
        return await self.within(asyncio.wrap_future(future))

    def _too_late(self) -> Refused:
        return Refused(
            HTTPStatus.GATEWAY_TIMEOUT,
            f"not done within {self._seconds:g} s; ask for fewer samples or give a smaller picture",
        )
