"""The votes of a study in one SQLite file, with what the votes are about.

A vote is a ranking of all methods on one sample by one participant. Every vote is a row for ever;
of several by one participant on one sample the latest counts (view `latest`).
"""

import contextlib
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.study.presentation import Presentation
from gmsrm_jax.study.samples import named

FILE_NAME = "study.sqlite"
_APPLICATION_ID = 0x474D5352  # "GMSR", in the header of the file
_VERSION = 1
_BUSY_SECONDS = 10.0
_SCHEMA = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE methods (position INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL)",
    "CREATE TABLE pictures (sample TEXT NOT NULL, kind TEXT NOT NULL, method TEXT NOT NULL,"
    " sha256 TEXT NOT NULL, PRIMARY KEY (sample, kind, method))",
    "CREATE TABLE votes (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL,"
    " participant TEXT NOT NULL, sample TEXT NOT NULL)",
    "CREATE INDEX votes_of ON votes (participant, sample)",
    "CREATE TABLE ranks (vote INTEGER NOT NULL REFERENCES votes (id), method TEXT NOT NULL,"
    " rank INTEGER NOT NULL, screen INTEGER NOT NULL, PRIMARY KEY (vote, method),"
    " UNIQUE (vote, rank), UNIQUE (vote, screen))",
    "CREATE VIEW latest AS"
    " SELECT * FROM votes WHERE id IN (SELECT max(id) FROM votes GROUP BY participant, sample)",
)


class NotStored(Exception):
    """A vote that could not be written; the message says why."""


@dataclass(frozen=True)
class Vote:
    """One participant's ranking of one sample.

    Attributes:
        participant: random id.
        sample: name.
        ranking: methods, the best first.
        shown: the same methods in their order on the screen.
    """

    participant: str
    sample: str
    ranking: tuple[str, ...]
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Receipt:
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

    def __init__(self, path: Path) -> None:
        """Opens a study that exists.

        Raises:
            UserError: there is none, or the file is something else.
        """
        self.path = path
        if not path.is_file():
            raise UserError(f"{path}: there is no such study; give the --out of one")
        self._lock = threading.Lock()
        try:
            self._connection = _connect(path)
        except sqlite3.Error as error:
            raise _unreadable(path, error) from error
        with self._reading(close=True):
            if _kind(self._connection) != (_APPLICATION_ID, _VERSION):
                raise UserError(f"{path}: not a study of this version; give another --out")
            self.methods = tuple(self._column("SELECT name FROM methods ORDER BY position"))
            self.samples = tuple(self._column("SELECT DISTINCT sample FROM pictures ORDER BY 1"))
            self.study = self._fact("study")

    @classmethod
    def open(cls, path: Path, presentation: Presentation) -> "Votes":
        """Opens the study of these pictures, and starts it if there is none yet.

        Raises:
            UserError: the file is of other methods, pictures or another seed, is no study, or
                cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _create(path, presentation)
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{path}: cannot be opened ({reason}); change --out") from error
        votes = cls(path)
        with votes._reading(close=True):
            votes._check(presentation)
        return votes

    def add(self, vote: Vote) -> Receipt:
        """Stores a vote; when this returns, it is on the disk.

        Raises:
            NotStored: the file is closed, or cannot be written.
            ValueError: ranking or shown are not the study's methods, each once.
        """
        methods = sorted(self.methods)
        if sorted(vote.ranking) != methods or sorted(vote.shown) != methods:
            raise ValueError(f"{vote} does not rank {self.methods}")
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        who_and_what = (vote.participant, vote.sample)
        try:
            with self._lock, _transaction(self._connection) as write:
                found = write.execute(
                    "SELECT 1 FROM votes WHERE participant = ? AND sample = ?", who_and_what
                )
                changed = found.fetchone() is not None
                row = write.execute(
                    "INSERT INTO votes (time, participant, sample) VALUES (?, ?, ?)",
                    (time, *who_and_what),
                ).lastrowid
                write.executemany(
                    "INSERT INTO ranks (vote, method, rank, screen) VALUES (?, ?, ?, ?)",
                    [
                        (row, method, rank, vote.shown.index(method) + 1)
                        for rank, method in enumerate(vote.ranking, start=1)
                    ],
                )
                votes, participants = write.execute(
                    "SELECT count(*), count(DISTINCT participant) FROM latest"
                ).fetchone()
        except sqlite3.Error as error:
            raise NotStored(str(error)) from error
        return Receipt(votes, participants, changed)

    def latest(self, participant: str | None = None) -> list[Vote]:
        """Returns the votes that count, of one participant or of all, the oldest first."""
        where, values = (
            ("", ()) if participant is None else ("WHERE participant = ?", [participant])
        )
        with self._reading():
            rows = self._connection.execute(
                "SELECT latest.id, participant, sample, method, screen FROM latest"
                f" JOIN ranks ON ranks.vote = latest.id {where} ORDER BY latest.id, rank",
                values,
            ).fetchall()
        size = len(self.methods)
        votes = []
        for start in range(0, len(rows), size):
            ballot = rows[start : start + size]
            shown = [method for *_, method, _ in sorted(ballot, key=lambda row: row[-1])]
            _, voter, sample, *_ = ballot[0]
            votes.append(Vote(voter, sample, tuple(row[3] for row in ballot), tuple(shown)))
        return votes

    def replaced(self) -> int:
        """Returns the number of votes that a later one of the same participant replaced."""
        with self._reading():
            query = "SELECT (SELECT count(*) FROM votes) - (SELECT count(*) FROM latest)"
            return int(self._connection.execute(query).fetchone()[0])

    def token(self) -> str:
        """Returns the study's secret for addresses that others reach, made on the first call."""
        with self._lock, _transaction(self._connection) as write:
            write.execute(
                "INSERT OR IGNORE INTO facts VALUES ('token', ?)", (secrets.token_urlsafe(16),)
            )
            return self._fact("token")

    def close(self) -> None:
        """Closes the file, after a vote that is being stored."""
        with self._lock:
            self._connection.close()

    def _check(self, presentation: Presentation) -> None:
        """Refuses a study of something else, and says what differs."""
        seed = self._fact("seed")
        rows = self._connection.execute("SELECT sample, kind, method, sha256 FROM pictures")
        before = {(sample, kind, method): digest for sample, kind, method, digest in rows}
        difference = _difference(self.methods, before, presentation)
        if difference:
            raise UserError(
                f"{self.path}: {difference}; give what the study was started with, or another --out"
            )
        if seed != str(presentation.seed):
            raise UserError(
                f"{self.path}: started with --seed={seed}, not {presentation.seed}; give that seed,"
                " or another --out"
            )

    @contextlib.contextmanager
    def _reading(self, close: bool = False) -> Iterator[None]:
        """Holds the lock, and says what cannot be read; `close` closes the file after an error."""
        try:
            with self._lock:
                yield
        except (sqlite3.Error, UserError) as error:
            if close:
                self.close()
            if isinstance(error, UserError):
                raise
            raise _unreadable(self.path, error) from error

    def _column(self, query: str) -> list[str]:
        return [row[0] for row in self._connection.execute(query)]

    def _fact(self, name: str) -> str:
        query = "SELECT value FROM facts WHERE name = ?"
        return str(self._connection.execute(query, (name,)).fetchone()[0])


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are begun by hand, and one lock serves all threads.
    connection = sqlite3.connect(
        os.fspath(path), timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _unreadable(path: Path, error: sqlite3.Error) -> UserError:
    return UserError(f"{path}: cannot be read as a study ({error}); give another --out")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _kind(connection: sqlite3.Connection) -> tuple[int, int]:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    return application, connection.execute("PRAGMA user_version").fetchone()[0]


def _create(path: Path, presentation: Presentation) -> None:
    """Writes tables and pictures into a file that holds nothing yet, in one transaction."""
    connection = _connect(path)
    try:
        with _transaction(connection) as write:
            if write.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return
            for statement in _SCHEMA:
                write.execute(statement)
            facts = {"study": secrets.token_hex(8), "seed": str(presentation.seed)}
            write.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
            write.executemany("INSERT INTO methods VALUES (?, ?)", enumerate(presentation.methods))
            write.executemany(
                "INSERT INTO pictures VALUES (?, ?, ?, ?)",
                [(*key, digest) for key, digest in _digests(presentation).items()],
            )
            write.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            write.execute(f"PRAGMA user_version = {_VERSION}")
    finally:
        connection.close()


def _digests(presentation: Presentation) -> dict[tuple[str, str, str], str]:
    return {
        (name, kind, method): picture.sha256
        for name, sample in presentation.samples.items()
        for (kind, method), picture in sample.pictures().items()
    }


def _difference(
    methods: Sequence[str], before: Mapping[tuple[str, str, str], str], now: Presentation
) -> str:
    """Returns the first kind of difference between a stored study and this one, "" if none."""
    if set(methods) != set(now.methods):
        return f"started with the methods {', '.join(methods)}, not {', '.join(now.methods)}"
    after = _digests(now)
    old, new = ({sample for sample, *_ in pictures} for pictures in (before, after))
    if old - new:
        return f"started with samples that are not given now: {named(sorted(old - new))}"
    if new - old:
        return f"started without the samples {named(sorted(new - old))}"
    if before.keys() - after.keys():
        return "started with --input, which is not given now"
    if after.keys() - before.keys():
        return "started without --input, which is given now"
    changed = [key for key in sorted(after) if after[key] != before[key]]
    if changed:
        sample, kind, method = changed[0]
        others = f" ({len(changed)} pictures in all)" if len(changed) > 1 else ""
        return f"the picture of {sample!r} by {method or kind} has changed since{others}"
    return ""
