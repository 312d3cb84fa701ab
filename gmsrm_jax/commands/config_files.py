"""Config files as arguments of subcommands, configs/NAME.py[:ARGUMENT]."""

import importlib.util
from pathlib import Path

from ml_collections import ConfigDict

from gmsrm_jax.errors import UserError


def is_config_file(target: str) -> bool:
    """Whether an argument names a config file, rather than pictures."""
    return target.partition(":")[0].endswith(".py")


def read_config_file(target: str) -> ConfigDict:
    """Runs a config file, as training does, and returns its config.

    Raises:
        UserError: there is no such file, or it is none of a config.
    """
    file, _, argument = target.partition(":")
    specification = importlib.util.spec_from_file_location("experiment_config", file)
    if not Path(file).is_file() or specification is None or specification.loader is None:
        raise UserError(f"no config file {file!r}; give one such as configs/demo.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"{file}: has no get_config(); give a file such as configs/demo.py")
    return module.get_config(argument or None)
