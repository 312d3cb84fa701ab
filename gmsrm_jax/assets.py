"""Where the files that ship with the package lie: photographs, mask lists, VGG-19, weights."""

import importlib.resources
import pathlib

from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import user_path

BUNDLED = "bundled:"
_ROOT = pathlib.Path(str(importlib.resources.files("gmsrm_jax"))) / "assets"
# Folders of weights/; the first is the default of whoever fills holes.
BUNDLED_NETWORKS = ("photos-128", "facades-128")


def asset_path(relative: str) -> pathlib.Path:
    """Returns the path of a bundled file or folder, named relative to the assets folder.

    Raises:
        UserError: nothing of that name is bundled.
    """
    path = _ROOT / relative
    if not path.exists():
        have = ", ".join(sorted(p.relative_to(_ROOT).as_posix() for p in _ROOT.glob("*/*")))
        raise UserError(f"no bundled file {relative!r}; bundled are: {have}. Reinstall gmsrm-jax.")
    return path


def resolve_path(spec: str) -> pathlib.Path:
    """Returns the path that a config field names: a bundled one for "bundled:NAME"."""
    if spec.startswith(BUNDLED):
        return asset_path(spec.removeprefix(BUNDLED))
    return user_path(spec)
