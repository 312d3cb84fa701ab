"""Studies to test with: their pictures, their votes, a running server."""

import json
import threading
import urllib.request
from urllib.parse import urlsplit

import pytest
from PIL import Image

from gmsrm_jax.study.server import StudyServer
from gmsrm_jax.study.votes import Vote

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


def methods_of(folders):
    return {method: folders[method] for method in METHODS}


def vote(participant, sample, *ranking, shown=METHODS):
    return Vote(participant, sample, ranking or METHODS, shown)


def serve(presentation, votes, token=""):
    server = StudyServer(presentation, votes, "127.0.0.1", 0, token)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    return server, thread


def stop(server, thread):
    server.shutdown()
    thread.join()
    server.server_close()


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


def assert_adds_up(result):
    for table in (result.methods, result.positions):
        assert sum(row.first_places for row in table.values()) == result.votes
        assert sum(row.share for row in table.values()) == pytest.approx(1.0, abs=1e-12)
    won = sum(row.winning_samples for row in result.methods.values())
    assert won + result.tied_samples == result.voted_samples
    assert sum(sample.votes for sample in result.samples.values()) == result.votes
