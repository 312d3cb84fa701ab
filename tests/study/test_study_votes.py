"""The file of votes: the latest counts, nothing is lost, foreign files are refused."""

import json
import re
import sqlite3
import threading
from collections import Counter

import pytest
from studies import ANNA, BEN, CARA, METHODS, SAMPLES, save, vote

from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.study.presentation import Presentation
from gmsrm_jax.study.samples import read_samples
from gmsrm_jax.study.votes import FILE_NAME, NotStored, Vote, Votes


def test_latest_vote_counts_and_history_is_kept(votes):
    a, b, c = METHODS
    receipts = [
        votes.add(vote(ANNA, "door", a, b, c)),
        votes.add(vote(BEN, "door", c, b, a, shown=(b, c, a))),
        votes.add(vote(ANNA, "door", b, c, a)),
        votes.add(vote(ANNA, "gate", a, c, b)),
    ]
    assert [(r.votes, r.participants, r.changed) for r in receipts] == [
        (1, 1, False),
        (2, 2, False),
        (2, 2, True),
        (3, 2, False),
    ]
    expected = [
        vote(BEN, "door", c, b, a, shown=(b, c, a)),
        vote(ANNA, "door", b, c, a),
        vote(ANNA, "gate", a, c, b),
    ]
    assert votes.latest() == expected
    assert votes.latest(ANNA) == expected[1:]
    assert votes.latest(CARA) == []
    assert votes.replaced() == 1
    # As somebody who knows SQL, but not this program, reads it.
    with sqlite3.connect(votes.path) as plain:
        history = plain.execute(
            "SELECT participant, sample, ranking ->> 0 FROM votes ORDER BY id"
        ).fetchall()
        places = plain.execute("SELECT shown FROM votes WHERE id = 2").fetchone()
        assert json.loads(places[0]) == [b, c, a]
    plain.close()
    votes.add(vote(ANNA, "door", c, b, a, again=True))  # replaces nothing
    assert votes.replaced() == 1
    assert votes.latest(ANNA) == [*expected[1:], vote(ANNA, "door", c, b, a, again=True)]
    assert history == [
        (ANNA, "door", a),
        (BEN, "door", c),
        (ANNA, "door", b),
        (ANNA, "gate", a),
    ]


@pytest.mark.parametrize(
    "ranking", [METHODS[:2], ("GM-SRM", "GM-SRM", "LISK"), ("x", *METHODS[:2])]
)
def test_a_vote_ranks_every_method_once(votes, ranking):
    with pytest.raises(ValueError):
        votes.add(Vote(ANNA, "door", ranking, METHODS))
    assert votes.latest() == []


def test_a_study_goes_on_after_a_restart(votes, presentation):
    votes.add(vote(ANNA, "door"))
    token = votes.token()
    votes.close()
    with pytest.raises(NotStored):
        votes.add(vote(ANNA, "gate"))
    again = Votes(votes.path, presentation)
    assert (again.study, again.token()) == (votes.study, token)
    assert again.methods == METHODS
    assert again.samples == SAMPLES
    assert again.add(vote(ANNA, "wall")).votes == 2
    again.close()


def change(folders):
    save(folders["LISK"] / "gate.png", (1, 2, 3))


@pytest.mark.parametrize(
    ("damage", "arguments", "message"),
    [
        (change, {}, "the picture of 'gate' by LISK has changed since;"),
        (
            lambda f: None,
            {"inputs": False},
            "started with --input of 'door', which is not given now",
        ),
        (lambda f: None, {"seed": 1}, "started with --seed=0, which is not given now"),
        (
            lambda f: None,
            {"methods": ("GM-SRM", "LISK")},
            "started with method MEDFE, which is not given now",
        ),
        (
            lambda f: [(folder / "wall.png").unlink() for folder in f.values()],
            {},
            "started with sample 'wall', which is not given now",
        ),
        (
            lambda f: [save(folder / "new.png", (1, 1, 1)) for folder in f.values()],
            {},
            "started without sample 'new', which is given now",
        ),
    ],
)
def test_a_study_of_something_else_is_refused(votes, folders, damage, arguments, message):
    damage(folders)
    names = arguments.get("methods", METHODS)
    inputs = folders["input"] if arguments.get("inputs", True) else None
    samples = read_samples({name: folders[name] for name in names}, inputs)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        Votes(votes.path, Presentation(names, samples, arguments.get("seed", 0)))
    assert str(votes.path) in str(caught.value)
    assert "another --out" in str(caught.value)


def test_a_file_that_is_no_study_is_left_alone(tmp_path, presentation):
    path = tmp_path / FILE_NAME
    path.write_bytes(b"no database at all, but a letter" * 40)
    with pytest.raises(UserError, match="not a database"):
        Votes(path, presentation)
    with pytest.raises(UserError, match="not a database"):
        Votes(path)
    assert path.read_bytes().startswith(b"no database")
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    with pytest.raises(UserError, match="not a study"):
        Votes(path, presentation)
    with pytest.raises(UserError, match="no such study"):
        Votes(tmp_path / "none.sqlite")


def test_threads_and_servers_that_vote_at_once_lose_nothing(votes):
    second = Votes(votes.path)  # as of another process

    def cast(person, file):
        for _ in range(2):
            for sample in SAMPLES:
                file.add(vote(person, sample))

    people = [f"{number:032x}" for number in range(6)]
    threads = [
        threading.Thread(target=cast, args=(person, (votes, second)[number % 2]))
        for number, person in enumerate(people)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second.close()
    found = Counter((v.participant, v.sample) for v in votes.latest())
    assert found == Counter((person, sample) for person in people for sample in SAMPLES)
    assert votes.replaced() == 6 * len(SAMPLES)
