"""What the package's web servers share: where they listen, whom they answer, how they end.

Starlette and uvicorn do the work; both come with the extra `serve`.
"""

import asyncio
import contextlib
import importlib.util
import ipaddress
import logging
import signal
import socket
from collections.abc import Sequence
from http import HTTPStatus
from types import FrameType
from typing import Any

from gmsrm_jax.runtime.errors import UserError

# Names by which only this machine reaches itself.
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
_EVERY_INTERFACE = ("0.0.0.0", "::")
_CONNECTIONS = 256
_END_SECONDS = 1  # for answers that are under way
# For which the body of a refused request is read on, so that its sender, who would find the
# connection broken while sending, reads the answer.
_READ_ON_SECONDS = 5
_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def check_installed(command: str, *packages: str) -> None:
    """Raises UserError if one of the packages of the extra `serve` is missing."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"{command} needs {package}, which is not installed; pip install -r"
                " requirements/serve.txt, or 'gmsrm-jax[serve]', which brings TensorFlow, too"
            )


def is_local(host: str) -> bool:
    """Whether a name or address reaches only the machine it is used on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Opens the address; port 0 takes any that is free.

    Raises:
        UserError: it cannot be opened.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        opened = socket.socket(family)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind((host, port))
            opened.listen(128)
        except (OSError, UnicodeError, OverflowError):
            opened.close()
            raise
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host={host} --port={port}: cannot be opened ({reason}); give another --port, 0 for"
            " any that is free"
        ) from error
    return opened


def address(opened: socket.socket, host: str) -> str:
    """Returns the URL, with a slash at its end, under which browsers find what was opened."""
    name = socket.gethostname() if host in _EVERY_INTERFACE else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{opened.getsockname()[1]}/"


def names_of(host: str, token: str) -> list[str]:
    """Returns the names under which a server is asked for.

    Any will do with a token. Without one they are those of this machine, so that no other site's
    page can reach the server by giving its own name this machine's address (DNS rebinding).

    Args:
        host: what the server listens on.
        token: what every request must bring, "" for nothing.
    """
    return ["*"] if token else [*LOCAL_NAMES, f"[{host}]" if ":" in host else host]


def middleware(names: Sequence[str], policy: str, max_body: int) -> list[Any]:
    """Returns what stands before an application of Starlette or FastAPI, the first outermost.

    Args:
        names: under which it is asked for; other hosts get 400.
        policy: Content-Security-Policy of every answer.
        max_body: bytes of a request; larger ones get 413.
    """
    from starlette.middleware import Middleware
    from starlette.middleware.body_limit import RequestBodyLimitMiddleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    return [
        Middleware(OwnSite, policy=policy),
        Middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False),
        Middleware(RequestBodyLimitMiddleware, max_body_size=max_body),
    ]


class OwnSite:
    """ASGI middleware: requests of other sites' pages get 403, and no answer is for such pages.

    Browsers send Origin with every request whose answer a page of another site could read, and with
    every POST.
    """

    def __init__(self, app: Any, policy: str):
        """Stands before `app`; `policy` is the Content-Security-Policy of every answer."""
        self._app = app
        self._headers = {**_HEADERS, "Content-Security-Policy": policy}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers a request, or has it answered."""
        from starlette.datastructures import Headers, MutableHeaders
        from starlette.responses import JSONResponse

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        headers = Headers(scope=scope)
        more = "expect" not in headers  # whoever waits for "100 Continue" has sent nothing

        async def read() -> Any:
            nonlocal more
            message = await receive()
            more = message.get("more_body", False)
            return message

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                if message["status"] >= HTTPStatus.BAD_REQUEST:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_READ_ON_SECONDS):
                            while more:
                                await read()
                all_headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    all_headers.setdefault(name, value)
            await send(message)

        own = [f"{scheme}://{headers.get('host')}" for scheme in ("http", "https")]
        if all(origin in own for origin in headers.getlist("origin")):
            await self._app(scope, read, answer)
        else:
            refusal = JSONResponse({"error": "other sites may not use this server"}, 403)
            await refusal(scope, read, answer)


def serve(app: Any, opened: socket.socket) -> None:
    """Has an ASGI application answer until Ctrl-C or SIGTERM, which both end it cleanly.

    Args:
        app: what answers.
        opened: see `listen`.
    """
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # Pages keep connections open; that these are cut off now is no fault to tell of.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_END_SECONDS,
    )
    Server(config).run([opened])


def interrupt_on_terminate() -> None:
    """Makes SIGTERM the same as Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
