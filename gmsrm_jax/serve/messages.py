"""A request's body and its answer as ASGI messages, on their way through the guard."""

import asyncio
import json
from http import HTTPStatus
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from gmsrm_jax.serve.limits import Refused

FILE_PATH = "/gradio_api/file="
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


class Headers:
    """A request's headers."""

    def __init__(self, scope: Scope):
        """Reads them."""
        self._all = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def one(self, name: str, default: str) -> str:
        """The header's value; of one that is given twice, nothing that is ever accepted."""
        found = [value for key, value in self._all if key == name.encode()]
        return default if not found else found[0] if len(found) == 1 else "\0"


class Body:
    """A body that is counted while it is read.

    Attributes:
        refusal: set when it was too large.
    """

    def __init__(self, receive: Receive, limit: int, closing: asyncio.Event):
        """Stands before `receive`.

        Args:
            receive: where the pieces come from.
            limit: bytes.
            closing: set when the server ends.
        """
        self._receive, self._limit, self._closing = receive, limit, closing
        self._read = 0
        self._over = False
        self.refusal: Refused | None = None

    def too_large(self) -> Refused:
        """Makes the refusal of a body over the limit."""
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
            await self.discard()
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

    async def discard(self) -> None:
        """Reads on for a while without keeping anything."""
        end = asyncio.get_running_loop().time() + _LINGER_SECONDS
        seen = 0
        while not self._over and seen < self._limit * _LINGER_BODIES:
            left = end - asyncio.get_running_loop().time()
            try:
                message = await asyncio.wait_for(self._receive(), max(0.0, left))
            except TimeoutError:
                return
            self._over = message["type"] != "http.request" or not message.get("more_body", False)
            seen += len(message.get("body", b""))


class Answer:
    """The answer on its way out, with the headers that every answer has.

    Attributes:
        begun: something of it is sent.
    """

    def __init__(self, send: Send, body: Body, path: str):
        """Stands before `send`.

        Args:
            send: where the pieces go.
            body: of the request.
            path: that was asked for.
        """
        self._send, self._body = send, body
        self._is_file = path.startswith(FILE_PATH)
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
