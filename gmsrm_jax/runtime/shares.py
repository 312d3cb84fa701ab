"""Shares of a work that programs on their own do, each one of them: a third, or an array's task."""

import dataclasses
import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping

from gmsrm_jax.runtime.errors import UserError

_TASK, _FIRST, _TASKS = "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT"
_MOST = 1_000_000
_STEP, _POD = "SLURM_ARRAY_TASK_STEP", "JOB_COMPLETION_INDEX"


@dataclasses.dataclass(frozen=True)
class Share:
    """One of `count` shares, number `index` from 0; as text "3/8"."""

    index: int
    count: int

    def __str__(self) -> str:
        """As --shard takes it."""
        return f"{self.index}/{self.count}"

    def has(self, number: int) -> bool:
        """Whether a numbered piece is in this share: every `count`-th is."""
        return number % self.count == self.index

    def has_name(self, name: str) -> bool:
        """Whether what is called so is in this share; what else there is does not matter.

        Decided by the SHA-256 of the name in composed Unicode.
        """
        digest = hashlib.sha256(os.fsencode(unicodedata.normalize("NFC", name))).digest()
        return self.has(int.from_bytes(digest[:8]))


@dataclasses.dataclass(frozen=True)
class Join:
    """What `count` shares did, to be put together."""

    count: int


def read_share(text: str, environment: Mapping[str, str] = os.environ) -> Share:
    """Reads "I/N"; "auto", or "auto/N", takes the place in a job array from the environment.

    The index is that of a SLURM array's task or of an indexed Kubernetes job. "auto" takes the
    number of shares from the SLURM array, and counts its tasks from 0; with "auto/N" there may be
    fewer tasks, for shares that are done again, and their numbers are those of the shares.

    Raises:
        UserError: it is none of these, or the environment does not say which share.
    """
    found = re.fullmatch(r"(auto|\d+)(?:/(\d+))?", text)
    if not found or (found[1] != "auto" and found[2] is None) or found[2] == "0":
        raise UserError(f"--shard {text}: write I/N, such as 0/8 to 7/8, or auto or auto/N")
    if found[1] != "auto":
        share = Share(int(found[1]), int(found[2]))
    elif found[2] is None:
        share = _place_in_array(text, environment)
    else:
        share = Share(_index(text, environment), int(found[2]))
    if share.count > _MOST:
        raise UserError(f"--shard {text}: {share.count} shares; give at most {_MOST}")
    if share.index >= share.count:
        where = f"--shard {text}" + (f" is {share} here" if found[1] == "auto" else "")
        raise UserError(
            f"{where}: {share.count} shares are numbered from 0 to {share.count - 1}; take one of "
            "these"
        )
    return share


def _place_in_array(text: str, environment: Mapping[str, str]) -> Share:
    index = _index(text, environment)
    if _TASK not in environment:
        raise UserError(f"--shard {text}: {_POD} is set, but no number of shares; write auto/N")
    first, count, step = (_whole(name, environment) for name in (_FIRST, _TASKS, _STEP))
    if count == 1:
        raise UserError(
            f"--shard {text}: {_TASKS} = 1, an array of one task, does not say how many shares "
            "there are; write auto/N"
        )
    return Share((index - first) // max(step, 1), count)


def _index(text: str, environment: Mapping[str, str]) -> int:
    for name in (_TASK, _POD):
        if name in environment:
            return _whole(name, environment)
    raise UserError(
        f"--shard {text}: neither {_TASK} nor {_POD} is set here; start it as a job array, or "
        "write I/N"
    )


def _whole(name: str, environment: Mapping[str, str]) -> int:
    value = environment.get(name, "1" if name == _STEP else "")
    if not value.isdecimal():
        raise UserError(f"{name} = {value!r}; it has to be a whole number")
    return int(value)
