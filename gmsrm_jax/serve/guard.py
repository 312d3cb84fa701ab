"""What every request passes before anything else sees it: an ASGI application around another.

Refused are names of the server that are not its own (DNS rebinding), other sites' requests,
requests without the token, paths that neither the page nor the REST call needs, and bodies that are
too large, while they are read. No answer lets another site read it.
"""

import asyncio
import contextlib
import hmac
import json
import re
import secrets
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gmsrm_jax.serve.limits import Limits, Refused
from gmsrm_jax.serve.storage import Storage
from gmsrm_jax.study.server import is_local

COOKIE = "gmsrm_session"
_FILE = "/gradio_api/file="
_JOIN = "/gradio_api/queue/join"
_ID = "[0-9A-Za-z_-]{1,64}"
_GET = re.compile(
    rf"/|/healthz|/docs|/openapi\.json|/login|/config|/theme\.css|/favicon\.ico|/manifest\.json"
    rf"|/(assets|static|svelte)/[\w./ @+-]+"
    rf"|/gradio_api/(startup-events|queue/data|upload_progress|heartbeat/{_ID}|file=.+)"
)
_POST = re.compile(r"/login|/api/v1/inpaint|/gradio_api/(upload|queue/join|cancel|reset)")
_OPEN = ("/login",)  # answered without a token
_SMALL_BODY = 1 << 20  # bytes; forms and lists of names
_LARGE_BODIES = ("/api/v1/inpaint", "/gradio_api/upload")
# Seconds, and bytes in units of the limit, that a refused body is still read, so that its sender
# reads the answer instead of a broken connection.
_LINGER_SECONDS, _LINGER_BODIES = 5.0, 2
# Gradio has scripts in its page, and its editor's drawing library makes functions of text.
_PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval';"
    " style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:;"
    " worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self';"
    " frame-ancestors 'none'"
)
_FILE_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """An ASGI application that lets through what another one should answer.

    Attributes:
        session: the cookie's value for browsers that gave the token.
    """

    def __init__(self, app: ASGIApp, limits: Limits, storage: Storage, token: str):
        """Stands before `app`.

        Args:
            app: what answers.
            limits: of the bodies.
            storage: the only folder of which files are given out.
            token: that every request must bring; "" for none, then the server must be called by a
                name that reaches only its own machine.
        """
        self._app, self._limits, self._storage, self._token = app, limits, storage, token
        self.session = secrets.token_urlsafe(32)
        self._closing = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or has it answered."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        path = scope["path"]
        limit = self._limits.upload_bytes if path in _LARGE_BODIES else _SMALL_BODY
        headers = _Headers(scope)
        body = _Body(receive, limit, self._closing)
        answer = _Answer(send, body, path)
        try:
            self._check(scope, headers)
            length = headers.one("content-length", "0")
            if not re.fullmatch(r"[0-9]{1,15}", length):
                raise Refused(HTTPStatus.BAD_REQUEST, "Content-Length is no number")
            if int(length) > limit:
                raise body.too_large()
            if path == _JOIN:
                receive = await self._checked_join(body)
            else:
                receive = body.receive
        except Refused as refusal:
            if refusal.status == HTTPStatus.SEE_OTHER:
                await answer.redirect("/login")
                return
            if headers.one("expect", "") == "":
                await body.discard(limit * _LINGER_BODIES)
            await answer.refuse(refusal)
            return
        with contextlib.suppress(ClientDisconnect):
            await self._app(scope, receive, answer.send)
        if body.refusal and not answer.begun:
            await answer.refuse(body.refusal)
        await answer.end()

    def close(self) -> None:
        """Tells every answer that is still being sent, as a page's events are, to end."""
        self._closing.set()

    def knows(self, token: str) -> bool:
        """Whether this is the token, compared in constant time."""
        return hmac.compare_digest(token.encode(), self._token.encode())

    def _check(self, scope: Scope, headers: "_Headers") -> None:
        """Raises what a request is refused for by its first lines."""
        host = headers.one("host", "")
        name = _hostname(f"//{host}")
        if not name or not (self._token or is_local(name)):
            raise Refused(HTTPStatus.FORBIDDEN, "this server has another name")
        method, path = scope["method"], scope["path"]
        if method in ("GET", "HEAD"):
            known = _GET.fullmatch(path)
        elif method == "POST":
            origin = headers.one("origin", f"http://{host}")
            if origin not in (f"http://{host}", f"https://{host}"):
                raise Refused(HTTPStatus.FORBIDDEN, "other sites may not use this server")
            known = _POST.fullmatch(path)
        else:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not answered here")
        if self._token and path not in _OPEN and not self._admitted(headers):
            if path == "/":
                raise Refused(HTTPStatus.SEE_OTHER, "log in")
            raise Refused(HTTPStatus.UNAUTHORIZED, "give the token: Authorization: Bearer TOKEN")
        if not known and (_GET.fullmatch(path) or _POST.fullmatch(path)):
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not answered at {path}")
        file = path.removeprefix(_FILE)
        if not known or (file != path and not self._storage.holds(file)):
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _admitted(self, headers: "_Headers") -> bool:
        scheme, _, token = headers.one("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.knows(token.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.one("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        value = cookie.value if cookie else ""
        return hmac.compare_digest(value.encode(), self.session.encode())

    async def _checked_join(self, body: "_Body") -> Receive:
        """Reads what the page sends, and refuses names of files that are not the server's own.

        Gradio would fetch a file whose name is an address.
        """
        data = await body.read()
        try:
            _check_files(json.loads(data), self._storage)
        except (ValueError, RecursionError) as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "the body is no JSON") from error
        messages: list[Message] = [{"type": "http.request", "body": data, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await body.receive()

        return replay


class _Headers:
    def __init__(self, scope: Scope):
        self._all = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def one(self, name: str, default: str) -> str:
        """The header's value; of one that is given twice, nothing that is ever accepted."""
        found = [value for key, value in self._all if key == name.encode()]
        return default if not found else found[0] if len(found) == 1 else "\0"


class _Body:
    """A body that is counted while it is read.

    Attributes:
        refusal: set when it was too large.
    """

    def __init__(self, receive: Receive, limit: int, closing: asyncio.Event):
        self._receive, self._limit, self._closing = receive, limit, closing
        self._read = 0
        self._over = False
        self.refusal: Refused | None = None

    def too_large(self) -> Refused:
        return Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the request has more than {self._limit} bytes"
        )

    async def receive(self) -> Message:
        """Passes a piece on; a body that is too large ends as if its sender had left."""
        if self.refusal:
            return {"type": "http.disconnect"}
        message = await (self._gone() if self._over else self._receive())
        if message["type"] != "http.request":
            self._over = True
            return message
        self._over = not message.get("more_body", False)
        self._read += len(message.get("body", b""))
        if self._read > self._limit:
            self.refusal = self.too_large()
            await self.discard(self._limit * _LINGER_BODIES)
            return {"type": "http.disconnect"}
        return message

    async def _gone(self) -> Message:
        """Waits until the sender has left, or the server ends."""
        left = asyncio.ensure_future(self._receive())
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((left, closing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
            closing.cancel()
        return {"type": "http.disconnect"}

    async def read(self) -> bytes:
        """Returns all of it.

        Raises:
            Refused: it is too large, or did not come whole.
        """
        pieces = []
        while not self._over:
            message = await self.receive()
            if self.refusal:
                raise self.refusal
            if message["type"] != "http.request":
                raise Refused(HTTPStatus.BAD_REQUEST, "the request did not come whole")
            pieces.append(message.get("body", b""))
        return b"".join(pieces)

    async def discard(self, most: int) -> None:
        """Reads on for a while without keeping anything."""
        end = asyncio.get_running_loop().time() + _LINGER_SECONDS
        seen = 0
        while not self._over and seen < most:
            left = end - asyncio.get_running_loop().time()
            try:
                message = await asyncio.wait_for(self._receive(), max(0.0, left))
            except TimeoutError:
                return
            self._over = message["type"] != "http.request" or not message.get("more_body", False)
            seen += len(message.get("body", b""))


class _Answer:
    """The answer on its way out, with the headers that every answer has.

    Attributes:
        begun: something of it is sent.
    """

    def __init__(self, send: Send, body: _Body, path: str):
        self._send, self._body = send, body
        self._is_file = path.startswith(_FILE)
        self._replaced = self._ended = self.begun = False

    async def send(self, message: Message) -> None:
        """Sends a piece; what the application says of a body that was too large is replaced."""
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            if self._body.refusal:
                self._replaced = True
                await self.refuse(self._body.refusal)
                return
            self.begun = True
            message = {**message, "headers": self._headers(message.get("headers", ()))}
        elif message["type"] == "http.response.body":
            self._ended = not message.get("more_body", False)
        await self._send(message)

    async def end(self) -> None:
        """Ends an answer that was begun and not ended."""
        if self.begun and not self._ended:
            await self._send({"type": "http.response.body", "body": b""})

    async def refuse(self, refusal: Refused) -> None:
        """Sends a refusal."""
        data = json.dumps({"error": str(refusal)}).encode()
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        if refusal.retry_after is not None:
            headers.append((b"retry-after", str(refusal.retry_after).encode()))
        if refusal.status == HTTPStatus.UNAUTHORIZED:
            headers.append((b"www-authenticate", b"Bearer"))
        await self._whole(refusal.status, headers, data)

    async def redirect(self, path: str) -> None:
        """Sends the browser elsewhere."""
        await self._whole(HTTPStatus.SEE_OTHER, [(b"location", path.encode())], b"")

    async def _whole(self, status: int, headers: list, data: bytes) -> None:
        self.begun = self._ended = True
        headers = [*headers, (b"content-length", str(len(data)).encode())]
        headers = self._headers(headers)
        start = {"type": "http.response.start", "status": int(status), "headers": headers}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": data})

    def _headers(self, headers: Any) -> list[tuple[bytes, bytes]]:
        kept = [(k, v) for k, v in headers if not k.lower().startswith(b"access-control-")]
        ours = {**_HEADERS, "Content-Security-Policy": _PAGE_POLICY}
        if self._is_file:
            ours["Content-Security-Policy"] = _FILE_POLICY
        present = {key.lower() for key, _ in kept}
        return kept + [
            (key.lower().encode(), value.encode())
            for key, value in ours.items()
            if key.lower().encode() not in present
        ]


def _check_files(value: Any, storage: Storage) -> None:
    """Looks through what the page sends for names of files."""
    if isinstance(value, list):
        for item in value:
            _check_files(item, storage)
    elif isinstance(value, dict):
        path = value.get("path")
        if path is not None and not (isinstance(path, str) and storage.holds(path)):
            raise Refused(HTTPStatus.FORBIDDEN, "a file that this server did not make")
        for item in value.values():
            _check_files(item, storage)


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
