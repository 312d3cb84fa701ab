"""Runs the files of launch/, with stand-ins for the programs of a cluster."""

import contextlib
import copy
import os
import pathlib
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from absl import flags
from ml_collections import ConfigDict

from gmsrm_jax import main
from gmsrm_jax.config.fields import flatten

REPOSITORY = pathlib.Path(__file__).parent.parent
LAUNCH = REPOSITORY / "launch"


def environment(extra: Mapping[str, object], *folders: pathlib.Path) -> dict[str, str]:
    """What a login shell has, and no more; folders come first on the PATH."""
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    return {"PATH": path, "HOME": os.environ["HOME"]} | {
        name: str(value) for name, value in extra.items()
    }


def shell(
    command: str, extra: Mapping[str, object], *folders: pathlib.Path
) -> subprocess.CompletedProcess[str]:
    """Runs a line of bash in the checkout."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=REPOSITORY,
        env=environment(extra, *folders),
        capture_output=True,
        text=True,
        timeout=120,
    )


@contextlib.contextmanager
def started(
    command: Sequence[str | os.PathLike[str]], extra: Mapping[str, object]
) -> Iterator[subprocess.Popen[str]]:
    """A program at work, which is gone with all its processes at the end of the block."""
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment(extra),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def stand_in(folder: pathlib.Path, name: str, body: str) -> None:
    """Writes a bash script that is found as a program, if the folder is on the PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


def virtual_environment(folder: pathlib.Path, python: str) -> pathlib.Path:
    """A folder for VENV whose `python` is the bash script given."""
    stand_in(folder / "bin", "python", python)
    (folder / "bin" / "activate").write_text(f"PATH={folder}/bin:$PATH\n")
    return folder


def program_arguments(line: str, after: str) -> list[str]:
    """The words of a line that follow the one given."""
    words = shlex.split(line)
    return words[words.index(after) + 1 :]


def check_arguments(arguments: list[str]) -> None:
    """Checks that the program takes the arguments: config files, flags, their values, fields."""
    values = copy.deepcopy(flags.FLAGS)
    assert "workdir" in values, main.__doc__
    # ml_collections looks for these in sys.argv only.
    overrides = [word for word in arguments if word.startswith("--config.")]
    plain = [word for word in arguments if word not in overrides]
    with contextlib.chdir(REPOSITORY):
        assert values(["main", *plain]) == ["main"]
    config = values["config"].value
    assert isinstance(config, ConfigDict)
    fields = flatten(config.to_dict())
    for word in overrides:
        assert word.removeprefix("--config.").partition("=")[0] in fields


def assignments(printed: str) -> dict[str, str]:
    """The environment in the last line that run.sh prints with DRY_RUN=1."""
    command, *words = shlex.split(printed.strip().splitlines()[-1])
    assert command == "env"
    return dict(word.split("=", 1) for word in words[: words.index("python")])
