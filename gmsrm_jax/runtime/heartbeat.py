"""A sign of life while one thing takes long."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from gmsrm_jax.runtime.log import format_seconds, say

HEARTBEAT_SECONDS = 30.0
_LOOK_SECONDS = 0.25  # between two looks at the clock
Beat = Callable[[str], None]
"""Is told what goes on from now on; "" for nothing."""


@contextlib.contextmanager
def heartbeat() -> Iterator[Beat]:
    """Says what goes on and for how long, after 30 s, and again after each doubling of the time.

    A thread looks at the clock while it is open.
    """
    current, over = ("", time.monotonic()), threading.Event()

    def now(what: str) -> None:
        nonlocal current
        current = (what, time.monotonic())

    def watch() -> None:
        seen, due = current, HEARTBEAT_SECONDS
        while not over.wait(_LOOK_SECONDS):
            newest = current
            if newest is not seen:
                seen, due = newest, HEARTBEAT_SECONDS
            what, since = newest
            seconds = time.monotonic() - since
            if what and seconds >= due:
                say(f"{what}: for {format_seconds(seconds)} now")
                due *= 2

    thread = threading.Thread(target=watch, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield now
    finally:
        over.set()
        thread.join()
