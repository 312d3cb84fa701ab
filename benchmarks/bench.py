"""Speed, memory and start-up of a method's stages and of its filling, in one run.

    python -m benchmarks.bench [--preset cpu|h200|tiny] [--method NAME] [--config.FIELD=VALUE]
        [--sections training,startup] [--stages NAME,NAME] [--budget SECONDS] [--json FILE]
        [--markdown FILE] [--profile DIR] [--torch-python PATH] [--checkpoint DIR] [--threads N]
        [--cache DIR]

Runs from a checkout, without TensorFlow, TFDS and clu, on random pictures in memory. Every
measurement is a process of its own: one that fails, or does not fit in the budget, is listed as not
measured, and the rest goes on. RESULTS.md says what the columns mean.
"""

import argparse
import datetime
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.presets import PRESETS, ROOT, SECTIONS, Preset, make_config
from benchmarks.tables import add_shares, markdown
from benchmarks.twin import has_torch
from gmsrm_jax.commands import Parser
from gmsrm_jax.commands.options import add_fields
from gmsrm_jax.config.fields import flatten
from gmsrm_jax.methods import DEFAULT, METHODS
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically

SCHEMA = 1
_LEAST = 5.0  # seconds under which a measurement is not begun
_MACHINE = 180.0  # seconds that the first process may take to find the devices


class Bench:
    """Runs measurements in processes of their own and collects their rows."""

    def __init__(
        self, args: argparse.Namespace, preset: Preset, stages: list[str], folder: pathlib.Path
    ):
        """Starts the clock of the budget.

        Args:
            args: of the command.
            preset: what is measured where.
            stages: names of the stages that are measured.
            folder: for what the processes write.
        """
        self._args, self._preset, self._folder = args, preset, folder
        self._stages = stages
        self._end = time.monotonic() + (args.budget or preset.budget)
        self.rows: list[dict[str, Any]] = []
        self.not_measured: list[dict[str, str]] = []
        self.failed = False

    def run(
        self, what: str, job: dict[str, Any], environment: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Runs a job; its rows are kept, also those before a failure, and returned."""
        left = self._end - time.monotonic()
        if left < _LEAST:
            self.fail(what, "the budget is used up")
            return []
        print(f"bench: {what} …", file=sys.stderr, flush=True)
        path, log = self._folder / "rows.jsonl", self._folder / "log.txt"
        path.unlink(missing_ok=True)
        cache = self._args.cache or str(self._folder / "cache")
        job |= {"preset": self._args.preset, "method": self._args.method, "set": self._args.set}
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.job", json.dumps(job), str(path)],
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env={**os.environ, "JAX_COMPILATION_CACHE_DIR": cache, **(environment or {})},
                start_new_session=True,
            )
            try:
                status = process.wait(max(left, _MACHINE) if job["job"] == "machine" else left)
            except subprocess.TimeoutExpired:
                self.fail(what, f"did not end within the {left:.0f} s left of the budget")
                status = 0
            finally:
                _end_group(process)
        if status:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            reason = lines[-1][:300] if lines else "it said nothing"
            self.fail(what, f"ended with status {status}: {reason}")
        rows = _read_rows(path)
        self.rows += [row for row in rows if "section" in row]
        return rows

    def fail(self, what: str, why: str) -> None:
        """Lists as not measured what should have been, which makes the exit status 1."""
        self.failed = True
        self.skip(what, why)

    def skip(self, what: str, why: str) -> None:
        """Lists as not measured what this machine has not the means for."""
        print(f"bench: {what}: not measured: {why}", file=sys.stderr, flush=True)
        self.not_measured.append({"what": what, "why": why})

    def section(self, name: str, machine: dict[str, Any]) -> None:
        """Runs a section's measurements."""
        args, preset = self._args, self._preset
        if name == "training":
            for index, batch in enumerate(preset.batches):
                for stage in self._stages:
                    job: dict[str, Any] = {"job": "training", "section": name, "stage": stage}
                    job |= {"batch": batch, "all_programs": index == 0, "devices": 1}
                    job |= {"profile": args.profile}
                    self.run(f"training, {stage}, batch {batch}", job)
        elif name == "scaling":
            self._scaling(machine)
        elif name == "inference":
            self.run(name, {"job": name, "checkpoint": args.checkpoint})
        elif name == "use":
            self.run(name, {"job": name, "torch_python": self._torch("big-LaMa's network")})
        elif name == "startup":
            job = {"job": name, "checkpoint": args.checkpoint, "stages": self._stages}
            self.run(name, job)
        elif name == "twin" and args.method != DEFAULT:
            self.skip(name, f"its blocks are those of {METHODS[DEFAULT].title}")
        elif name == "twin":
            job = {"job": name, "torch_python": self._torch("twin in PyTorch")}
            self.run(name, job, {"JAX_PLATFORMS": "cpu"})

    def _torch(self, what: str) -> str | None:
        """A Python with PyTorch, if there is one."""
        if has_torch(self._args.torch_python):
            return self._args.torch_python
        self.skip(what, "install torch, or name a Python that has it")
        return None

    def _scaling(self, machine: dict[str, Any]) -> None:
        stage, batch = self._stages[0], self._preset.batches[0]
        virtual = machine["platform"] == "cpu"
        counts = [n for n in self._preset.scaling if virtual or n <= machine["devices"]]
        if len(counts) < 2:
            self.skip("scaling", f"there is {machine['devices']} device")
            return
        for count in counts:
            job: dict[str, Any] = {"job": "training", "section": "scaling", "stage": stage}
            job |= {"all_programs": False, "devices": count}
            job |= {"batch": batch if virtual else batch * count}
            self.run(f"scaling, {count} devices", job, {"JAX_NUM_CPU_DEVICES": str(count)})


def _end_group(process: subprocess.Popen) -> None:
    """Ends a process that still runs, with those that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]  # the last one is empty, or not whole


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.bench", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--preset", default="cpu", choices=list(PRESETS), help="sizes (default: %(default)s)")
    trained = [name for name, method in METHODS.items() if method.stages is not None]
    add("--method", default=DEFAULT, choices=trained, help="default: %(default)s")
    add_fields(parser)
    add("--stages", default="", help="names of stages; default: all of the method's")
    add("--sections", default="", help=f"of {','.join(SECTIONS)}; default: the preset's")
    add("--budget", type=float, default=0.0, help="seconds for everything; 0: the preset's")
    add("--json", default="", metavar="FILE", help="write everything that was measured")
    add("--markdown", default="", metavar="FILE", help="write the tables")
    add("--profile", default=None, metavar="DIR", help="trace a few steps of each program there")
    add("--torch-python", default=sys.executable, metavar="PATH", help="a Python with PyTorch")
    add("--checkpoint", default=None, metavar="DIR", help="weights of the inference")
    add("--threads", type=int, default=0, help="processors to use; 0: all")
    add("--cache", default="", metavar="DIR", help="compile cache to keep; default: a new one")
    args = parser.parse_args(arguments)
    unknown = set(filter(None, args.sections.split(","))) - set(SECTIONS)
    if unknown:
        parser.error(f"--sections {','.join(sorted(unknown))}; use some of {','.join(SECTIONS)}")
    if args.profile:
        args.profile = str(pathlib.Path(args.profile).resolve())
    return args


def main(arguments: list[str]) -> int:
    """Measures what the arguments ask for.

    Returns:
        1 if a measurement failed or did not fit in the budget, otherwise 0; what the machine has
        not the means for (PyTorch, a second GPU) is listed as not measured, and is no failure.
    """
    args = _arguments(arguments)
    preset = PRESETS[args.preset]
    config = make_config(preset, args.method, args.set)
    known = [spec.name for spec in METHODS[args.method].stages_of(config)]
    stages = [name for name in args.stages.split(",") if name] or known
    if unknown := set(stages) - set(known):
        raise UserError(f"--stages={min(unknown)}; {args.method} has {', '.join(known)}")
    if args.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(args, preset, stages, pathlib.Path(temporary))
        machine = bench.run("machine", {"job": "machine"})
        if not machine:
            return 1
        wanted = [name for name in args.sections.split(",") if name] or preset.sections
        for name in wanted:
            bench.section(name, machine[0]["hardware"])
    result = {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "benchmarks.bench", *arguments]),
        "seconds": time.monotonic() - started,
        "preset": args.preset,
        "method": args.method,
        **machine[0],
        "config": flatten(config.to_dict()),
        "rows": add_shares(bench.rows, machine[0]),
        "not_measured": bench.not_measured,
    }
    text = markdown(result)
    print(text)
    for name, written in ((args.json, json.dumps(result, indent=1)), (args.markdown, text)):
        if name:
            write_atomically(name, f"{written}\n".encode())
    return 1 if bench.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(f"bench: error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
