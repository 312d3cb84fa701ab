"""How a training's process ends: by SIGTERM, by Ctrl-C, and without waiting in vain for others.

With several processes JAX owns SIGTERM: its handler notes the first one and swallows every other,
and a handler set in Python would switch its notice off. So neither signal is handled. Both are
blocked in every thread, and one thread waits for them (`sigwait`); it alone lets a SIGTERM through
to JAX, when the training is to stop at a step that all processes agree on. Both signals go the same
way, and a second one ends at once.
"""

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from gmsrm_jax.runtime.errors import NotFinite, Stopped, UserError

# Seconds in which the main thread can end by itself what is interrupted outside the steps.
_UNWIND_SECONDS = 5.0
# Seconds that a process waits for the others when it ends: for all of them when they ended in the
# same step, and shortly when they may not know of it yet.
_PATIENCE = {Stopped.exit_status: 60.0, NotFinite.exit_status: 60.0}
_SHORT_PATIENCE = 10.0
_STOPPED = "stopped; what is finished is kept, the same command goes on"


class _Watch:
    """The thread that waits, and what it has seen.

    Attributes:
        first: the first signal, or None.
        notices: how many blocks are open whose steps ask for a signal.
    """

    def __init__(self, signals: set[signal.Signals]):
        self.signals = signals
        self.first: signal.Signals | None = None
        self.notices = 0

    def run(self) -> None:
        """Waits for a first and a second signal."""
        self.first = first = signal.Signals(signal.sigwait(self.signals))
        if self.notices:
            import jax  # here, for it starts threads, and signals must be blocked in all of them

            if jax.distributed.is_initialized():
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
                signal.raise_signal(signal.SIGTERM)
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            # Not before: whoever reads it may send the second, which JAX would swallow.
            _tell(f"{first.name}: stops at the next common step, and saves; once more ends at once")
            second = signal.Signals(signal.sigwait(self.signals))
        else:
            _thread.interrupt_main()
            found = signal.sigtimedwait(self.signals, _UNWIND_SECONDS)
            if found is None:
                _tell(_STOPPED)
                os._exit(_interrupted_status())
            second = signal.Signals(found.si_signo)
        _tell(f"{second.name} again: ended at once; the last checkpoint is whole")
        os._exit(128 + second)


_watches: list[_Watch] = []


def exit_status(action: Callable[[], None]) -> int:
    """Does what a program is there for, and returns its exit status, which `main` lists.

    To be called in the program's main thread, before it starts any other. A signal raises
    KeyboardInterrupt in the main thread, but inside `noticed_by_steps` the next step asks for it. A
    second one ends the process at once, with status 130 (Ctrl-C) or 143. A signal that
    the caller ignores is left alone.
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


def _watch_signals() -> None:
    if _watches:
        return
    signals = {
        number
        for number in (signal.SIGTERM, signal.SIGINT)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
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


@contextlib.contextmanager
def noticed_by_steps() -> Iterator[None]:
    """While it is open, a first signal is for `processes.stop_agreed` to answer.

    Does nothing when signals are not watched.
    """
    for watch in _watches:
        watch.notices += 1
    try:
        yield
    finally:
        for watch in _watches:
            watch.notices -= 1


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

    timer = threading.Timer(patience, end)
    timer.daemon = True
    timer.start()


def _tell(message: str) -> None:
    print(f"gmsrm: {message}", file=sys.stderr, flush=True)
