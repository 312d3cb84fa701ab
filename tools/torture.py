"""Tries to break training runs: python tools/torture.py [--rounds N] [--seed S].

Small runs are killed, stopped, starved of disk, given broken checkpoints, run on two processes and
moved between device counts. Each must end as it should, and go on to what an uninterrupted run
ends with, bit for bit on the same devices. Prints a table; exits with 1 if anything failed.
"""

import argparse
import contextlib
import functools
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from absl import logging
from torture_runs import (
    HEARTBEAT_SECONDS,
    Failure,
    Runner,
    Training,
    check_close,
    check_same,
    newest_step,
)

_STOPPED = 75
_MOMENTS = ("step", "save", "start")


class Torture:
    """The rounds, one method each; every one returns its outcome in words or raises Failure."""

    def __init__(self, runner: Runner, rng: random.Random):
        """Takes what starts runs, and what draws moments."""
        self.runner, self.rng = runner, rng
        self.folder = runner.folder
        self._fresh = 0

    def workdir(self) -> pathlib.Path:
        """A new one."""
        self._fresh += 1
        return self.folder / f"run_{self._fresh}"

    def reference(self, devices: int) -> pathlib.Path:
        """An uninterrupted run in one process, made at the first call."""
        workdir = self.folder / f"reference_{devices}"
        if not workdir.exists():
            self.runner.finish(workdir, devices)
        return workdir

    def reference_of_two(self) -> pathlib.Path:
        """An uninterrupted run in two processes, made at the first call."""
        workdir = self.folder / "reference_two_processes"
        if not workdir.exists():
            for training in self.runner.start_two(workdir):
                training.must_end(0)
        return workdir

    def signals(self, number: signal.Signals, rounds: int) -> Iterator[str]:
        """One run after the other is hit until there were so many rounds; yields their outcomes."""
        workdir, ended, hits = self.workdir(), False, 0
        wanted = -signal.SIGKILL if number == signal.SIGKILL else _STOPPED
        for index in range(rounds):
            if ended:
                workdir = self.workdir()
            training = self.runner.start(workdir)
            moment = training.hit(self.rng, number, _MOMENTS[index % len(_MOMENTS)])
            status = training.end()
            ended = status == 0
            hits += status == wanted
            # Before the program's own first line a SIGTERM does what it does to all programs.
            early = -number if moment.startswith("start") else 0
            if status not in (0, wanted, early):
                raise Failure(f"{moment}: ended with {status}\n{training.output()[-3000:]}")
            yield f"{moment}: status {status}" + (
                f", {check_same(workdir, self.reference(4))}" if ended else ""
            )
        if rounds and not hits:
            raise Failure(f"no run ended with {wanted}: the signals did nothing")
        if not ended:
            self.runner.finish(workdir)
            yield f"run to its end: {check_same(workdir, self.reference(4))}"

    def partial(self, stage: str = "inpainting", step: int = 8) -> pathlib.Path:
        """A run that was killed when it had two checkpoints of a stage."""
        workdir = self.workdir()
        training = self.runner.start(workdir)
        manifest = workdir / stage / "checkpoints" / str(step) / "manifest.json"
        training.wait_for(manifest.exists)
        training.process.kill()
        training.end()
        return workdir

    def broken_checkpoint(self, how: str) -> str:
        """The newest checkpoint is damaged; the run must say so and go on from the one before."""
        workdir = self.partial()
        newest = newest_step(workdir, "inpainting")
        step = workdir / "inpainting" / "checkpoints" / str(newest)
        files = [p for p in step.rglob("*") if p.is_file() and p.name != "manifest.json"]
        file = max(files, key=lambda path: path.stat().st_size)
        data = bytearray(file.read_bytes())
        if how == "truncated":
            data = data[: self.rng.randrange(len(data))]
        else:
            place = self.rng.randrange(len(data))
            data[place] ^= 1 << self.rng.randrange(8)
        file.write_bytes(data)
        output = self.runner.finish(workdir).output()
        if f"{newest} is broken" not in output:
            raise Failure(f"step {newest} was not called broken\n{output[-3000:]}")
        if f"resuming at step {newest - 4} " not in output:
            raise Failure(f"did not go on from step {newest - 4}\n{output[-3000:]}")
        return f"step {newest}, {file.name}: {check_same(workdir, self.reference(4))}"

    def full_disk(self) -> str:
        """A small tmpfs that is filled up while a run trains on it."""
        place = self.folder / "small_disk"
        place.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)],
            capture_output=True,
            text=True,
        )
        if mounted.returncode:
            raise Failure(
                f"no tmpfs ({mounted.stderr.strip()}); run as root, with the right to mount"
            )
        try:
            workdir = place / "run"
            training = self.runner.start(workdir)
            manifest = workdir / "memory" / "checkpoints" / "4" / "manifest.json"
            training.wait_for(manifest.exists)
            filler = place / "filler"
            with filler.open("wb") as file, contextlib.suppress(OSError):
                while True:
                    os.write(file.fileno(), bytes(4096))
            note = self._ends_with_one_line(training, workdir)
            filler.unlink()
            self.runner.finish(workdir)
            return f"{note}, then {check_same(workdir, self.reference(4))}"
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)

    def failing_write(self) -> str:
        """No file may be longer than most of a checkpoint's, so that the write itself fails."""
        workdir = self.partial("memory", 4)
        step = workdir / "memory" / "checkpoints" / str(newest_step(workdir, "memory"))
        limit = max(path.stat().st_size for path in step.rglob("*") if path.is_file()) // 2
        training = self.runner.start(workdir)
        resource.prlimit(training.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        note = self._ends_with_one_line(training, workdir)
        self.runner.finish(workdir)
        return f"{note}, then {check_same(workdir, self.reference(4))}"

    def _ends_with_one_line(self, training: Training, workdir: pathlib.Path) -> str:
        status, output = training.end(), training.output()
        lines = [line for line in output.splitlines() if line.startswith("gmsrm: error: ")]
        if status == 0 or len(lines) != 1 or "Traceback" in output:
            raise Failure(f"ended with {status} and {len(lines)} lines\n{output[-3000:]}")
        if newest_step(workdir, "memory") < 4:
            raise Failure("an earlier checkpoint is gone")
        return f"status {status}, one line"

    def lost_process(self) -> str:
        """One of two processes is killed; the other must not wait for it."""
        workdir = self.workdir()
        both = self.runner.start_two(workdir)
        victim = self.rng.randrange(2)
        both[0].wait_for_lines(self.rng.randint(1, 8))
        both[victim].process.kill()
        started = time.monotonic()
        status = both[1 - victim].end(HEARTBEAT_SECONDS + 60)
        seconds = time.monotonic() - started
        if status == 0:
            raise Failure("the other process ended with 0")
        for training in self.runner.start_two(workdir):
            training.must_end(0)
        same = check_same(workdir, self.reference_of_two())
        return f"{victim} killed, the other {status} after {seconds:.1f} s; {same}"

    def stopped_process(self) -> str:
        """One of two processes has a SIGTERM; both must save and end with 75."""
        workdir = self.workdir()
        both = self.runner.start_two(workdir)
        target = self.rng.randrange(2)
        both[0].wait_for_lines(self.rng.randint(1, 8))
        both[target].process.send_signal(signal.SIGTERM)
        for training in both:
            training.must_end(_STOPPED)
        for training in self.runner.start_two(workdir):
            training.must_end(0)
        return f"SIGTERM to {target}, both 75; {check_same(workdir, self.reference_of_two())}"

    def two_processes(self) -> str:
        """Two processes with two devices each learn what one process with four learns."""
        return check_close(self.reference_of_two(), self.reference(4))

    def moved(self, devices: int, then: int) -> str:
        """A checkpoint of some devices goes on with another number of them."""
        workdir = self.workdir()
        training = self.runner.start(workdir, devices)
        training.wait_for_lines(self.rng.randint(1, 8))
        training.process.send_signal(signal.SIGTERM)
        training.must_end(_STOPPED)
        self.runner.finish(workdir, then)
        # The first steps amplify rounding most, so they are taken on the same devices.
        return check_close(workdir, self.reference(devices))


def main() -> int:
    """Runs all rounds, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="rounds of SIGKILL and of SIGTERM")
    parser.add_argument("--seed", type=int, default=0, help="of all moments")
    parser.add_argument("--only", default="", help="rounds with this in their name")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the runs")
    args = parser.parse_args()
    print(f"torture: {args.rounds} rounds, seed {args.seed}", flush=True)
    logging.set_verbosity(logging.ERROR)  # Orbax warns of what it does not need
    failures = 0
    with contextlib.ExitStack() as opened:
        if args.keep:
            folder = pathlib.Path(tempfile.mkdtemp(prefix="torture-"))
            print(f"torture: in {folder}")
        else:
            folder = pathlib.Path(opened.enter_context(tempfile.TemporaryDirectory()))
        torture = Torture(Runner(folder), random.Random(args.seed))
        for name, outcomes in _rounds(torture, args.rounds):
            if args.only not in name:
                continue
            started = time.monotonic()
            try:
                for outcome in outcomes():
                    seconds = time.monotonic() - started
                    print(f"ok    {seconds:6.1f} s  {name:28} {outcome}", flush=True)
                    started = time.monotonic()
            except Failure as failure:
                failures += 1
                seconds = time.monotonic() - started
                print(f"FAIL  {seconds:6.1f} s  {name:28} {failure}", flush=True)
    print(f"torture: {failures} failed" if failures else "torture: all passed")
    return 1 if failures else 0


def _rounds(torture: Torture, rounds: int) -> Iterator[tuple[str, Callable[[], Iterator[str]]]]:
    def once(action: Callable[[], str]) -> Callable[[], Iterator[str]]:
        return lambda: iter([action()])

    yield "uninterrupted", once(lambda: torture.reference(4).name)
    yield "SIGKILL", lambda: torture.signals(signal.SIGKILL, rounds)
    yield "SIGTERM", lambda: torture.signals(signal.SIGTERM, rounds)
    yield "full disk", once(torture.full_disk)
    yield "write that fails", once(torture.failing_write)
    for how in ("truncated", "bit-flipped"):
        yield f"{how} checkpoint", once(functools.partial(torture.broken_checkpoint, how))
    yield "two processes", once(torture.two_processes)
    yield "one of two killed", once(torture.lost_process)
    yield "one of two stopped", once(torture.stopped_process)
    yield "4 devices, then 1", once(lambda: torture.moved(4, 1))
    yield "1 device, then 4", once(lambda: torture.moved(1, 4))


if __name__ == "__main__":
    sys.exit(main())
