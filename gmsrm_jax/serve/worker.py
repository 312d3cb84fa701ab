"""The one thread that works on pictures, and the short queue before it."""

import asyncio
import contextvars
import math
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, TypeVar

from gmsrm_jax.serve.limits import Refused

T = TypeVar("T")


_BUSY = "the machine is busy: try again, or give a smaller picture"
# Of a job that is waited for until it is …
_CURES = {
    "received": "give a smaller picture, or send it faster",
    "begun": "others come first: try again later",
}


class Job:
    """What a running job asks and tells.

    Attributes:
        next: what is waited for: that it is "received", "begun" or "done".
        cure: what to do if it is not done in time.
    """

    def __init__(self, seconds: float) -> None:
        """Starts the clock; after `seconds` it is too late."""
        self._seconds, self._deadline = seconds, time.monotonic() + seconds
        self.next, self.cure = "received", _BUSY
        self.share = 0.0  # of the work that is done, about
        self.listeners: list[Callable[[float], Any]] = []  # are told the share

    def check(self) -> None:
        """Raises Refused, 504, when the time is over; called between steps."""
        if time.monotonic() > self._deadline:
            raise self.too_late()

    def progress(self, done: float, total: int) -> None:
        """Is told how much is done; see `Inpainter`."""
        self.share = done / total
        for listener in self.listeners:
            listener(self.share)

    def too_late(self) -> Refused:
        """The answer when the time is over."""
        return Refused(
            HTTPStatus.GATEWAY_TIMEOUT,
            f"not {self.next} within {self._seconds:g} s; {_CURES.get(self.next, self.cure)}",
        )


class Worker:
    """Runs jobs one after another in a thread of its own.

    Attributes:
        length: places in the queue that are taken, that of the running job included.
        running: the job that is worked on, None if there is none.
    """

    def __init__(self, capacity: int, seconds: float) -> None:
        """Starts the thread.

        Args:
            capacity: places, the job that runs included.
            seconds: for which a place may be held before its request is answered with 504.
        """
        self._capacity, self._seconds = capacity, seconds
        self._lock = threading.Lock()
        self._last_seconds = 0.0
        self._thread = ThreadPoolExecutor(1, "worker")
        self.length = 0
        self.running: Job | None = None

    def stop(self) -> None:
        """Takes no more jobs, and forgets those that wait."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(
        self, work: Callable[[Job, list[Any]], T], read: Callable[[], Awaitable[Any]] | None = None
    ) -> T:
        """Runs one job; if it is not begun in time, it never is.

        Its place is taken before anything is read, so that what waits is bounded, and is free again
        when the job is over, be its request answered or not.

        Args:
            work: what to do. Its list holds what was read and may be emptied, to have the memory
                back early.
            read: reads the request's body.

        Raises:
            Refused: all places are taken, 503; it took too long, 504. And whatever the work raises.
        """
        self._take()
        job = Job(self._seconds)
        future: Future[T] | None = None
        try:
            async with asyncio.timeout(self._seconds):
                body = [await read()] if read else []
                job.next = "begun"
                # Gradio finds in the context whose progress it shows.
                context = contextvars.copy_context()
                future = self._thread.submit(context.run, self._timed, work, job, body)
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise job.too_late() from error
        finally:
            if future is None:
                self._release()
            else:
                future.add_done_callback(self._release)

    def _take(self) -> None:
        with self._lock:
            if self.length >= self._capacity:
                wait = min(60, max(1, math.ceil(self._last_seconds * self.length)))
                raise Refused(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"{self.length} requests are waiting already; try again in {wait} s",
                    retry_after=wait,
                )
            self.length += 1

    def _release(self, _: object = None) -> None:
        with self._lock:
            self.length -= 1

    def _timed(self, work: Callable[[Job, list[Any]], T], job: Job, body: list[Any]) -> T:
        start, self.running, job.next = time.monotonic(), job, "done"
        try:
            return work(job, body)
        finally:
            self._last_seconds, self.running = time.monotonic() - start, None
