"""Exported networks on the Hugging Face Hub, by way of its own package and its own cache."""

import os
import pathlib
import re

from gmsrm_jax.networks.folder import EXPORTED_FILES
from gmsrm_jax.runtime.errors import UserError, one_line
from gmsrm_jax.runtime.sha256sums import SUMS_FILE

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_OFFLINE = ("GMSRM_OFFLINE", "HF_HUB_OFFLINE")


def is_hub_id(name: str) -> bool:
    """Whether a name has the form org/name or org/name@revision."""
    return _ID.fullmatch(name) is not None


def fetch_from_hub(name: str, offline: bool) -> pathlib.Path:
    """Fetches the four files of an exported network, or finds them in the Hub's own cache.

    A download that was interrupted goes on where it ended. Where the Hub cannot be reached, its
    package takes what it fetched before of this revision.

    Args:
        name: org/name, of a model; @revision (a branch, tag or commit) may follow.
        offline: look at the cache only; also by GMSRM_OFFLINE=1 and HF_HUB_OFFLINE=1.

    Returns:
        The folder with the files.

    Raises:
        UserError: the files cannot be had; the line says why, and what to do.
    """
    # Here, for it takes a third of a second, and folders and the bundled weights do without.
    import huggingface_hub
    from huggingface_hub import errors

    offline = offline or any(
        os.environ.get(key, "").lower() in ("1", "true", "yes", "on") for key in _OFFLINE
    )
    repository, _, revision = name.partition("@")
    try:
        folder = pathlib.Path(
            huggingface_hub.snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=list(EXPORTED_FILES),
                local_files_only=offline,
            )
        )
    # HTTPError is what the package's HTTP client raises, which is another one in other versions.
    except (OSError, errors.HTTPError, errors.XetDownloadError, errors.HFValidationError) as error:
        cure = "check the connection, then run this again"
        unknown = errors.RepositoryNotFoundError | errors.RevisionNotFoundError
        if isinstance(error, errors.GatedRepoError):
            cure = (
                f"give your consent on https://huggingface.co/{repository}, then log in with "
                "`hf auth login`"
            )
        elif isinstance(error, unknown | errors.HFValidationError):
            cure = "check the name, org/name or org/name@revision, or log in with `hf auth login`"
        elif isinstance(error, errors.LocalEntryNotFoundError):
            if offline:
                cure = f"fetch it once without --offline, {' and '.join(_OFFLINE)}"
        elif not isinstance(error, errors.HTTPError | errors.XetDownloadError):
            cure = "make room in the Hub's cache, or let HF_HOME name another folder"
        reason = one_line(error.__cause__ or error)
        raise UserError(
            f"{name}: no such folder here, and the Hub did not give it ({reason}); {cure}"
        ) from error
    if not (folder / SUMS_FILE).is_file():
        raise UserError(
            f"{name}: the model on the Hub has no {SUMS_FILE}, so it is none that `gmsrm export` "
            "wrote; check the name"
        )
    return folder
