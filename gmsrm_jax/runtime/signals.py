"""How a training's process ends: by SIGTERM, by Ctrl-C, and without waiting in vain for others.

With several processes JAX owns SIGTERM: its handler notes the first one and swallows every other,
and a handler set in Python would switch its notice off. So neither signal is handled. Both are
blocked in every thread, and one thread waits for them (`sigwait`); it alone lets a SIGTERM through
to JAX, when the training is to stop at a step that all processes agree on. Both signals go the same
way, and a second one ends at once. Schedulers and wrappers send one twice: another one of the same
kind within `ECHO_SECONDS` is no second one.
"""

import _thread
import concurrent.futures
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from gmsrm_jax.runtime.errors import NotFinite, Stopped, UserError

# Seconds in which the main thread can end by itself what is interrupted outside the steps.
_UNWIND_SECONDS = 5.0
# Seconds that a process waits for the others when it ends: for all of them when they ended in the
# same step, and shortly when they may not know of it yet.
_PATIENCE = {Stopped.exit_status: 60.0, NotFinite.exit_status: 60.0}
_SHORT_PATIENCE = 10.0
ECHO_SECONDS = 2.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOOK_SECONDS = 0.1  # between two looks for a signal
_FOR_EVER = 1e9
_STOPPED = "stopped; what is finished is kept, the same command goes on"
_Result = TypeVar("_Result")


class _Watch:
    """The thread that waits, and what it has seen.

    Attributes:
        first: the first signal, or None.
        notices: of each open block whose steps ask for a signal, what says what is saved.
        left_running: whether work was left to a thread that may still be at it.
    """

    def __init__(self, signals: set[signal.Signals]):
        self.signals = signals
        self.first: signal.Signals | None = None
        self.notices: list[Callable[[], str]] = []
        self.left_running = False
        self._echoes_until = 0.0

    def run(self) -> None:
        """Waits for a first and a second signal."""
        first = signal.Signals(signal.sigwait(self.signals))
        self._echoes_until = time.monotonic() + ECHO_SECONDS
        self.first = first
        if self.notices:
            if _several():
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
                signal.raise_signal(signal.SIGTERM)
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            # Not before: whoever reads it may send the second, which JAX would swallow.
            _tell(
                f"{first.name}: stops after the running step, and saves; once more, after "
                f"{ECHO_SECONDS:g} s, ends at once"
            )
            second = self._second(_FOR_EVER)
        else:
            _thread.interrupt_main()
            second = self._second(_UNWIND_SECONDS)
        if second is None:
            _tell(_STOPPED)
            os._exit(_interrupted_status())
        saved = "".join(f"; {says()}" for says in self.notices[-1:])
        _tell(f"{second.name} as a second signal: ended at once{saved}")
        os._exit(128 + second)

    def _second(self, seconds: float) -> signal.Signals | None:
        """The next signal that is no echo of the first; None if none comes so soon."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            found = signal.sigtimedwait(self.signals, left)
            if found and (found.si_signo != self.first or time.monotonic() > self._echoes_until):
                return signal.Signals(found.si_signo)
        return None


_watches: list[_Watch] = []


def exit_status(action: Callable[[], None]) -> int:
    """Does what a program is there for, and returns its exit status, which `main` lists.

    To be called in the program's main thread, before it starts any other, unless `hold_signals`
    was. A signal raises KeyboardInterrupt in the main thread, but inside `noticed_by_steps` the
    next step asks for it. A second one ends the process at once, with status 130 (Ctrl-C) or 143,
    unless it is of the same kind and comes within `ECHO_SECONDS`. A signal that the caller ignores
    is left alone.
    """
    _watch_signals()
    status = 1  # of an exception that keeps its traceback
    try:
        action()
        status = 0
    except UserError as error:
        print(f"gmsrm: error: {error}", file=sys.stderr)
        status = error.exit_status
    except Stopped as stopped:
        status = stopped.exit_status
    except KeyboardInterrupt:
        _tell(_STOPPED)
        status = _interrupted_status()
    finally:
        _leave_soon(status)
    return status


def hold_signals() -> None:
    """Blocks Ctrl-C and SIGTERM in this thread, and in those that it starts from now on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def release_signals() -> None:
    """Lets this thread take them again, and alone."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _watch_signals() -> None:
    if _watches:
        return
    keep_interrupts()
    signals = {number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    if signal.SIGINT not in signals:
        # A job in the background: `interrupt_main` does nothing while SIGINT is ignored. Blocked,
        # and waited for by nobody, it is as good as ignored.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.default_int_handler)
    watch = _Watch(signals)
    _watches.append(watch)
    if signals:
        threading.Thread(target=watch.run, name="signals", daemon=True).start()


def keep_interrupts() -> None:
    """Lets Ctrl-C end the program also where Python would report it and go on.

    That is in what runs when an object or a garbage collection ends; JAX has such callbacks, and
    they run all the time while it compiles.
    """
    report = sys.unraisablehook

    def interrupt_later(dropped: "sys.UnraisableHookArgs") -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            report(dropped)
            return
        # Later, since at once it would be raised in here, and be dropped again.
        timer = threading.Timer(_LOOK_SECONDS, _thread.interrupt_main)
        timer.daemon = True
        timer.start()

    sys.unraisablehook = interrupt_later


@contextlib.contextmanager
def noticed_by_steps(saved: Callable[[], str]) -> Iterator[None]:
    """While it is open, a first signal is for `processes.stop_agreed` to answer.

    Does nothing when signals are not watched.

    Args:
        saved: says what is saved, for whom a second signal ends at once.
    """
    for watch in _watches:
        watch.notices.append(saved)
    try:
        yield
    finally:
        for watch in _watches:
            watch.notices.pop()


def unless_signalled(work: Callable[[], _Result]) -> _Result | None:
    """What `work` returns, or None if a signal comes to a process alone before it is done.

    The work is then left to end with the process, and its result is lost: it is for what can be
    done again. Where there are several processes, or signals are not watched, it is always done.
    """
    if not _watches or _several():
        return work()
    result: concurrent.futures.Future[_Result] = concurrent.futures.Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, name="work", daemon=True).start()
    while not result.done():
        if signal_received():
            for watch in _watches:
                watch.left_running = True
            return None
        concurrent.futures.wait([result], timeout=_LOOK_SECONDS)
    return result.result()


def signal_received() -> bool:
    """Whether a signal has come."""
    return any(watch.first is not None for watch in _watches)


def _interrupted_status() -> int:
    """Exit status of a process that a signal ended outside the steps: nothing was to be saved.

    75 after SIGTERM, for whoever sent it wants the machine and not the end of the run; 130 after
    Ctrl-C.
    """
    terminated = any(watch.first == signal.SIGTERM for watch in _watches)
    return Stopped.exit_status if terminated else 128 + signal.SIGINT


def _leave_soon(status: int) -> None:
    """Sees to it that a process that is about to end does not wait for the others for ever.

    At its end a process waits until all have come to theirs. One that ended by an error of its own
    would wait in vain, while the others wait for its part of a step.

    Args:
        status: exit status; 0 waits as long as process 0 evaluates.
    """
    if status == 0:
        return
    patience = _PATIENCE.get(status, _SHORT_PATIENCE)

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    if any(watch.left_running for watch in _watches) and status != 1:
        end()  # the interpreter's own end would pull the ground away from under the thread

    timer = threading.Timer(patience, end)
    timer.daemon = True
    timer.start()


def _several() -> bool:
    """Whether this is one of several processes."""
    # Not imported here: that takes seconds, and without it there is one process.
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def _tell(message: str) -> None:
    print(f"gmsrm: {message}", file=sys.stderr, flush=True)
