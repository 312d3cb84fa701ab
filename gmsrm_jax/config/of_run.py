"""What a workdir was begun with: a run goes on with the same config and the same data only."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from gmsrm_jax.config.checks import check_config
from gmsrm_jax.config.fields import Evaluation, Run, base_config, flatten, sections, set_fields
from gmsrm_jax.methods import METHODS
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.log import say

_PICTURES = "training pictures"
# Of the shared fields, those that came later: how it was before.
_BEFORE = {"data.test_bounds": [0, 1 << 40]}


def check_config_of_run(config: ConfigDict, workdir: pathlib.Path, pictures: str | None) -> None:
    """Checks that a workdir was begun with this config and these pictures, if it was begun.

    Args:
        config: the run's config.
        workdir: its folder.
        pictures: `TrainingData.fingerprint`; None does not compare it.

    Raises:
        UserError: names the differing fields and both values.
    """
    path = _path(workdir)
    if not path.exists():
        return
    before = _read(path)
    if before["method"] in METHODS:
        before = _as_then(before["method"]) | before
    now = _fields(config, pictures if pictures is not None else before.get(_PICTURES))
    free = _free(config)
    changed = [
        f"{key} ({before.get(key)!r} then, {now.get(key)!r} now)"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key not in free
    ]
    if changed:
        raise UserError(
            f"{workdir} was begun with another config: {'; '.join(changed)}; "
            "use the same one to go on, or another --workdir"
        )


def config_of_run(workdir: pathlib.Path) -> ConfigDict:
    """Returns the config that a workdir was begun with, locked.

    Fields that it was begun without, by an earlier version, are as they were then, which is said.

    Raises:
        UserError: there is no config.json, or it has fields that are unknown here, or values that
            cannot be.
    """
    path = _path(workdir)
    fields = _read(path)
    if fields["method"] not in METHODS:
        raise UserError(
            f"{path}: the method {fields['method']!r} is unknown to this version of the program; "
            "use the one that wrote it"
        )
    config = base_config(fields["method"])
    known = _as_then(fields["method"])
    fields.pop(_PICTURES, None)
    unknown = ", ".join(sorted(fields.keys() - known.keys()))
    if unknown:
        raise UserError(
            f"{path}: holds fields of another version of the program ({unknown}); use that "
            "version, or train again"
        )
    new = ", ".join(sorted(known.keys() - fields.keys()))
    if new:
        say(f"{path}: from an earlier version, without {new}; they are taken as they were then")
    set_fields(config, known | fields)
    try:
        check_config(config)
    except UserError as error:
        raise UserError(f"{path}: {error}; train again, or undo what was changed there") from error
    return config.lock()


def remember_config(config: ConfigDict, workdir: pathlib.Path, pictures: str) -> None:
    """Writes config.json: every field, and the fingerprint of the training pictures."""
    write_atomically(_path(workdir), f"{_text(_fields(config, pictures))}\n".encode())


def config_text(config: ConfigDict) -> str:
    """Every field as config.json holds it."""
    return _text({k: v for k, v in _fields(config, None).items() if k != _PICTURES})


def config_sha256(config: ConfigDict) -> str:
    """SHA-256 (hex) of every field and its value."""
    return hashlib.sha256(json.dumps(_fields(config, None)).encode()).hexdigest()


def _text(fields: dict[str, Any]) -> str:
    return json.dumps(fields, indent=1, ensure_ascii=False)


def _path(workdir: pathlib.Path) -> pathlib.Path:
    return workdir / "config.json"


def _read(path: pathlib.Path) -> dict[str, Any]:
    """The fields of a config.json.

    Raises:
        UserError: it cannot be read, or is from before methods had names.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); name a workdir of a training, such as runs/demo"
        ) from error
    if not isinstance(fields, dict) or not isinstance(fields.get("method"), str):
        raise UserError(
            f"{path}: from a version of the program whose checkpoints this one does not read; make "
            "a folder of it with that version's `gmsrm export`, which is read here, or train again"
        )
    count = fields.pop("data.validation_count", None)  # of before there were shares
    return fields if count is None else {**fields, "data.validation_bounds": [count, count]}


def _as_then(method: str) -> dict[str, Any]:
    """Every field of a method as it was before it was a field, or with its default."""
    return {**flatten(base_config(method).to_dict()), **_BEFORE, **METHODS[method].before}


def _free(config: ConfigDict) -> set[str]:
    """Dotted names of the fields that may differ when a run goes on."""
    known = sections(config.method)
    own = {f"{name}.{field}" for name, section in known.items() for field in section.free()}
    return Run.free() | own | {f"evaluation.{field}" for field in Evaluation.model_fields}


def _fields(config: ConfigDict, pictures: str | None) -> dict[str, Any]:
    every = config.to_dict()
    own = sections(config.method)  # a card's config may have those of other methods, too
    kept = {k: v for k, v in every.items() if k in own or not isinstance(v, Mapping)}
    return {**flatten(kept), _PICTURES: pictures}
