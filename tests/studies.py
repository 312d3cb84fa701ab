"""Studies to test with: their pictures, their votes, a running server."""

import json
import threading
import urllib.request
from urllib.parse import urlsplit

import pytest
import uvicorn
from PIL import Image

from gmsrm_jax.runtime.web import address, listen, names_of
from gmsrm_jax.study.server import make_study_app
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


def vote(participant, sample, *ranking, shown=METHODS, again=False):
    return Vote(participant, sample, ranking or METHODS, shown, again)


class Served:
    """A study's running server, and where it is."""

    def __init__(self, presentation, votes, token):
        names = names_of("127.0.0.1", token)
        app = make_study_app(presentation, votes, token, names)
        opened = listen("127.0.0.1", 0)
        self.server_port = opened.getsockname()[1]
        self.url = address(opened, "127.0.0.1") + (token and f"{token}/")
        config = uvicorn.Config(app, http="h11", log_config=None, lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([opened],))
        self.thread.start()


def serve(presentation, votes, token=""):
    return Served(presentation, votes, token)


def stop(served):
    served.server.should_exit = True
    served.thread.join()


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
        assert table["first_places"].sum() == result.votes
        assert table["share"].sum() == pytest.approx(1.0, abs=1e-12)
    won = result.methods["winning_samples"].sum()
    assert won + result.tied_samples == result.voted_samples
    assert sum(sample["votes"] for sample in result.samples.values()) == result.votes
