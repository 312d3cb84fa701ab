"""Checks of a run's config: every field by its section, and what no single field shows."""

from ml_collections import ConfigDict

from gmsrm_jax.config.fields import Run, sections
from gmsrm_jax.methods import METHODS
from gmsrm_jax.runtime.errors import UserError


def check_config(config: ConfigDict) -> None:
    """Checks the values that fields can be given.

    Raises:
        UserError: names the field, its value and what it can be.
    """
    fields = config.to_dict()
    own = {name: value for name, value in fields.items() if not isinstance(value, dict)}
    run = Run.checked(own, "config.")
    method = METHODS[run.method]
    if run.variant not in (method.variants or ("",)):
        known = ", ".join(method.variants) or "'', for it has none"
        raise UserError(
            f"config.variant = {run.variant!r}; of the method {run.method} use one of: {known}"
        )
    known_sections = sections(run.method)
    missing = sorted(known_sections.keys() - fields.keys())
    if missing:
        raise UserError(
            f"config.method = {run.method!r} needs the section {missing[0]}; choose the method "
            f"behind the config's file, --config=FILE.py:{run.method}, not by --config.method"
        )
    for name, section in known_sections.items():
        section.checked(fields[name], f"config.{name}.")
    foreign = fields.keys() - own.keys() - known_sections.keys()
    # A card's config before its argument is applied has the sections of every method.
    if foreign - sections().keys():
        raise UserError(f"config.{min(foreign - sections().keys())}: no such section")
    _check_shared(config)
    method.check(config)


def _check_shared(config: ConfigDict) -> None:
    """What the shared fields must have in common."""
    if config.batch_size % config.accumulation:
        raise UserError(
            f"config.batch_size = {config.batch_size} is not a multiple of config.accumulation = "
            f"{config.accumulation}; change either"
        )
    masks = config.evaluation.masks
    if config.evaluation.invert_masks and (
        masks in ("generated", "bundled") or masks.endswith(".npz")
    ):
        raise UserError(
            f"config.evaluation.invert_masks = True is for a folder of masks, but "
            f"config.evaluation.masks = {masks!r}; set it to False"
        )
    low, high = config.data.scale
    if not 1.0 <= low <= high:
        raise UserError(
            f"config.data.scale = {tuple(config.data.scale)}; use two factors from 1, the smaller "
            "one first"
        )
