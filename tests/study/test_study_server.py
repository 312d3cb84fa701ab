"""The user study's server, without a browser."""

import http.client
import io
import json
import re
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from studies import (
    ANNA,
    BEN,
    CARA,
    METHODS,
    SAMPLES,
    assert_adds_up,
    ballot,
    colour,
    get,
    methods_of,
    post,
    save,
    serve,
    stop,
)

from gmsrm_jax.runtime.web import is_local
from gmsrm_jax.study.presentation import Presentation
from gmsrm_jax.study.samples import read_samples
from gmsrm_jax.study.server import MAX_BODY
from gmsrm_jax.study.tally import tally_study
from gmsrm_jax.study.votes import Vote, Votes

LONG = b"1001\r\n" + bytes(0x1001) + b"\r\n0\r\n\r\n"  # chunks of a body


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
    for position, turn in enumerate(presentation.order(ANNA)):
        sample, shown = turn.sample, presentation.shown(ANNA, turn)
        for place, method in [*enumerate(shown), ("input", "input")]:
            data, headers = get(f"{server.url}image/{ANNA}/{position}/{place}")
            assert headers.get_content_type() == "image/png"
            pixels = np.asarray(Image.open(io.BytesIO(data)))
            assert pixels.shape == (36, 40, 3)
            assert np.all(pixels == colour(method, sample)), (sample, method)
    assert post(server.url, ballot(votes, position=1)) == {"stored": True}
    turn = presentation.order(ANNA)[1]
    shown = presentation.shown(ANNA, turn)
    expected = Vote(ANNA, turn.sample, (shown[2], shown[0], shown[1]), shown)
    assert votes.latest() == [expected]


def test_nothing_that_is_served_names_a_method_or_a_file(server, folders, votes, presentation):
    note = PngImagePlugin.PngInfo()
    note.add_text("Software", "made by GM-SRM")
    for sample in SAMPLES:
        image = Image.new("RGB", (40, 36), colour("GM-SRM", sample))
        image.save(folders["GM-SRM"] / f"{sample}.png", pnginfo=note, dpi=(72, 72))
    fresh = Presentation(METHODS, read_samples(methods_of(folders), folders["input"]), seed=0)
    running = serve(fresh, votes)
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
        stop(running)
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
        ("http://[evil/page.js", 404),
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
        (["evil.example:{}"], 400),
        (["127.0.0.1.evil.example"], 400),
        (["evil.example@127.0.0.1"], 400),
        ([""], 400),
        (["[::1"], 400),
        ([], 400),
        (["127.0.0.1:{}", "evil.example"], 400),
    ],
)
def test_other_names_of_this_machine_are_refused(server, hosts, status):
    headers = [("Host", host.format(server.server_port)) for host in hosts]
    assert raw(server, "GET", f"/session/{ANNA}", headers) == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"ranking": [0, 1]}, 422),
        ({"ranking": [0, 1, 1]}, 422),
        ({"ranking": [0, 1, 3]}, 422),
        ({"ranking": [0, True, 2]}, 422),
        ({"ranking": [0.0, 1, 2]}, 422),
        ({"ranking": ["GM-SRM", "LISK", "MEDFE"]}, 422),
        ({"ranking": {"0": 1}}, 422),
        ({"ranking": None}, 422),
        ({"position": 4}, 404),
        ({"position": -1}, 404),
        ({"position": True}, 422),
        ({"position": "0"}, 422),
        ({"position": 10**400}, 404),
        ({"participant": "x" * 32}, 422),
        ({"participant": "'; DROP TABLE votes; --"}, 422),
        ({"participant": ANNA + "\n"}, 422),
        ({"participant": [ANNA]}, 422),
        ({"study": "another"}, 409),
        ({"study": None}, 422),
        ({"extra": 1}, 422),
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
        ({"Content-Type": "text/plain"}, None, 422),
        ({"Content-Type": "application/x-www-form-urlencoded"}, None, 422),
        ({"Content-Length": "-5"}, None, 400),
        ({"Content-Length": "1e3"}, None, 400),
        ({"Content-Length": str(MAX_BODY + 1)}, None, 413),
        ({"Content-Length": "999999999"}, None, 413),
        ({"Content-Length": None, "Transfer-Encoding": "chunked"}, LONG, 413),
        ({}, b"", 422),
        ({}, b"{", 422),
        ({}, b"\xff\xfe", 422),
        ({}, b"[" * MAX_BODY, 400),
        ({}, b"[1]", 422),
        ({}, b"null", 422),
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
        ("POST", "/", 405),
        ("GET", "/vote", 404),
        ("PUT", "/vote", 405),
        ("OPTIONS", "/vote", 405),
        ("DELETE", "/vote", 405),
    ):
        assert raw(server, method, target, headers, b"{}") == status, method
    assert votes.latest() == []


def test_a_token_keeps_others_out_and_lets_any_name_in(presentation, votes):
    running = serve(presentation, votes, votes.token())
    try:
        assert running.url.endswith(f"/{votes.token()}/")
        assert len(votes.token()) >= 20
        assert post(running.url, ballot(votes)) == {"stored": True}
        name = [("Host", "study.example")]
        assert raw(running, "GET", f"/{votes.token()}/", name) == 200
        for target in ("/", "/page.js", f"/session/{ANNA}", "/wrong/", "/wr\xf6ng/"):
            assert raw(running, "GET", urllib.request.quote(target), name) == 404
    finally:
        stop(running)


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
    assert result.positions.loc["C", "first_places"] == 12
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
