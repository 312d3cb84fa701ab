"""Exported networks on the Hugging Face Hub, by way of its own package, which is optional."""

import importlib
import pathlib
import re

from gmsrm_jax.networks.folder import EXPORTED_FILES
from gmsrm_jax.runtime.errors import UserError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


def is_hub_id(name: str) -> bool:
    """Whether a name has the form org/name or org/name@revision."""
    return _ID.fullmatch(name) is not None


def fetch_from_hub(name: str, offline: bool) -> pathlib.Path:
    """Fetches the four files of an exported network, or finds them in the Hub's own cache.

    Args:
        name: org/name, of a model; @revision (a branch, tag or commit) may follow.
        offline: look at the cache only.

    Returns:
        The folder with the files.

    Raises:
        UserError: huggingface_hub is missing, or the files cannot be had.
    """
    try:
        hub = importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        raise UserError(
            f"no folder {name}; if it is meant as an id of the Hugging Face Hub, "
            "pip install huggingface_hub"
        ) from error
    repository, _, revision = name.partition("@")
    try:
        folder = hub.snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=list(EXPORTED_FILES),
            local_files_only=offline,
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        where = "is not in the Hub's cache" if offline else "cannot be had from the Hub"
        raise UserError(
            f"{name}: no such folder here, and it {where} ({reason}); check the name"
            + (", or fetch it once without --offline" if offline else " and the connection")
        ) from error
    return pathlib.Path(folder)
