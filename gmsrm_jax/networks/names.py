"""From what a person calls a trained network to the network: every source there is."""

import os
import pathlib
import sys

from gmsrm_jax.assets import BUNDLED_NETWORKS, asset_path
from gmsrm_jax.networks.folder import Pretrained, read_folder
from gmsrm_jax.networks.hub import fetch_from_hub, is_hub_id
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import user_path
from gmsrm_jax.runtime.sha256sums import SUMS_FILE

_REINSTALL = "reinstall gmsrm-jax"


def load_pretrained(
    name_or_path: str | os.PathLike[str] | None = None, offline: bool = False
) -> Pretrained:
    """Loads a trained network; nothing that it reads is executed.

    Args:
        name_or_path: one of
            "photos-128" or "facades-128": a bundled network, also where a folder is called so
                (that one is "./facades-128"); None is the first;
            a folder that `gmsrm export` or `save_pretrained` wrote;
            a workdir of a training: averaged weights of its newest good checkpoint;
            "org/name" or "org/name@revision": such a folder on the Hugging Face Hub.
        offline: never use the net, only what was fetched before; also by GMSRM_OFFLINE=1 and
            HF_HUB_OFFLINE=1.

    Raises:
        UserError: there is no such network, or a file of it is missing, damaged or foreign.
    """
    if name_or_path is not None and not isinstance(name_or_path, str | os.PathLike):
        raise UserError(f"name_or_path: {name_or_path!r}; give a name or the path of a folder")
    name = BUNDLED_NETWORKS[0] if name_or_path is None else os.fspath(name_or_path)
    if name in BUNDLED_NETWORKS:
        if name_or_path is not None and pathlib.Path(name).exists():
            # Said aloud: the name is also that of an export that somebody made here.
            print(
                f"gmsrm: {name} is a bundled network; for the folder here write ./{name}",
                file=sys.stderr,
            )
        return read_folder(asset_path(f"weights/{name}"), name, _REINSTALL)
    if "://" in name:
        raise UserError(
            f"{name}: networks are not fetched from an address; give org/name of the Hugging Face "
            "Hub, or the folder once it is downloaded"
        )
    folder = user_path(name, "checkpoint")
    if folder.exists() or not is_hub_id(name):
        return _load_folder(folder)
    # Said aloud: a mistyped path that has one slash looks like somebody's weights on the Hub.
    print(
        f"gmsrm: no folder {name} here; taking it for an id of the Hugging Face Hub",
        file=sys.stderr,
    )
    folder = fetch_from_hub(name, offline)
    # ROOT/snapshots/REVISION holds links to ROOT/blobs; without these, nothing is fetched anew.
    root = folder.parent.parent
    return read_folder(folder, name, f"remove {root} to fetch it again, or tell who uploaded it")


def _load_folder(folder: pathlib.Path) -> Pretrained:
    if (folder / SUMS_FILE).is_file():
        return read_folder(folder, str(folder), "export or copy it again")
    if is_workdir(folder):
        from gmsrm_jax.networks.workdir import read_workdir

        return read_workdir(folder)
    if not folder.exists():
        raise UserError(
            f"{folder}: there is no such folder; name one that `gmsrm export` wrote, a workdir of "
            f"a training, org/name of the Hugging Face Hub, or {' or '.join(BUNDLED_NETWORKS)}"
        )
    what = f"a folder without {SUMS_FILE}" if folder.is_dir() else "a file"
    raise UserError(
        f"{folder}: is {what}, and no workdir of a training; name a folder that "
        "`gmsrm export` wrote or a workdir of a training"
    )


def is_workdir(folder: pathlib.Path) -> bool:
    """Whether a stage of a training was begun in this folder."""
    return (folder / "config.json").is_file() and any(folder.glob("*/checkpoints"))
