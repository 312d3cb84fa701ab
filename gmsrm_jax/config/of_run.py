"""What a workdir was begun with: a run goes on with the same config and the same data only."""

import hashlib
import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from gmsrm_jax.config.fields import base_config, flatten
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.log import say

# Fields that may differ when a run goes on: they do not change what is learned, or only how a run
# gets past what stopped it.
_FREE = {
    "name",
    "log_every",
    "tensorboard",
    "data.num_threads",
    "data.test",
    "data.note",
    "data.max_bad_share",
    "max_skipped_updates",
    "data.tfds_dir",
}
_PICTURES = "training pictures"


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
    # Fields that an earlier version of the program had not are as their defaults are.
    before = flatten(base_config().to_dict()) | json.loads(path.read_text(encoding="utf-8"))
    now = _fields(config, pictures if pictures is not None else before.get(_PICTURES))
    changed = [
        f"{key} ({before.get(key)!r} then, {now.get(key)!r} now)"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
        and key not in _FREE
        and not key.startswith("evaluation.")
    ]
    if changed:
        raise UserError(
            f"{workdir} was begun with another config: {'; '.join(changed)}; "
            "use the same one to go on, or another --workdir"
        )


def config_of_run(workdir: pathlib.Path) -> ConfigDict:
    """Returns the config that a workdir was begun with, locked.

    Fields that it was begun without, by an earlier version, have their defaults, which is said.

    Raises:
        UserError: there is no config.json, or it has fields that are unknown here.
    """
    path = _path(workdir)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); name a workdir of a training, such as runs/demo"
        ) from error
    config = base_config()
    known = flatten(config.to_dict())
    fields.pop(_PICTURES, None)
    unknown = ", ".join(sorted(fields.keys() - known.keys()))
    if unknown:
        raise UserError(
            f"{path}: holds fields of another version of the program ({unknown}); use that "
            "version, or train again"
        )
    new = ", ".join(sorted(known.keys() - fields.keys()))
    if new:
        say(f"{path}: from an earlier version, without {new}; their defaults are taken")
    for key, value in fields.items():
        parent: Any = config
        *rooms, name = key.split(".")
        for room in rooms:
            parent = parent[room]
        parent[name] = tuple(value) if isinstance(parent[name], tuple) else value
    return config.lock()


def remember_config(config: ConfigDict, workdir: pathlib.Path, pictures: str) -> None:
    """Writes config.json: every field, and the fingerprint of the training pictures."""
    text = json.dumps(_fields(config, pictures), indent=1, ensure_ascii=False)
    write_atomically(_path(workdir), f"{text}\n".encode())


def config_sha256(config: ConfigDict) -> str:
    """SHA-256 (hex) of every field and its value."""
    return hashlib.sha256(json.dumps(_fields(config, None)).encode()).hexdigest()


def _path(workdir: pathlib.Path) -> pathlib.Path:
    return workdir / "config.json"


def _fields(config: ConfigDict, pictures: str | None) -> dict[str, Any]:
    return {**flatten(config.to_dict()), _PICTURES: pictures}
