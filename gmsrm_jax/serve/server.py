"""Listening, answering, and ending cleanly."""

import os
import signal
import socket
import sys
from types import FrameType

import uvicorn

from gmsrm_jax.errors import UserError
from gmsrm_jax.serve.guard import Guard

_END_SECONDS = 1  # for answers that are under way
_CONNECTIONS = 256


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
        except OSError:
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
    """Returns the page's address."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{opened.getsockname()[1]}/"


def serve(app: Guard, opened: socket.socket) -> None:
    """Answers until Ctrl-C or SIGTERM."""
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
    _Server(config, app).run([opened])


class _Server(uvicorn.Server):
    """A server that tells its application at once when it is to end."""

    def __init__(self, config: uvicorn.Config, guard: Guard):
        super().__init__(config)
        self._guard = guard

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Notes a signal."""
        self._guard.close()
        super().handle_exit(sig, frame)


def interrupt_on_terminate() -> None:
    """Makes SIGTERM the same as Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def leave() -> None:
    """Ends the process at once: a thread of its own may still be filling a hole."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
