"""The votes of a study in one SQLite file, with what the votes are about.

A vote is a ranking of all methods on one sample by one participant, at the first or second sight.
Every vote is a row for ever; of several about the same the latest counts (view `latest`).
"""

import contextlib
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.study.presentation import Presentation, Turn

FILE_NAME = "study.sqlite"
_VERSION = 2
_BUSY_SECONDS = 10.0
# Rankings are JSON lists of methods, the best first, and as shown on the screen.
_SCHEMA = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE votes (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, participant"
    " TEXT NOT NULL, sample TEXT NOT NULL, again INTEGER NOT NULL, ranking TEXT NOT NULL,"
    " shown TEXT NOT NULL)",
    "CREATE INDEX votes_of ON votes (participant, sample, again)",
    "CREATE VIEW latest AS SELECT * FROM votes"
    " WHERE id IN (SELECT max(id) FROM votes GROUP BY participant, sample, again)",
    f"PRAGMA user_version = {_VERSION}",
)


class NotStored(Exception):
    """A vote that could not be written; the message says why."""


class Vote(NamedTuple):
    """One participant's ranking of one sample.

    Attributes:
        participant: random id.
        sample: name.
        ranking: methods, the best first.
        shown: the same methods in their order on the screen.
        again: whether it is of the second time that the sample was shown.
    """

    participant: str
    sample: str
    ranking: tuple[str, ...]
    shown: tuple[str, ...]
    again: bool = False

    @property
    def turn(self) -> Turn:
        """What was ranked."""
        return Turn(self.sample, self.again)


class Receipt(NamedTuple):
    """What a stored vote was.

    Attributes:
        votes: votes that count, with this one.
        participants: people who voted.
        changed: it takes the place of an earlier one.
    """

    votes: int
    participants: int
    changed: bool


class Votes:
    """An open study file. Its methods may be called from several threads at once.

    Attributes:
        path: the file.
        methods: names of the methods, in the order they were given.
        samples: names of the samples, sorted.
        study: random id of the study.
    """

    def __init__(self, path: Path, presentation: Presentation | None = None) -> None:
        """Opens a study.

        Args:
            path: the file.
            presentation: what it is of; it is started if there is none yet. None: of one that
                exists, whatever it is of.

        Raises:
            UserError: there is none, the file is of other methods, pictures or another seed, is no
                study, or cannot be opened.
        """
        self.path = path
        self._lock = threading.Lock()
        if presentation is None and not path.is_file():
            raise UserError(f"{path}: there is no such study; give the --out of one")
        with contextlib.ExitStack() as failing:
            with self._reading():
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = sqlite3.connect(
                    path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
                )
                failing.callback(self._file.close)
                self._file.execute("PRAGMA synchronous = FULL")
                if presentation is not None:
                    self._start(presentation)
                if self._one("PRAGMA user_version") != _VERSION:
                    raise UserError(f"{path}: not a study of this version; give another --out")
                self.methods = tuple(json.loads(self._fact("methods")))
                self.samples = tuple(json.loads(self._fact("samples")))
                self.study = self._fact("study")
                difference = presentation and self._difference(presentation)
            if difference:
                raise UserError(
                    f"{path}: {difference}; give what the study was started with, or another --out"
                )
            failing.pop_all()

    def add(self, vote: Vote) -> Receipt:
        """Stores a vote; when this returns, it is on the disk.

        Raises:
            NotStored: the file is closed, or cannot be written.
            ValueError: ranking or shown are not the study's methods, each once.
        """
        methods = sorted(self.methods)
        if sorted(vote.ranking) != methods or sorted(vote.shown) != methods:
            raise ValueError(f"{vote} does not rank {self.methods}")
        about = (vote.participant, vote.sample, vote.again)
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            with self._lock, self._transaction():
                changed = self._one(
                    "SELECT count(*) FROM votes WHERE (participant, sample, again) = (?, ?, ?)",
                    *about,
                )
                self._file.execute(
                    "INSERT INTO votes (time, participant, sample, again, ranking, shown)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (time, *about, json.dumps(vote.ranking), json.dumps(vote.shown)),
                )
                votes = self._one("SELECT count(*) FROM latest")
                people = self._one("SELECT count(DISTINCT participant) FROM latest")
        except sqlite3.Error as error:
            raise NotStored(str(error)) from error
        return Receipt(votes, people, bool(changed))

    def latest(self, participant: str | None = None) -> list[Vote]:
        """Returns the votes that count, of one participant or of all, the oldest first."""
        with self._reading():
            rows = self._file.execute(
                "SELECT participant, sample, ranking, shown, again FROM latest"
                " WHERE coalesce(participant = ?, true) ORDER BY id",
                (participant,),
            ).fetchall()
        return [
            Vote(person, name, tuple(json.loads(ranking)), tuple(json.loads(shown)), bool(again))
            for person, name, ranking, shown, again in rows
        ]

    def replaced(self) -> int:
        """Returns the number of votes that a later one of the same participant replaced."""
        with self._reading():
            return self._one("SELECT (SELECT count(*) FROM votes) - count(*) FROM latest")

    def token(self) -> str:
        """Returns the study's secret for addresses that others reach."""
        with self._reading():
            return self._fact("token")

    def close(self) -> None:
        """Closes the file, after a vote that is being stored."""
        with self._lock:
            self._file.close()

    def _start(self, presentation: Presentation) -> None:
        """Writes what the study is of into a file that holds nothing yet."""
        with self._transaction():
            if self._one("SELECT count(*) FROM sqlite_master"):
                return
            for statement in _SCHEMA:
                self._file.execute(statement)
            facts = {
                "study": secrets.token_hex(8),
                "token": secrets.token_urlsafe(16),
                "methods": json.dumps(presentation.methods),
                "samples": json.dumps(sorted(presentation.samples)),
                "given": json.dumps(_given(presentation)),
            }
            self._file.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())

    def _difference(self, presentation: Presentation) -> str:
        """Returns the first thing that was given to the stored study or is now, but not to both."""
        before, now = json.loads(self._fact("given")), _given(presentation)
        for name in before | now:
            if name not in now:
                return f"started with {name}, which is not given now"
            if name not in before:
                return f"started without {name}, which is given now"
            if before[name] != now[name]:
                return f"{name} has changed since"
        return ""

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Holds the lock, and says what cannot be read."""
        try:
            with self._lock:
                yield
        except (sqlite3.Error, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"{self.path}: cannot be opened as a study ({reason}); give another --out"
            ) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._file.execute("BEGIN IMMEDIATE")
        with self._file:  # commits, or rolls back
            yield

    def _one(self, query: str, *values: object) -> int:
        return self._file.execute(query, values).fetchone()[0]

    def _fact(self, name: str) -> str:
        query = "SELECT value FROM facts WHERE name = ?"
        return str(self._file.execute(query, (name,)).fetchone()[0])


def _given(presentation: Presentation) -> dict[str, str]:
    """All that a study is of, in words; pictures with their SHA-256."""
    return {
        f"--seed={presentation.seed}": "",
        **{f"method {method}": "" for method in presentation.methods},
        **{f"sample {name!r}": "" for name in presentation.samples},
        **{
            f"the picture of {name!r} by {method}" if method else f"--input of {name!r}": p.sha256
            for name, sample in presentation.samples.items()
            for method, p in sample.pictures.items()
        },
    }
