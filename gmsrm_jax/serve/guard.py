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

from gmsrm_jax.runtime.local_address import is_local
from gmsrm_jax.serve.limits import Limits, Refused
from gmsrm_jax.serve.messages import FILE_PATH, Answer, Body, Headers
from gmsrm_jax.serve.storage import Storage

COOKIE = "gmsrm_session"
_JOIN = "/gradio_api/queue/join"
_ID = "[0-9A-Za-z_-]{1,64}"
_GET = re.compile(
    rf"/|/healthz|/docs|/openapi\.json|/login|/config|/theme\.css|/favicon\.ico|/manifest\.json"
    rf"|/(assets|static|svelte)/[\w./ @+-]+"
    rf"|/gradio_api/(startup-events|queue/data|upload_progress|heartbeat/{_ID}|file=.+)"
)
_POST = re.compile(r"/login|/api/v1/inpaint|/gradio_api/(upload|queue/join|cancel|reset)")
# Answered without a token; browsers ask for the last two without a cookie.
_OPEN = ("/login", "/favicon.ico", "/manifest.json")
_SMALL_BODY = 1 << 20  # bytes; forms and lists of names
_UPLOAD = "/gradio_api/upload"
_LARGE_BODIES = ("/api/v1/inpaint", _UPLOAD)


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
        headers = Headers(scope)
        body = Body(receive, limit, self._closing)
        answer = Answer(send, body, path)
        room = contextlib.ExitStack()
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
            if path == _UPLOAD:
                # A body in chunks does not say how long it will be.
                chunked = headers.one("transfer-encoding", "") != ""
                size = limit if chunked else int(length)
                room.enter_context(self._storage.expecting(size))
        except Refused as refusal:
            if refusal.status == HTTPStatus.SEE_OTHER:
                await answer.redirect("/login")
                return
            if headers.one("expect", "") == "":
                await body.discard()
            await answer.refuse(refusal)
            return
        with room, contextlib.suppress(ClientDisconnect):
            if path == _UPLOAD:
                with contextlib.suppress(OSError):  # what cannot be deleted now is tried again
                    await asyncio.to_thread(self._storage.sweep)
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

    def _check(self, scope: Scope, headers: "Headers") -> None:
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
        file = path.removeprefix(FILE_PATH)
        if ".." in path.split("/"):
            known = None
        if not known or (file != path and not self._storage.holds(file)):
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _admitted(self, headers: "Headers") -> bool:
        scheme, _, token = headers.one("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.knows(token.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.one("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        value = cookie.value if cookie else ""
        return hmac.compare_digest(value.encode(), self.session.encode())

    async def _checked_join(self, body: "Body") -> Receive:
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
