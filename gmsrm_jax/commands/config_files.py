"""Config files as arguments of subcommands, configs/NAME.py[:ARGUMENT]."""

import ast
import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from gmsrm_jax.runtime.errors import UserError


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


def change_fields(config: ConfigDict, changes: Sequence[str]) -> None:
    """Sets fields of a config.

    Args:
        config: its fields are changed, and stay locked.
        changes: FIELD=VALUE each, such as "memory.length_kimg=4" or "data.train=DIR".

    Raises:
        UserError: there is no such field, or the value is of another kind.
    """
    from gmsrm_jax.config.fields import flatten  # with the methods, and so JAX

    known = flatten(config.to_dict())
    for change in changes:
        field, equals, text = change.partition("=")
        if not equals or field not in known:
            raise UserError(
                f"--config.{change}: no field of this name; write --config.FIELD=VALUE "
                "(gmsrm_jax/config/fields.py and gmsrm_jax/methods list them)"
            )
        *rooms, name = field.split(".")
        parent = functools.reduce(lambda room, key: room[key], rooms, config)
        before = parent[name]
        try:
            value = text if isinstance(before, str) else ast.literal_eval(text)
            parent[name] = tuple(value) if isinstance(before, tuple) else value
        except (ValueError, SyntaxError, TypeError) as error:
            raise UserError(
                f"--config.{change}: {text!r} is no {type(before).__name__}, which {field} is"
            ) from error
