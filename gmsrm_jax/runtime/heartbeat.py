"""A sign of life while one thing takes long."""

import threading
import time
from types import TracebackType

from gmsrm_jax.runtime.log import format_seconds, say

HEARTBEAT_SECONDS = 30.0
_LOOK_SECONDS = 0.25  # between two looks at the clock


class Heartbeat:
    """Says what goes on and for how long, after 30 s, and again after each doubling of the time.

    A context: a thread looks at the clock while it is open.
    """

    def __init__(self) -> None:
        """Nothing goes on yet."""
        self._now = ("", 0.0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)

    def now(self, what: str) -> None:
        """From now on `what` goes on; "" for nothing."""
        self._now = (what, time.monotonic())

    def __enter__(self) -> "Heartbeat":
        """Starts the thread."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends it."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        seen, due = self._now, HEARTBEAT_SECONDS
        while not self._over.wait(_LOOK_SECONDS):
            now = self._now
            if now is not seen:
                seen, due = now, HEARTBEAT_SECONDS
            what, since = now
            seconds = time.monotonic() - since
            if what and seconds >= due:
                say(f"{what}: for {format_seconds(seconds)} now")
                due *= 2
