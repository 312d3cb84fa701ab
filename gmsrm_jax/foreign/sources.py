"""Weights as other people publish them, to arrays by name; nothing in a file is executed."""

import importlib
import os
import pickle
import re
import warnings

import numpy as np

from gmsrm_jax.runtime.errors import UserError

_RESAVE = "load it with the program that wrote it and torch.save(model.state_dict(), FILE)"


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads what torch.save(module.state_dict(), path) wrote, by torch.load(weights_only=True).

    Returns:
        Arrays by name; floating point of any width as float32, the rest as it is.

    Raises:
        UserError: torch is not installed; or the file is missing or damaged, holds no dictionary of
            tensors, or something that torch does not read without running code.
    """
    try:
        torch = importlib.import_module("torch")
        # Before 2.6 weights_only let code through: CVE-2025-32434.
        if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
            raise ImportError
    except ImportError as error:
        raise UserError(
            f"{path}: PyTorch's files are read by torch 2.6 or newer; pip install"
            ' "gmsrm-jax[convert]"'
        ) from error
    # Torch's own words are not passed on: they advise to read the file by running what is in it.
    try:
        with warnings.catch_warnings(action="ignore"):
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise UserError(f"{path}: holds no dictionary of tensors; {_RESAVE}")
        return {
            name: (value.float() if value.is_floating_point() else value).numpy()
            for name, value in state.items()
            if isinstance(value, torch.Tensor)
        }
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UserError:
        raise
    except Exception as error:  # for damaged files it may be any
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and asked:
            raise UserError(
                f"{path}: asks to run {asked[1]!r}, which no dictionary of tensors needs; nothing"
                f" was run. If you trust the file, {_RESAVE}"
            ) from error
        if ".tar" in str(error):
            raise UserError(
                f"{path}: a .tar file of PyTorch before 0.1.10, which torch does not read without"
                f" running code; {_RESAVE}"
            ) from error
        raise UserError(f"{path}: damaged, or no file of PyTorch's; fetch it again") from error
