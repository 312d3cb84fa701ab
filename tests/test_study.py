"""The user study without a browser: pairing, votes, tally, server, command."""

import csv
import hashlib
import http.client
import io
import json
import math
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from gmsrm_jax.cli import main
from gmsrm_jax.errors import UserError
from gmsrm_jax.local_address import is_local
from gmsrm_jax.study.presentation import Presentation
from gmsrm_jax.study.samples import read_samples
from gmsrm_jax.study.server import MAX_BODY, StudyServer
from gmsrm_jax.study.tally import (
    format_tally,
    tally,
    tally_study,
    wilson_interval,
    write_tally,
)
from gmsrm_jax.study.votes import FILE_NAME, NotStored, Vote, Votes

METHODS = ("GM-SRM", "LISK", "MEDFE")
SAMPLES = ("door", "gate", "sub/roof", "wall")
ANNA, BEN, CARA = "a" * 32, "b" * 32, "c" * 32


def colour(method, sample):
    """A colour of its own for every picture; methods differ in red, inputs have none."""
    red = 0 if method == "input" else 80 * (METHODS.index(method) + 1)
    return red, 40 * SAMPLES.index(sample), 100


def save(path, rgb, size=(40, 36), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, rgb).save(path, **options)


@pytest.fixture
def folders(tmp_path):
    """Folders of the methods and of the inputs, with the samples in them."""
    for method in (*METHODS, "input"):
        for sample in SAMPLES:
            save(tmp_path / "pictures" / method / f"{sample}.png", colour(method, sample))
    return {method: tmp_path / "pictures" / method for method in (*METHODS, "input")}


def methods_of(folders):
    return {method: folders[method] for method in METHODS}


@pytest.fixture
def presentation(folders):
    return Presentation(METHODS, read_samples(methods_of(folders), folders["input"]), seed=0)


@pytest.fixture
def votes(tmp_path, presentation):
    opened = Votes.open(tmp_path / "out" / FILE_NAME, presentation)
    yield opened
    opened.close()


def vote(participant, sample, *ranking, shown=METHODS):
    return Vote(participant, sample, ranking or METHODS, shown)


# Samples


def test_pictures_are_paired_by_name_and_not_by_order(folders, tmp_path):
    (folders["LISK"] / "door.png").unlink()
    save(folders["LISK"] / "door.JPG", (9, 9, 9), format="JPEG")
    found = read_samples(methods_of(folders), folders["input"])
    assert [sample.name for sample in found] == list(SAMPLES)
    door = found[0]
    assert door.results["LISK"].path == folders["LISK"] / "door.JPG"
    assert door.input.path == folders["input"] / "door.png"
    assert door.size == (40, 36)
    content = (folders["LISK"] / "door.JPG").read_bytes()
    assert door.results["LISK"].sha256 == hashlib.sha256(content).hexdigest()
    assert all(sample.input is None for sample in read_samples(methods_of(folders), None))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f["LISK"] / "wall.png").unlink(), r"LISK=.*no picture named 'wall'"),
        (lambda f: (f["input"] / "gate.png").unlink(), r"--input=.*no picture named 'gate'"),
        (lambda f: save(f["GM-SRM"] / "more.png", (1, 1, 1)), r"LISK=.*no picture named 'more'"),
        (
            lambda f: save(f["GM-SRM"] / "gate.jpg", (1, 1, 1)),
            r"gate.jpg and gate.png have one name",
        ),
        (
            lambda f: save(f["GM-SRM"] / "gate.png", (1, 1, 1), (40, 40)),
            r"gate: 40 x 40 px in GM-SRM",
        ),
        (lambda f: (f["GM-SRM"] / "gate.png").write_bytes(b"no"), r"gate.png: not one of"),
        (lambda f: f.update({"LISK": f["LISK"] / "none"}), r"none: no such folder"),
    ],
)
def test_what_cannot_be_paired_is_refused_by_name(folders, damage, message):
    damage(folders)
    with pytest.raises(UserError, match=message) as caught:
        read_samples(methods_of(folders), folders["input"])
    assert "\n" not in str(caught.value)


# Orders


def test_orders_are_functions_of_seed_and_participant_for_ever(presentation):
    # SHA-256 of the JSON of seed, purpose, participant and name, sorted.
    def digest(*parts):
        return hashlib.sha256(json.dumps([0, *parts]).encode()).hexdigest()

    order = sorted(SAMPLES, key=lambda name: digest("order", ANNA, name))
    assert presentation.order(ANNA) == tuple(order)
    shown = sorted(METHODS, key=lambda method: digest("shown", ANNA, "door", method))
    assert presentation.shown(ANNA, "door") == tuple(shown)
    samples = presentation.samples.values()
    assert Presentation(METHODS, samples, 0, 2).order(ANNA) == tuple(order[:2])
    assert Presentation(METHODS[::-1], samples, 0).shown(ANNA, "door") == tuple(shown)
    assert any(
        Presentation(METHODS, samples, seed).order(ANNA) != tuple(order) for seed in range(1, 5)
    )


def test_every_method_and_sample_stands_everywhere_equally_often(presentation):
    people = [f"{number:032x}" for number in range(900)]
    first = Counter(presentation.shown(person, "gate")[0] for person in people)
    assert set(first) == set(METHODS)
    assert all(abs(count - 300) < 60 for count in first.values()), first  # sd 14
    opening = Counter(presentation.order(person)[0] for person in people)
    assert all(abs(opening[sample] - 225) < 60 for sample in SAMPLES), opening
    both = Counter(
        presentation.shown(person, "gate")[0] == presentation.shown(person, "door")[0]
        for person in people
    )
    assert abs(both[True] - 300) < 60, both  # samples of a participant are independent


@pytest.mark.parametrize(("methods", "count"), [(METHODS[:1], 1), (METHODS, 0), (METHODS, 5)])
def test_what_no_page_can_show_is_a_bug(presentation, methods, count):
    with pytest.raises(ValueError):
        Presentation(methods, presentation.samples.values(), 0, count)


# Tally


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17, Table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_the_published_ones(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (3, 7), (1523, 2500)])
def test_wilson_ends_solve_the_score_equation(successes, trials):
    share = successes / trials
    for end in wilson_interval(successes, trials):
        assert 0.0 <= end <= 1.0
        left, right = abs(share - end), 1.959964 * math.sqrt(end * (1 - end) / trials)
        assert left == pytest.approx(right, abs=1e-6)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_share(successes, trials):
    with pytest.raises(ValueError):
        wilson_interval(successes, trials)


def test_tally_of_seven_votes_counted_by_hand():
    a, b, c = METHODS
    other = (c, a, b)
    cast = [
        vote(ANNA, "door", a, b, c),
        vote(BEN, "door", a, c, b),
        vote(CARA, "door", b, a, c, shown=other),  # door: a 2, b 1 -> a
        vote(ANNA, "gate", b, a, c, shown=other),
        vote(BEN, "gate", a, b, c, shown=other),  # gate: a 1, b 1 -> tied
        vote(ANNA, "wall", b, c, a),
        vote(BEN, "wall", b, a, c),  # wall: b 2 -> b
    ]
    result = tally(METHODS, SAMPLES, cast, replaced_votes=3)
    assert (result.votes, result.participants, result.replaced_votes) == (7, 3, 3)
    assert (result.voted_samples, result.tied_samples) == (3, 1)
    rows = result.methods
    assert [rows[m].first_places for m in METHODS] == [3, 4, 0]
    assert [rows[m].share for m in METHODS] == [3 / 7, 4 / 7, 0]
    assert [rows[m].winning_samples for m in METHODS] == [1, 1, 0]
    ranks = [(1 + 1 + 2 + 2 + 1 + 3 + 2) / 7, (2 + 3 + 1 + 1 + 2 + 1 + 1) / 7]
    ranks.append((3 + 2 + 3 + 3 + 3 + 2 + 3) / 7)
    assert [rows[m].mean_rank for m in METHODS] == pytest.approx(ranks)
    assert sum(ranks) == pytest.approx(1 + 2 + 3)
    assert rows[a].interval == wilson_interval(3, 7)
    # On the screen: A is a or c, B is b or a, C is c or b.
    assert [result.positions[p].first_places for p in "ABC"] == [2, 3, 2]
    winners = [result.samples[name].winner for name in SAMPLES]
    assert winners == [a, None, None, b]
    assert result.samples["door"].first_places == {a: 2, b: 1, c: 0}
    assert result.samples["sub/roof"].votes == 0
    assert_adds_up(result)


def assert_adds_up(result):
    for table in (result.methods, result.positions):
        assert sum(row.first_places for row in table.values()) == result.votes
        assert sum(row.share for row in table.values()) == pytest.approx(1.0, abs=1e-12)
    won = sum(row.winning_samples for row in result.methods.values())
    assert won + result.tied_samples == result.voted_samples
    assert sum(sample.votes for sample in result.samples.values()) == result.votes


def test_table_iii_of_the_paper_comes_out_of_votes_like_its_own(tmp_path):
    # CelebA-HQ: 50 people rank 50 samples; 99, 396, 7, 475 and 1523 of 2500 first places.
    names = ("DeepFill V2", "LISK", "Lahiri et al.", "MEDFE", "GM-SRM")
    won = [["MEDFE"] * 50] * 6 + [["LISK"] * 50] * 4 + [["DeepFill V2"] * 48 + ["GM-SRM"] * 2]
    rest = ["MEDFE"] * 175 + ["LISK"] * 196 + ["DeepFill V2"] * 51 + ["Lahiri et al."] * 7
    won += [["GM-SRM"] * 39 + rest[11 * k : 11 * (k + 1)] for k in range(39)]
    samples = [f"{k:02d}" for k in range(50)]
    cast = [
        Vote(f"{person:032x}", name, (best, *(n for n in names if n != best)), names)
        for name, firsts in zip(samples, won, strict=True)
        for person, best in enumerate(firsts)
    ]
    result = tally(names, samples, cast, 0)
    assert_adds_up(result)
    text = format_tally(result)
    assert "2500 votes of 50 participants on 50 of 50 samples" in text
    table = {"DeepFill V2": ("3.96", 1), "LISK": ("15.84", 4), "Lahiri et al.": ("0.28", 0)}
    table |= {"MEDFE": ("19.00", 6), "GM-SRM": ("60.92", 39)}
    for name, (share, wins) in table.items():
        line = next(line for line in text.splitlines() if line.startswith(name))
        assert re.search(rf" {share} % .*% +{wins} ", line), line
    assert re.search(r"^Total +2500 +100\.00 % +50$", text, re.MULTILINE)
    paths = write_tally(tmp_path, result)
    assert [path.name for path in paths] == ["tally.json", "tally.md", "tally.csv"]
    written = json.loads(paths[0].read_text())
    assert written["methods"]["GM-SRM"]["first_places"] == 1523
    assert written["methods"]["GM-SRM"]["interval"] == list(wilson_interval(1523, 2500))
    assert written["samples"]["00"]["winner"] == "MEDFE"
    assert re.search(r"^\| LISK \| 396 \| 15\.84 % \|.*\| 4 \|", paths[1].read_text(), re.MULTILINE)
    rows = list(csv.DictReader(io.StringIO(paths[2].read_text())))
    assert [row["method"] for row in rows] == list(names)
    assert sum(int(row["first_places"]) for row in rows) == int(rows[0]["votes"]) == 2500
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1.0)
    assert float(rows[4]["share_low"]) == wilson_interval(1523, 2500)[0]


def test_tally_without_votes_has_no_shares(votes, tmp_path):
    result = tally_study(votes)
    assert (result.votes, result.voted_samples, result.tied_samples) == (0, 0, 0)
    assert all(row.share is None and row.mean_rank is None for row in result.methods.values())
    assert re.search(r"^GM-SRM +0 +- +- +0 +-$", format_tally(result), re.MULTILINE)
    write_tally(tmp_path, result)
    row = next(csv.DictReader((tmp_path / "tally.csv").open()))
    assert row["share"] == row["share_low"] == row["mean_rank"] == ""


def test_names_do_not_break_the_markdown_table(tmp_path):
    result = tally(("a|b", "c"), ["x"], [Vote(ANNA, "x", ("c", "a|b"), ("a|b", "c"))], 0)
    write_tally(tmp_path, result)
    assert "| a\\|b | 0 | 0.00 % |" in (tmp_path / "tally.md").read_text()


# Votes


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
            "SELECT participant, sample, method FROM votes JOIN ranks ON vote = id WHERE rank = 1"
            " ORDER BY id"
        ).fetchall()
        places = plain.execute("SELECT method, screen FROM ranks WHERE vote = 2 ORDER BY screen")
        assert places.fetchall() == [(b, 1), (c, 2), (a, 3)]
    plain.close()
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
    again = Votes.open(votes.path, presentation)
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
        (lambda f: None, {"inputs": False}, "started with --input, which is not given now"),
        (lambda f: None, {"seed": 1}, "started with --seed=0, not 1"),
        (
            lambda f: None,
            {"methods": ("GM-SRM", "LISK")},
            "started with the methods GM-SRM, LISK, MEDFE, not GM-SRM, LISK",
        ),
        (
            lambda f: [(folder / "wall.png").unlink() for folder in f.values()],
            {},
            "started with samples that are not given now: 'wall'",
        ),
        (
            lambda f: [save(folder / "new.png", (1, 1, 1)) for folder in f.values()],
            {},
            "started without the samples 'new'",
        ),
    ],
)
def test_a_study_of_something_else_is_refused(votes, folders, damage, arguments, message):
    damage(folders)
    names = arguments.get("methods", METHODS)
    inputs = folders["input"] if arguments.get("inputs", True) else None
    samples = read_samples({name: folders[name] for name in names}, inputs)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        Votes.open(votes.path, Presentation(names, samples, arguments.get("seed", 0)))
    assert str(votes.path) in str(caught.value)
    assert "another --out" in str(caught.value)


def test_a_file_that_is_no_study_is_left_alone(tmp_path, presentation):
    path = tmp_path / FILE_NAME
    path.write_bytes(b"no database at all, but a letter" * 40)
    with pytest.raises(UserError, match="not a database"):
        Votes.open(path, presentation)
    with pytest.raises(UserError, match="not a database"):
        Votes(path)
    assert path.read_bytes().startswith(b"no database")
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    with pytest.raises(UserError, match="not a study"):
        Votes.open(path, presentation)
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


# Server


def serve(presentation, votes, token=""):
    server = StudyServer(presentation, votes, "127.0.0.1", 0, token)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    return server, thread


def stop(server, thread):
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(presentation, votes):
    running, thread = serve(presentation, votes)
    yield running
    stop(running, thread)


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read(), answer.headers


def post(url, body, **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    headers = {"Content-Type": "application/json", "Origin": origin} | headers
    request = urllib.request.Request(url + "vote", data, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def ballot(votes, participant=ANNA, position=0, ranking=(2, 0, 1), **more):
    study = {"study": votes.study, "participant": participant}
    return study | {"position": position, "ranking": ranking} | more


def test_the_page_may_load_nothing_from_elsewhere(server, votes):
    for path, kind in (("", "text/html"), ("page.js", "text/javascript"), ("page.css", "text/css")):
        content, headers = get(server.url + path)
        assert headers.get_content_type() == kind
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        assert "script-src 'self';" in policy and "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers
        assert not re.search(rb"(https?:)?//[a-z]", content), path
    page, _ = get(server.url)
    assert f'data-study="{votes.study}"'.encode() in page


def test_pictures_are_the_ones_the_vote_is_about(server, votes, presentation):
    for position, sample in enumerate(presentation.order(ANNA)):
        shown = presentation.shown(ANNA, sample)
        for place, method in [*enumerate(shown), ("input", "input")]:
            data, headers = get(f"{server.url}image/{ANNA}/{position}/{place}")
            assert headers.get_content_type() == "image/png"
            pixels = np.asarray(Image.open(io.BytesIO(data)))
            assert pixels.shape == (36, 40, 3)
            assert np.all(pixels == colour(method, sample)), (sample, method)
    assert post(server.url, ballot(votes, position=1)) == {"stored": True}
    sample = presentation.order(ANNA)[1]
    shown = presentation.shown(ANNA, sample)
    expected = Vote(ANNA, sample, (shown[2], shown[0], shown[1]), shown)
    assert votes.latest() == [expected]


def test_nothing_that_is_served_names_a_method_or_a_file(server, folders, votes, presentation):
    note = PngImagePlugin.PngInfo()
    note.add_text("Software", "made by GM-SRM")
    for sample in SAMPLES:
        image = Image.new("RGB", (40, 36), colour("GM-SRM", sample))
        image.save(folders["GM-SRM"] / f"{sample}.png", pnginfo=note, dpi=(72, 72))
    fresh = Presentation(METHODS, read_samples(methods_of(folders), folders["input"]), seed=0)
    running, thread = serve(fresh, votes)
    post(running.url, ballot(votes))
    header_names = set()
    try:
        paths = ["", "page.js", "page.css", f"session/{ANNA}"]
        paths += [f"image/{ANNA}/{k}/{place}" for k in range(4) for place in (0, 1, 2)]
        for path in paths:
            content, headers = get(running.url + path)
            everything = (str(headers) + running.url + path).encode() + content
            for word in (b"GM-SRM", b"LISK", b"MEDFE", b"door", b"roof", b"Software", b"pHYs"):
                assert word not in everything, (path, word)
            if path.startswith("image"):
                header_names.add(tuple(sorted(headers.keys())))
    finally:
        stop(running, thread)
    assert len(header_names) == 1


def test_the_session_tells_where_a_participant_stands(server, votes, presentation):
    session = json.loads(get(f"{server.url}session/{ANNA}")[0])
    assert session["labels"] == "ABC"
    assert session["input"] is True
    size = {"width": 40, "height": 36}
    assert session["samples"] == [size | {"ranking": []}] * 4
    post(server.url, ballot(votes, position=2, ranking=(1, 2, 0)))
    session = json.loads(get(f"{server.url}session/{ANNA}")[0])
    assert [sample["ranking"] for sample in session["samples"]] == [[], [], [1, 2, 0], []]
    other = json.loads(get(f"{server.url}session/{BEN}")[0])
    assert all(sample["ranking"] == [] for sample in other["samples"])


def raw(server, method, target, headers, body=b""):
    """Sends exactly these headers, and returns the status."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    answer.read()
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    connection.close()
    return answer.status


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/../../etc/passwd", 404),
        ("/page.css/../server.py", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/server.py", 404),
        (f"/image/{ANNA}/0/../../../server.py", 404),
        (f"/image/{ANNA}/0/..%2f..%2fdoor.png", 404),
        (f"/image/{ANNA}/0/3", 404),
        (f"/image/{ANNA}/4/0", 404),
        (f"/image/{ANNA}/-1/0", 404),
        (f"/image/{ANNA}/999999999/0", 404),
        (f"/image/{ANNA[:-1]}/0/0", 404),
        ("/image/GM-SRM/door.png", 404),
        ("/session/x", 404),
        ("//evil.example/page.js", 404),
        ("http://[evil/page.js", 400),
        ("/nothing", 404),
    ],
)
def test_no_path_leads_out_of_the_study(server, target, status):
    host = ("Host", f"127.0.0.1:{server.server_port}")
    assert raw(server, "GET", target, [host]) == status


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (["127.0.0.1:{}"], 200),
        (["localhost:{}"], 200),
        (["[::1]:{}"], 200),
        (["localhost:9999"], 200),  # through a tunnel
        (["evil.example:{}"], 403),
        (["127.0.0.1.evil.example"], 403),
        (["evil.example@127.0.0.1"], 200),
        ([""], 403),
        (["[::1"], 400),
        ([], 403),
        (["127.0.0.1:{}", "evil.example"], 403),
    ],
)
def test_other_names_of_this_machine_are_refused(server, hosts, status):
    headers = [("Host", host.format(server.server_port)) for host in hosts]
    assert raw(server, "GET", f"/session/{ANNA}", headers) == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"ranking": [0, 1]}, 400),
        ({"ranking": [0, 1, 1]}, 400),
        ({"ranking": [0, 1, 3]}, 400),
        ({"ranking": [0, True, 2]}, 400),
        ({"ranking": [0.0, 1, 2]}, 400),
        ({"ranking": ["GM-SRM", "LISK", "MEDFE"]}, 400),
        ({"ranking": {"0": 1}}, 400),
        ({"ranking": None}, 400),
        ({"position": 4}, 404),
        ({"position": -1}, 404),
        ({"position": True}, 400),
        ({"position": "0"}, 400),
        ({"position": 10**400}, 404),
        ({"participant": "x" * 32}, 400),
        ({"participant": "'; DROP TABLE votes; --"}, 400),
        ({"participant": ANNA + "\n"}, 400),
        ({"participant": [ANNA]}, 400),
        ({"study": "another"}, 409),
        ({"study": None}, 409),
        ({"extra": 1}, 400),
    ],
)
def test_votes_that_no_page_sends_are_refused(server, votes, fields, status):
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(server.url, ballot(votes, **fields))
    assert caught.value.code == status
    assert json.load(caught.value)["error"]
    assert votes.latest() == []


@pytest.mark.parametrize(
    ("change", "body", "status"),
    [
        ({"Origin": "http://evil.example"}, None, 403),
        ({"Origin": "null"}, None, 403),
        ({"Origin": "http://localhost:1"}, None, 403),
        ({"Origin": None}, None, 403),
        ({"Content-Type": "text/plain"}, None, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, None, 415),
        ({"Content-Length": None}, None, 411),
        ({"Content-Length": None, "Transfer-Encoding": "chunked"}, None, 411),
        ({"Transfer-Encoding": "chunked"}, None, 411),
        ({"Content-Length": "-5"}, None, 400),
        ({"Content-Length": "1e3"}, None, 400),
        ({"Content-Length": str(MAX_BODY + 1)}, None, 413),
        ({"Content-Length": "999999999"}, None, 413),
        ({}, b"", 400),
        ({}, b"{", 400),
        ({}, b"\xff\xfe", 400),
        ({}, b"[" * MAX_BODY, 400),
        ({}, b"[1]", 400),
        ({}, b"null", 400),
    ],
)
def test_requests_that_no_page_sends_are_refused(server, votes, change, body, status):
    body = json.dumps(ballot(votes)).encode() if body is None else body
    here = f"127.0.0.1:{server.server_port}"
    headers = {"Host": here, "Origin": f"http://{here}", "Content-Type": "application/json"}
    headers |= {"Content-Length": str(len(body))} | change
    sent = [(name, value) for name, value in headers.items() if value is not None]
    assert raw(server, "POST", "/vote", sent, body) == status
    assert votes.latest() == []
    assert post(server.url, ballot(votes)) == {"stored": True}


def test_other_methods_and_addresses_take_no_votes(server, votes):
    here = f"127.0.0.1:{server.server_port}"
    headers = [("Host", here), ("Origin", f"http://{here}"), ("Content-Type", "application/json")]
    headers.append(("Content-Length", "2"))
    for method, target, status in (
        ("POST", "/", 404),
        ("GET", "/vote", 404),
        ("PUT", "/vote", 501),
        ("OPTIONS", "/vote", 501),
        ("DELETE", "/vote", 501),
    ):
        assert raw(server, method, target, headers, b"{}") == status, method
    assert votes.latest() == []


def test_a_token_keeps_others_out_and_lets_any_name_in(presentation, votes):
    running, thread = serve(presentation, votes, votes.token())
    try:
        assert running.url.endswith(f"/{votes.token()}/")
        assert len(votes.token()) >= 20
        assert post(running.url, ballot(votes)) == {"stored": True}
        name = [("Host", "study.example")]
        assert raw(running, "GET", f"/{votes.token()}/", name) == 200
        for target in ("/", "/page.js", f"/session/{ANNA}", "/wrong/", "/wr\xf6ng/"):
            assert raw(running, "GET", urllib.request.quote(target), name) == 404
    finally:
        stop(running, thread)


def test_people_who_vote_at_once_are_all_counted(server, votes, presentation):
    def take_part(person):
        for position in range(4):
            post(server.url, ballot(votes, person, position))

    threads = [threading.Thread(target=take_part, args=(p,)) for p in (ANNA, BEN, CARA)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result = tally_study(votes)
    assert (result.votes, result.participants, result.replaced_votes) == (12, 3, 0)
    assert result.positions["C"].first_places == 12
    assert_adds_up(result)


def test_what_breaks_in_the_middle_is_said_and_not_counted(server, folders, votes, capsys):
    for name in SAMPLES:
        save(folders["GM-SRM"] / f"{name}.png", (7, 7, 7))
    statuses = []
    for place in range(3):
        try:
            get(f"{server.url}image/{ANNA}/0/{place}")
        except urllib.error.HTTPError as error:
            statuses.append(error.code)
    assert statuses == [500]
    votes.close()
    for attempt in (
        lambda: post(server.url, ballot(votes)),
        lambda: get(f"{server.url}session/{ANNA}"),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            attempt()
        assert caught.value.code == 503
    again = Votes(votes.path)
    assert again.latest() == []
    again.close()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.7", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_which_hosts_are_local(host, local):
    assert is_local(host) is local


# Command


def study(folders, out, *more):
    pairs = [f"{method}={folders[method]}" for method in METHODS]
    return [
        "study",
        "--methods",
        *pairs,
        "--input",
        str(folders["input"]),
        "--out",
        str(out),
        *more,
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--host", "0.0.0.0"], "--host=0.0.0.0: other machines could reach it"),
        (["--count", "5"], "--count=5: there are 4 samples"),
        (["--methods", "a=b"], "--methods: 1 given; give 2 to 9"),
        (["--methods", "a=b", "a=c"], "'a' is given twice"),
        (["--tally"], "--tally reads what is in --out"),
    ],
)
def test_the_command_refuses_in_one_line(folders, tmp_path, capsys, more, message):
    assert main(study(folders, tmp_path / "new", *more)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "more", [["--methods", "a", "b=c"], ["--count", "0"], ["--port", "70000"], ["--methods", "=x"]]
)
def test_the_command_refuses_malformed_values(folders, tmp_path, more):
    with pytest.raises(SystemExit) as caught:
        main(study(folders, tmp_path / "new", *more))
    assert caught.value.code == 2


def test_a_port_in_use_is_said(folders, tmp_path, server, capsys):
    assert main(study(folders, tmp_path / "new", "--port", str(server.server_port))) == 2
    assert f"--port={server.server_port}: cannot be opened" in capsys.readouterr().err


@pytest.mark.parametrize("stopping", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_stops_cleanly_and_goes_on(folders, tmp_path, capsys, stopping):
    out = tmp_path / "new"
    command = [sys.executable, "-m", "gmsrm_jax.cli", *study(folders, out, "--port", "0")]
    printed = []
    for position in (0, 1):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        head = [process.stdout.readline(), process.stdout.readline()]
        url = re.search(r"http://127\.0\.0\.1:\d+/", head[1])[0]
        assert f"; {position} votes so far" in head[0]
        page, _ = get(url)
        number = re.search(rb'data-study="(\w+)"', page)[1].decode()
        vote = {"study": number, "participant": ANNA, "position": position, "ranking": [0, 1, 2]}
        post(url, vote)
        process.send_signal(stopping)
        printed.append(process.communicate(timeout=20)[0])
        assert process.returncode == 0
        stored = f"vote {position + 1}: participant aaaaaa ranks picture {position + 1} of 4"
        assert stored in printed[-1]
    assert "1 vote of 1 participant on 1 of 4 samples" in printed[0]
    assert "2 votes of 1 participant on 2 of 4 samples" in printed[1]
    assert json.loads((out / "tally.json").read_text())["votes"] == 2
    assert main(["study", "--out", str(out), "--tally"]) == 0
    assert capsys.readouterr().out.strip() in printed[1]
    assert main(["study", "--out", str(tmp_path), "--tally"]) == 2
    assert "there is no such study" in capsys.readouterr().err
