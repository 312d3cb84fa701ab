"""Finished parts of an evaluation on disk, so that one that was stopped goes on where it was.

Several programs may work on one evaluation: what they write under a number is the same.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gmsrm_jax.runtime.files import replacing
from gmsrm_jax.runtime.unreadable import UNREADABLE_NPZ


class Parts:
    """Numbered parts, each a dict of arrays, that belong to one evaluation."""

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        """Prepares for the parts of one key; those of others are not seen.

        Args:
            folder: for the parts of every key.
            key: what the arrays depend on, as JSON values.
        """
        self._folder = folder
        text = json.dumps(key, sort_keys=True, ensure_ascii=False)
        self._key = hashlib.sha256(text.encode()).hexdigest()[:32]

    def load(self, number: int) -> dict[str, np.ndarray] | None:
        """Returns a part, None if it is not finished."""
        if not self._path(number).exists():
            return None
        try:
            with np.load(self._path(number), allow_pickle=False) as file:
                return dict(file)
        except UNREADABLE_NPZ:
            return None  # it is computed again

    def save(self, number: int, arrays: Mapping[str, Any]) -> None:
        """Keeps a finished part."""
        with replacing(self._path(number)) as temporary, temporary.open("wb") as file:
            np.savez(file, **dict(arrays))

    def clear(self) -> None:
        """Removes the parts of every key, when the outcome is written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self._folder / self._key / f"{number:06d}.npz"
