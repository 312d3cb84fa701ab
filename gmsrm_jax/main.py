"""The entry point of training and evaluation.

    python -m gmsrm_jax.main --config=configs/paris.py [--workdir=runs/paris]
        [--mode=train|evaluate] [--stage=all|NAME] [--dry_run [--details]]

Where a cluster starts it once on every machine, it finds the other processes by itself, or by the
environment that gmsrm_jax/runtime/processes.py lists.

Exit status, of every process:

    0    done
    1    a bug, with its traceback; seldom, another process died
    2    something that the one line on the standard error says how to cure
    3    a loss is not finite; the line names it, its step and the last good checkpoint
    75   stopped by a signal, to be started again: the same command goes on. SIGTERM to any process,
         or Ctrl-C, makes all stop after the same step and save; SIGTERM before and after training
         ends at once, with nothing to save
    130  Ctrl-C before or after training, or as a second signal: nothing was saved since the last
         checkpoint. The same signal again within two seconds is no second one
    143  SIGTERM as a second signal, or before the program began
    134  (by signal 6, SIGABRT) another process died
"""

import pathlib
import re
import shlex
import sys

from absl import flags, logging
from ml_collections import config_flags

from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import user_path
from gmsrm_jax.runtime.signals import exit_status
from gmsrm_jax.runtime.streams import run_program

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment, configs/NAME.py[:ARGUMENT,…]; --config.FIELD=VALUE changes a field"
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of logs, checkpoints and report; default: runs/<config name>"
)
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "Train and evaluate, or evaluate")
_STAGE = flags.DEFINE_string("stage", "all", "Train all stages of the method, or only this one")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Say what would be done, and end")
_DETAILS = flags.DEFINE_bool(
    "details", False, "Say the whole config and the tables of parameters before the training"
)


def _parse(arguments: list[str]) -> None:
    """Parses the flags; what is unknown or malformed is a user's error.

    Raises:
        UserError: names the flag or the config file.
    """
    # Before ml_collections does it, which prints a traceback of its own.
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, given, value = argument.partition("=")
        file = pathlib.Path((value if given else following).split(":")[0])
        if name in ("--config", "-config") and not file.is_file():
            raise UserError(f"--config: no file {str(file)!r}; give one such as configs/demo.py")
    try:
        unparsed = flags.FLAGS(arguments)
        config = _CONFIG.value
    except flags.Error as error:
        raise UserError(" ".join(str(error).split())) from error
    except (AttributeError, KeyError) as error:
        # ml_collections reports an unknown --config.FIELD only by one of its names.
        words = re.findall(r"\w+", str(error).replace("\\n", " "))
        fields = {a: set(a.split("=")[0].split(".")[1:]) for a in arguments}
        culprits = [a for a, parts in fields.items() if not parts.isdisjoint(words)]
        if not culprits:
            raise
        raise UserError(
            f"{culprits[0]}: no such field; gmsrm_jax/config/fields.py and methods/ list them"
        ) from error
    if len(unparsed) > 1:
        raise UserError(
            f"unknown argument {unparsed[1]!r}; fields are given as --config.FIELD=VALUE"
        )
    if config is None:
        raise UserError("--config is missing; try --config=configs/demo.py")


def _run(command: str) -> None:
    """Dispatches on the flags."""
    from gmsrm_jax.config import check_config

    config = _CONFIG.value
    check_config(config)
    if "://" in (_WORKDIR.value or ""):
        raise UserError(
            f"--workdir={_WORKDIR.value} is a URL; mount the bucket and give the path it has then"
        )

    import jax

    from gmsrm_jax.commands.scoring import evaluate_and_report
    from gmsrm_jax.data.splits import has_test_pictures
    from gmsrm_jax.evaluation.run import check_evaluation
    from gmsrm_jax.runtime.jax_setup import set_up_jax
    from gmsrm_jax.runtime.log import open_text_log, say
    from gmsrm_jax.runtime.processes import initialise
    from gmsrm_jax.training.before_after import BEFORE_AFTER
    from gmsrm_jax.training.run import train

    set_up_jax(config.matmul_precision)
    # What libraries tell their developers, such as tracebacks of Orbax's threads; what goes wrong
    # there is raised as an exception all the same.
    logging.set_verbosity(logging.FATAL)
    initialise()
    workdir = user_path(_WORKDIR.value or f"runs/{config.name}", "--workdir")
    if _MODE.value == "evaluate":
        log = workdir / "evaluate.log" if workdir.exists() else None
        open_text_log(log, jax.process_index() == 0)
        evaluate_and_report(config, workdir, command)
        return
    tests = has_test_pictures(config)
    finished = train(
        config,
        workdir,
        stage=_STAGE.value,
        dry_run=_DRY_RUN.value,
        details=_DETAILS.value,
        check=(lambda: check_evaluation(config)) if tests else None,
    )
    if finished and tests:
        evaluate_and_report(config, workdir, command)
    elif finished:
        say("no evaluation: data.test is empty and data.test_fraction is 0; name test pictures")
    picture = workdir / BEFORE_AFTER
    if finished and picture.exists():
        say(f"before and after: {picture}")


def main(arguments: list[str]) -> int:
    """Runs what the arguments ask for, and returns the exit status; for a program's main thread."""
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        print(flags.FLAGS.module_help(sys.modules[__name__]))
        return 0

    def run() -> None:
        _parse(arguments)
        _run(shlex.join(["python", "-m", "gmsrm_jax.main", *arguments[1:]]))

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(run_program("gmsrm", lambda: main(sys.argv)))
