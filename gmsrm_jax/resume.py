"""What a workdir was begun with: a run goes on with the same config and the same data only."""

import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from gmsrm_jax.configuration import flatten
from gmsrm_jax.errors import UserError
from gmsrm_jax.files import write_atomically

# Fields that may differ when a run goes on: they do not change what is learned.
_FREE = {
    "name",
    "log_every",
    "tensorboard",
    "data.num_threads",
    "data.test",
    "data.note",
    "data.max_bad_share",
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
    before = json.loads(path.read_text(encoding="utf-8"))
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


def remember_config(config: ConfigDict, workdir: pathlib.Path, pictures: str) -> None:
    """Writes config.json: every field, and the fingerprint of the training pictures."""
    text = json.dumps(_fields(config, pictures), indent=1, ensure_ascii=False)
    write_atomically(_path(workdir), f"{text}\n".encode())


def _path(workdir: pathlib.Path) -> pathlib.Path:
    return workdir / "config.json"


def _fields(config: ConfigDict, pictures: str | None) -> dict[str, Any]:
    return {**flatten(config.to_dict()), _PICTURES: pictures}
