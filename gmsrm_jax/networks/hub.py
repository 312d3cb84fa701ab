"""Exported networks on the Hugging Face Hub, by way of its own package and its own cache."""

import os
import pathlib
import re

from gmsrm_jax.networks.folder import EXPORTED_FILES
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.sha256sums import SUMS_FILE, one_line

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
    except errors.GatedRepoError as error:
        raise UserError(
            f"{name}: whoever uploaded it asks for consent first; give it on "
            f"https://huggingface.co/{repository}, then log in with `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{name}: no such folder here, and no such model on the Hub, or a private one; check "
            "the name, or log in with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f"{name}: the model on the Hub has no revision {revision}; name a branch, tag or "
            "commit of it behind the @"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        if offline:
            raise UserError(
                f"{name}: no such folder here, and it is not whole in the Hub's cache; fetch it "
                f"once without --offline, {' and '.join(_OFFLINE)}"
            ) from error
        raise _unreachable(name, error) from error
    except errors.HFValidationError as error:
        raise UserError(
            f"{name}: is no id of the Hub ({one_line(error)}); write org/name or org/name@revision"
        ) from error
    # HTTPError is what the package's HTTP client raises, which is another one in other versions.
    except (errors.HTTPError, errors.XetDownloadError) as error:
        raise _unreachable(name, error) from error
    except OSError as error:
        raise UserError(
            f"{name}: cannot be kept in the Hub's cache ({one_line(error)}); make room there, or "
            "let HF_HOME name another folder"
        ) from error
    if not (folder / SUMS_FILE).is_file():
        raise UserError(
            f"{name}: the model on the Hub has no {SUMS_FILE}, so it is none that `gmsrm export` "
            "wrote; check the name"
        )
    return folder


def _unreachable(name: str, error: Exception) -> UserError:
    return UserError(
        f"{name}: no such folder here, and the Hub did not give it "
        f"({one_line(error.__cause__ or error)}); check the connection, then run this again"
    )
