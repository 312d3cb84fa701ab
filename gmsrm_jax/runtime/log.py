"""What a run says while it works: text lines, JSON lines, a progress bar, TensorBoard.

Every scalar goes to log.jsonl. TensorBoard gets the same scalars and the panels through clu when
`config.tensorboard` is set; without it nothing here needs TensorFlow or clu.
"""

import contextlib
import json
import logging
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.image_grid import to_png
from gmsrm_jax.runtime.streams import drop_output

_LOGGER = logging.getLogger("gmsrm")
_Item = TypeVar("_Item")
Line = dict[str, Any]  # of a log.jsonl


def say(message: str) -> None:
    """Writes one line for people, to the terminal and to the log file of the run."""
    _LOGGER.info(message)


def note(message: str) -> None:
    """Writes what is worth keeping but long, such as tables, to the log file of the run alone."""
    _LOGGER.info(message, extra={"on_screen": False})


def open_text_log(path: pathlib.Path | None, speaks: bool = True) -> None:
    """Sends `say` to the standard output, and to a file if one is given.

    Args:
        path: the file; None for the standard output alone.
        speaks: False keeps silent, as all processes of a run but the first do.

    Raises:
        UserError: the file cannot be written.
    """
    for handler in list(_LOGGER.handlers):
        _LOGGER.removeHandler(handler)
        handler.close()
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    if not speaks:
        _LOGGER.addHandler(logging.NullHandler())
        return
    screen: logging.Handler = _TerminalHandler()
    screen.setFormatter(logging.Formatter("%(message)s"))
    _LOGGER.addHandler(screen)
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = _FileHandler(path, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}); change --workdir"
            ) from error
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        _LOGGER.addHandler(file)


class _FileHandler(logging.FileHandler):
    """Loses a line rather than a run: what a full disk must not lose has its own errors."""

    def handleError(self, record: logging.LogRecord) -> None:
        del record


class _TerminalHandler(logging.Handler):
    """Prints above a progress bar instead of through it, and no rates beside the bar.

    A work of hours goes on when nobody reads of it any more.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "on_screen", True):
            return
        # Names of files can hold what the terminal's encoding cannot.
        encoding = sys.stdout.encoding or "utf-8"
        text = self.format(record).encode(encoding, "backslashreplace").decode(encoding)
        try:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:
            drop_output()


@contextlib.contextmanager
def writing(folder: pathlib.Path) -> Iterator[None]:
    """Turns what a disk has to say into one line.

    Raises:
        UserError: names the folder, and what is wrong.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); make room there, then start again to "
            "go on from the newest checkpoint"
        ) from error


class RunLog:
    """The scalars and panels of one stage, in its folder; of process 0, which alone has one.

    A line holds means since the line before it, and one is written where a signal stops a run.

    Attributes:
        last: the line of the newest step, {} if there is none.
    """

    def __init__(self, folder: pathlib.Path, start_step: int, tensorboard: bool):
        """Opens the folder; lines after `start_step` are of work that was lost, and are dropped.

        Raises:
            UserError: the folder cannot be written; so do the other methods, but `close`.
        """
        self._folder = folder
        self.path = folder / "log.jsonl"
        kept = [line for line in read_log(self.path) if line["step"] <= start_step]
        self.last: Line = kept[-1] if kept else {}
        self._seconds_before = self.last.get("seconds") or 0.0
        with writing(folder):
            self._write(kept)
            self._file = self.path.open("a", encoding="utf-8")
        self._panels = folder / "panels"
        self._started = time.monotonic()
        self._writer = None
        if tensorboard:
            from gmsrm_jax.runtime.tensorboard import create_writer

            self._writer = create_writer(folder / "tensorboard")

    def seconds(self) -> float:
        """Seconds of work on this stage, earlier runs in this workdir counted in."""
        return self._seconds_before + time.monotonic() - self._started

    def scalars(self, step: int, images: int, values: Mapping[str, float]) -> None:
        """Writes the scalars of a step; a value that is not finite is written as null.

        A second call for the newest step adds to its line.
        """
        known = self.last.get("step") == step
        before = self.last if known else {"step": step, "images": images}
        self.last = {
            **before,
            "seconds": round(self.seconds(), 3),
            **{k: float(v) if np.isfinite(v) else None for k, v in sorted(values.items())},
        }
        with writing(self._folder):
            if known:
                self._file.close()
                self._write([*read_log(self.path)[:-1], self.last])
                self._file = self.path.open("a", encoding="utf-8")
            else:
                self._file.write(json.dumps(self.last) + "\n")
                self._file.flush()
        if self._writer is not None:
            self._writer.write_scalars(step, {k: float(v) for k, v in values.items()})

    def panels(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes pictures, uint8 [H, W, 3] by name, as panels/NAME_STEP.png."""
        for name, image in images.items():
            with writing(self._folder):
                write_atomically(self._panels / f"{name}_{step:08d}.png", to_png(image))
        if self._writer is not None:
            self._writer.write_images(step, {name: image[None] for name, image in images.items()})

    def _write(self, lines: list[Line]) -> None:
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in lines).encode())

    def close(self) -> None:
        """Flushes everything."""
        # What could not be written was said before.
        with contextlib.suppress(OSError):
            self._file.close()
        if self._writer is not None:
            self._writer.flush()
            self._writer.close()


def read_log(path: pathlib.Path) -> list[Line]:
    """Reads a log.jsonl; a last line cut off by a kill is left out, a missing file is empty."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def shown(items: Iterable[_Item], label: str, total: int, many: int) -> Iterator[_Item]:
    """Yields the items, and says how far it is where there are more than `many` in all.

    Args:
        items: `total` of them.
        label: what is done with them.
        total: number of items.
        many: number from which on progress is shown.
    """
    progress = Progress(label, 0, total, 1) if total > many else None
    for done, item in enumerate(items, start=1):
        yield item
        if progress:
            progress.update(done, "")
    if progress:
        progress.close()


class Progress:
    """A bar on a terminal and a log line every ten seconds, both with rate and time left."""

    def __init__(
        self,
        name: str,
        done: int,
        total: int,
        images_per_step: int,
        bar: bool = True,
        unit: str = "images",
    ):
        """Starts at `done` of `total` steps; `bar` allows one on a terminal; `unit` is counted."""
        self._unit = unit
        self._name, self._total, self._images = name, total, images_per_step
        self._first, self._started = done, time.monotonic()
        self._printed = self._started
        self._bar = None
        if bar and sys.stderr.isatty():
            self._bar = tqdm(
                total=total * images_per_step,
                initial=done * images_per_step,
                desc=name,
                unit="img" if unit == "images" else unit,
                file=sys.stderr,
                dynamic_ncols=True,
            )

    def pause(self, seconds: float) -> None:
        """Leaves seconds that were not training, such as a validation, out of the rate."""
        self._started += seconds

    def rate(self, done: int) -> float:
        """Images a second since the clock was started."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        return (done - self._first) * self._images / seconds

    def update(self, done: int, note: str) -> None:
        """Shows that `done` steps are completed; `note` names the losses."""
        if self._bar is not None:
            self._bar.n = done * self._images
            self._bar.set_postfix_str(note)
        now = time.monotonic()
        if now - self._printed < 10.0 and done != self._total:
            return
        self._printed = now
        rate = self.rate(done)
        left = (self._total - done) * self._images / rate if rate > 0 else float("nan")
        line = f"{self._name}: step {done}/{self._total}, {rate:.1f} {self._unit}/s, "
        line += f"{format_seconds(left)} left" + (f"; {note}" if note else "")
        _LOGGER.info(line, extra={"on_screen": self._bar is None})

    def complete(self) -> None:
        """Fills the bar, and writes no line."""
        if self._bar is not None:
            self._bar.n = self._total * self._images

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()


def format_seconds(seconds: float) -> str:
    """Seconds as 0:42, 12:05 or 3:07:09; unknown time as "?"."""
    if not np.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
