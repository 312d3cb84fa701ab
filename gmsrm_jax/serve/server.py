"""Answering, and ending cleanly."""

import os
import signal
import socket
import sys
from types import FrameType

import uvicorn

from gmsrm_jax.serve.guard import Guard

_END_SECONDS = 1  # for answers that are under way
_CONNECTIONS = 256


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
