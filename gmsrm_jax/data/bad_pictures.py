"""Pictures that had to be left out: named, counted, and an error when there are too many."""

import os
import re
from collections.abc import Callable, Sequence

from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.log import say

_NAMED = 3  # in an error; `gmsrm data` names all
_NAMED_ALONE = 5  # without reasons
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # end a line, or command a terminal


def printable(text: str) -> str:
    """Returns a text that can be written anywhere: names need not be UTF-8, nor of one line."""
    encodable = os.fsencode(text).decode("utf-8", "backslashreplace")
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), encodable)


def named(paths: Sequence[str | os.PathLike[str]]) -> str:
    """Returns the first of some names and the number of the others, on one line."""
    shown = ", ".join(printable(os.fspath(path)) for path in paths[:_NAMED_ALONE])
    more = len(paths) - _NAMED_ALONE
    return shown + (f" and {more} more" if more > 0 else "")


class BadPictures:
    """What was left out of a set of pictures.

    Attributes:
        location: where the pictures are, for messages.
        listed: number of pictures found there, the bad ones counted in.
        names: name and reason of those left out.
    """

    def __init__(
        self, location: str, listed: int, max_share: float, found: dict[str, str] | None = None
    ) -> None:
        """Starts with those already found.

        Args:
            location: where the pictures are.
            listed: number of pictures found there.
            max_share: config.data.max_bad_share, the share that may be left out.
            found: name and reason of those whose headers are bad.

        Raises:
            UserError: more than the allowed share are left out, or all.
        """
        self.location = location
        self.listed = listed
        self.names = dict(found or {})
        self._max_share = max_share
        self._unshared: dict[str, str] = {}
        if len(self.names) == listed:
            raise UserError(
                printable(
                    f"{location}: none of {count_of(listed, 'picture')} can be used "
                    f"({self._first()}); repair them, or name others"
                )
            )
        self._check()

    def add(self, name: str, reason: str) -> None:
        """Leaves a picture out and says so; does nothing the second time."""
        if name not in self.names:
            self.names[name] = self._unshared[name] = reason
            say(self._line(name))

    def share(self, gather: Callable[[dict[str, str]], list[dict[str, str]]]) -> None:
        """Adds what other processes left out, and judges the share: all end, or none does.

        Args:
            gather: `processes.gather`; all processes call this at the same step, as each has read
                its own part of the pictures.

        Raises:
            UserError: more than the allowed share are left out by all of them together.
        """
        for found in gather(self._unshared):
            for name, reason in found.items():
                self.add(name, reason)
        self._unshared = {}
        self._check()

    def say_all(self, most: int | None = None) -> None:
        """Names everything left out so far, or `most` of it and the number of the others."""
        for name in list(self.names)[:most]:
            say(self._line(name))
        if most is not None and len(self.names) > most:
            say(f"and {len(self.names) - most} more; `gmsrm data` lists all")

    def _line(self, name: str) -> str:
        place = list(self.names).index(name) + 1
        reason = self.names[name]
        return printable(f"left out {name}: {reason} ({place} of {self.listed} in {self.location})")

    def _first(self) -> str:
        """The first names with their reasons, and the number of the others."""
        first = "; ".join(f"{name}: {why}" for name, why in list(self.names.items())[:_NAMED])
        more = len(self.names) - _NAMED
        return first + (f"; and {more} more" if more > 0 else "")

    def _check(self) -> None:
        count = len(self.names)
        if count > self._max_share * self.listed:
            message = (
                f"{self.location}: {count} of {count_of(self.listed, 'picture')} cannot be used "
                f"({self._first()}), more than data.max_bad_share = {self._max_share:g} allows; "
                "`gmsrm data` lists all; repair or remove them, or raise "
                "--config.data.max_bad_share"
            )
            raise UserError(printable(message))
