"""The study's web server: the page, its pictures without their methods' names, and the votes.

Requests name a participant's random id and places on that participant's screen; methods, samples
and files are looked up here, and nothing of a request becomes a path. Python's standard library
only.
"""

import functools
import hashlib
import hmac
import io
import json
import re
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import SplitResult, urlsplit

from PIL import Image

from gmsrm_jax.data.decoding import decode_image
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.local_address import address, is_local, listen
from gmsrm_jax.runtime.log import say
from gmsrm_jax.study.presentation import LABELS, Presentation
from gmsrm_jax.study.samples import INPUT
from gmsrm_jax.study.votes import NotStored, Vote, Votes

MAX_BODY = 4096  # bytes; a vote has about two hundred
_IDLE_SECONDS = 30
_CACHED_PICTURES = 64
_PARTICIPANT = re.compile(r"[0-9a-f]{32}")
_SESSION = re.compile(r"session/([0-9a-f]{32})")
_PICTURE = re.compile(r"image/([0-9a-f]{32})/([0-9]{1,6})/(input|[0-8])")
_FILES = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class StudyServer(ThreadingHTTPServer):
    """Serves one study; `serve_forever` answers until it is interrupted.

    Attributes:
        presentation: what is shown.
        votes: where votes go.
        token: first part of every address' path, "" for none. Without one, requests must name a
            local host, so that no other site's page can reach this server by a name of its own.
        url: address of the page.
    """

    daemon_threads = True

    def __init__(
        self, presentation: Presentation, votes: Votes, host: str, port: int, token: str
    ) -> None:
        """Binds to the address; port 0 takes any that is free.

        Raises:
            UserError: it cannot be bound.
        """
        self.presentation = presentation
        self.votes = votes
        self.token = token
        folder = resources.files("gmsrm_jax.study")
        self.files = {
            path: (
                (folder / name).read_text("utf-8").replace("{study}", votes.study).encode(),
                kind,
            )
            for path, (name, kind) in _FILES.items()
        }
        self.picture = functools.lru_cache(_CACHED_PICTURES)(self._encoded)
        opened = listen(host, port)
        self.address_family = opened.family
        # The base class would look up the host's full name as it binds, which can take long.
        super().__init__((host, port), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = opened
        self.server_address = opened.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.url = address(opened, host) + (token and token + "/")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps quiet about browsers that leave in the middle of an answer."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def _encoded(self, sample: str, method: str | None) -> bytes:
        """Returns a picture as a PNG that tells nothing about the file it comes from."""
        found = self.presentation.samples[sample]
        picture = found.input if method is None else found.results[method]
        if picture is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "this study shows no inputs")
        try:
            encoded = picture.path.read_bytes()
        except OSError as error:
            say(f"{picture.path}: cannot be read any more ({error.strerror})")
            raise _Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "the picture is gone") from error
        if hashlib.sha256(encoded).hexdigest() != picture.sha256:
            say(f"{picture.path}: has changed since the start; put it back, or start anew")
            raise _Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "the picture has changed")
        buffer = io.BytesIO()
        # Participants wait for this, so it is packed fast rather than small.
        Image.fromarray(decode_image(encoded)).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


class _Refused(Exception):
    """A request that gets an error as its answer."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    """Answers one browser's requests."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server: StudyServer

    def do_GET(self) -> None:
        """Answers with the page, a picture, or where a participant stands."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Takes a vote."""
        self._answer(self._post)

    def end_headers(self) -> None:
        """Adds what forbids other sites to use anything of this one."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def version_string(self) -> str:
        """Returns what the Server header says."""
        return "gmsrm"

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing about requests; votes get their line when they are stored."""

    def _answer(self, answer: Callable[[str], None]) -> None:
        try:
            self._check_host()
            answer(self._route())
        except _Refused as refusal:
            self.close_connection = True  # a body that was not read may be waiting
            self._send_json({"error": str(refusal)}, refusal.status)
        except UserError as error:  # the file of votes, or a picture, since the start
            say(str(error))
            self.close_connection = True
            self._send_json({"error": "the study cannot be read"}, HTTPStatus.SERVICE_UNAVAILABLE)

    def _check_host(self) -> None:
        """Refuses a page of another site that gave its own name this machine's address."""
        hosts = self.headers.get_all("Host", [])
        name = _split(f"//{hosts[0]}").hostname if len(hosts) == 1 else None
        if not name or not (self.server.token or is_local(name)):
            raise _Refused(HTTPStatus.FORBIDDEN, "the study is not served under this name")

    def _route(self) -> str:
        """Returns the path below the study's own."""
        path = _split(self.path).path.removeprefix("/")
        if not self.server.token:
            return path
        token, _, rest = path.partition("/")
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise _Refused(HTTPStatus.NOT_FOUND, "no such page")
        return rest

    def _get(self, path: str) -> None:
        presentation = self.server.presentation
        if path in self.server.files:
            self._send(*self.server.files[path])
        elif found := _SESSION.fullmatch(path):
            self._send_json(self._session(found[1]))
        elif found := _PICTURE.fullmatch(path):
            participant, position, place = found.groups()
            sample = self._sample(participant, int(position))
            shown = presentation.shown(participant, sample)
            if place == INPUT:
                data = self.server.picture(sample, None)
            elif int(place) < len(shown):
                data = self.server.picture(sample, shown[int(place)])
            else:
                raise _Refused(HTTPStatus.NOT_FOUND, "no such picture")
            self._send(data, "image/png", "private, max-age=3600")
        else:
            raise _Refused(HTTPStatus.NOT_FOUND, "no such page")

    def _session(self, participant: str) -> dict[str, Any]:
        """What the page needs: how much there is, and the rankings so far as screen places."""
        presentation, votes = self.server.presentation, self.server.votes
        rankings = {vote.sample: vote.ranking for vote in votes.latest(participant)}
        samples = []
        for name in presentation.order(participant):
            width, height = presentation.samples[name].size
            shown = presentation.shown(participant, name)
            ranking = [shown.index(method) for method in rankings.get(name, ())]
            samples.append({"width": width, "height": height, "ranking": ranking})
        return {
            "study": votes.study,
            "labels": LABELS[: len(presentation.methods)],
            "input": presentation.has_input,
            "samples": samples,
        }

    def _post(self, path: str) -> None:
        if path != "vote":
            raise _Refused(HTTPStatus.NOT_FOUND, "no such page")
        self._check_origin()
        vote = self._read_json()
        presentation, votes = self.server.presentation, self.server.votes
        if set(vote) != {"study", "participant", "position", "ranking"}:
            raise _Refused(HTTPStatus.BAD_REQUEST, "a vote has other fields")
        participant, position, ranking = vote["participant"], vote["position"], vote["ranking"]
        if vote["study"] != votes.study:
            raise _Refused(HTTPStatus.CONFLICT, "this page is of another study; load it again")
        if not isinstance(participant, str) or not _PARTICIPANT.fullmatch(participant):
            raise _Refused(HTTPStatus.BAD_REQUEST, "participant is no id")
        if type(position) is not int:
            raise _Refused(HTTPStatus.BAD_REQUEST, "position is no integer")
        sample = self._sample(participant, position)
        shown = presentation.shown(participant, sample)
        if not _is_permutation(ranking, len(shown)):
            raise _Refused(HTTPStatus.BAD_REQUEST, "ranking does not name every result once")
        ranked = tuple(shown[place] for place in ranking)
        try:
            receipt = votes.add(Vote(participant, sample, ranked, shown))
        except NotStored as error:
            say(f"a vote was NOT stored: {error}")
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the vote was not stored") from error
        # Neither method nor sample: participants may sit in front of this terminal.
        what = "changes" if receipt.changed else "ranks"
        say(
            f"vote {receipt.votes}: participant {participant[:6]} {what} picture {position + 1}"
            f" of {presentation.count} ({receipt.participants} so far)"
        )
        self._send_json({"stored": True})

    def _sample(self, participant: str, position: int) -> str:
        order = self.server.presentation.order(participant)
        if not 0 <= position < len(order):
            raise _Refused(HTTPStatus.NOT_FOUND, "no such position")
        return order[position]

    def _check_origin(self) -> None:
        """Refuses votes that another site's page sends."""
        origin, host = self.headers.get_all("Origin", []), self.headers["Host"]
        if origin not in ([f"http://{host}"], [f"https://{host}"]):
            raise _Refused(HTTPStatus.FORBIDDEN, "votes are taken from the study's own page only")

    def _read_json(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a vote is application/json")
        lengths = self.headers.get_all("Content-Length", [])
        if len(lengths) != 1 or "Transfer-Encoding" in self.headers:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "a vote has one Content-Length")
        if not re.fullmatch(r"[0-9]{1,9}", lengths[0]):
            raise _Refused(HTTPStatus.BAD_REQUEST, "Content-Length is no number")
        if int(lengths[0]) > MAX_BODY:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"over {MAX_BODY} bytes")
        try:
            value = json.loads(self.rfile.read(int(lengths[0])))
        except (ValueError, RecursionError) as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, "the body is no JSON") from error
        if not isinstance(value, dict):
            raise _Refused(HTTPStatus.BAD_REQUEST, "a vote is an object")
        return value

    def _send_json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(value).encode(), "application/json", status=status)

    def _send(
        self,
        data: bytes,
        content_type: str,
        caching: str = "no-store",
        status: HTTPStatus = HTTPStatus.OK,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", caching)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise _Refused(HTTPStatus.BAD_REQUEST, "no address") from error


def _is_permutation(value: object, size: int) -> bool:
    """Whether a value from JSON is a list of the integers below `size`, each once."""
    if not isinstance(value, list) or any(type(item) is not int for item in value):
        return False
    return sorted(value) == list(range(size))
