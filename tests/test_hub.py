"""Networks on the Hugging Face Hub: its own package, against a server that answers as the Hub does.

What the server answers is the Hub's HTTP interface, https://huggingface.co/docs/hub/api.
"""

import collections
import hashlib
import http.server
import json
import os
import pathlib
import threading
import urllib.parse
from collections.abc import Iterator

import pytest
from exported_networks import exported, tiny_network
from huggingface_hub import constants

from gmsrm_jax.networks import load_pretrained
from gmsrm_jax.runtime.errors import UserError

COMMIT = "1a2b3c4d" * 5
FILES = ["README.md", "SHA256SUMS", "config.json", "model.safetensors"]


class Hub:
    """One model, org/facades, with the tag v1.0.

    Attributes:
        folder: whose files the model has.
        error: what the Hub answers everything with: a status and its X-Error-Code.
        requests: how often each file was sent.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.error: tuple[int, str] | None = None
        self.requests: collections.Counter[str] = collections.Counter()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path."""
        parts = urllib.parse.unquote(urllib.parse.urlsplit(path).path).strip("/").split("/")
        if self.error:
            return self.error[0], {"X-Error-Code": self.error[1]}, b"{}"
        if parts[:4] == ["api", "models", "org", "facades"]:
            return self._information(parts[4:])
        if parts[:4] == ["org", "facades", "resolve", COMMIT]:
            data = (self.folder / parts[4]).read_bytes()
            etag = f'"{hashlib.sha1(data).hexdigest()}"'
            return 200, {"ETag": etag, "X-Repo-Commit": COMMIT}, data
        return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"

    def _information(self, parts: list[str]) -> tuple[int, dict[str, str], bytes]:
        if parts[:1] == ["tree"]:
            files = [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": path.name}
                for path in self.folder.iterdir()
            ]
            return 200, {}, json.dumps(files).encode()
        if parts in ([], ["revision", "main"], ["revision", "v1.0"]):
            return 200, {}, json.dumps({"id": "org/facades", "sha": COMMIT}).encode()
        return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"


@pytest.fixture
def hub(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server, which the package takes for the Hub, and an empty cache."""
    served = Hub(exported(tmp_path / "served"))
    (served.folder / "model.onnx").write_bytes(b"a graph")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self, with_body: bool = False) -> None:
            status, headers, body = served.answer(self.path)
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                served.requests[self.path.rsplit("/", 1)[-1]] += 1
                self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_HEAD(with_body=True)

        def log_message(self, *_: object) -> None:
            """Stays quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("GMSRM_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def refusal(name: str, offline: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        load_pretrained(name, offline)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    return message


def test_a_network_is_fetched_once(
    hub: Hub, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = load_pretrained("org/facades")
    said = capsys.readouterr().err
    assert "no folder org/facades here; taking it for an id of the Hugging Face Hub" in said
    assert network.source == "org/facades"
    assert network.sha256 == tiny_network().sha256
    snapshot = tmp_path / "cache" / "models--org--facades" / "snapshots" / COMMIT
    assert sorted(path.name for path in snapshot.iterdir()) == FILES
    assert load_pretrained("org/facades@v1.0").sha256 == network.sha256
    assert [hub.requests[name] for name in FILES] == [1] * 4


def test_a_folder_here_is_taken_instead(hub: Hub) -> None:
    exported(pathlib.Path("org/facades"))
    assert load_pretrained("org/facades").sha256 == tiny_network().sha256
    assert not hub.requests


@pytest.mark.parametrize("by", ["argument", "GMSRM_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_asks_nobody(hub: Hub, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    with monkeypatch.context() as patch:
        if by != "argument":
            patch.setenv(by, "1")
        assert "fetch it once without --offline" in refusal("org/facades", by == "argument")
        assert not hub.requests
    load_pretrained("org/facades")
    hub.requests.clear()
    if by != "argument":
        monkeypatch.setenv(by, "1")
    network = load_pretrained("org/facades", by == "argument")
    assert network.sha256 == tiny_network().sha256
    assert not hub.requests


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ((401, "RepoNotFound"), "check the name, org/name or org/name@revision, or log in with"),
        (
            (403, "GatedRepo"),
            "give your consent on https://huggingface.co/org/facades, then log in",
        ),
        ((503, "x"), "the Hub did not give it (Server error '503 Service Unavailable'"),
    ],
)
def test_answers_of_the_hub(hub: Hub, error: tuple[int, str], said: str) -> None:
    hub.error = error
    assert said in refusal("org/facades")


def test_names_that_the_hub_does_not_know(hub: Hub) -> None:
    for name in ("org/facade", "org/facades@v9", "org/a--b"):
        assert "check the name, org/name or org/name@revision" in refusal(name)
    (hub.folder / "SHA256SUMS").unlink()
    assert "has no SHA256SUMS, so it is none that `gmsrm export` wrote" in refusal("org/facades")


def test_no_connection(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "check the connection, then run this again" in refusal("org/facades")


def test_a_cache_that_cannot_be_written(hub: Hub, tmp_path: pathlib.Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    assert "let HF_HOME name another folder" in refusal("org/facades")


def test_damaged_files_say_where_they_lie(hub: Hub, tmp_path: pathlib.Path) -> None:
    os.truncate(hub.folder / "model.safetensors", 100)
    root = tmp_path / "cache" / "models--org--facades"
    with pytest.raises(UserError, match=rf"model.safetensors: damaged.*; remove {root} to fetch"):
        load_pretrained("org/facades")


@pytest.mark.parametrize("name", ["https://example.org/w#sha256=0", "http://localhost:1/weights"])
def test_an_address_is_no_name(name: str) -> None:
    assert "give org/name of the Hugging Face Hub, or the folder" in refusal(name)
