"""A running `gmsrm serve`, or parts of it, for tests."""

import base64
import contextlib
import http.client
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import uvicorn
from PIL import Image

PATIENCE = 60  # seconds
INPAINT = "/api/v1/inpaint"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def pixels(self) -> np.ndarray:
        assert self.status == 200, self.body
        return decoded(self.body)

    @property
    def error(self) -> str:
        """The message, checked to be one line for people."""
        message = self.json["error"]
        assert self.json == {"error": message}
        assert "\n" not in message and "Traceback" not in message
        return message


class Run:
    """A running server.

    Attributes:
        process: what runs.
        line: what it printed when it answered.
        port: where it listens.
    """

    def __init__(self, process: subprocess.Popen, host: str):
        self.process = process
        assert process.stdout.readline().startswith("starting: ")
        self.line = process.stdout.readline()
        self.port = int(re.search(r"http://[^/]*:(\d+)/", self.line)[1])
        self.url = f"http://{host}:{self.port}/"

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Ends it; returns the exit status and the seconds that it took."""
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(PATIENCE)
        return self.process.returncode, time.monotonic() - start

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def running(checkpoint: pathlib.Path, temporary: pathlib.Path, *more: str) -> Iterator[Run]:
    """Runs the command, its temporary files in a folder of the test's."""
    command = [sys.executable, "-m", "gmsrm_jax.cli", "serve", "--checkpoint", str(checkpoint)]
    command += ["--port", "0", "--device", "cpu", *more]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield Run(process, "127.0.0.1")
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def answering(app: Any) -> Iterator[int]:
    """Runs an ASGI application in a thread; yields the port."""
    config = uvicorn.Config(app, port=0, http="h11", log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def ask(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> Answer:
    """Sends one request; a dict as the body is sent as JSON."""
    headers = dict(headers or {})
    if isinstance(body, dict):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers, **options)
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())


def fill_by_rest(port: int, **fields: Any) -> Answer:
    return ask(port, "POST", INPAINT, fields)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth made-up picture, uint8 [height, width, 3]."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def hole(height: int, width: int) -> np.ndarray:
    """A rectangle and a line in the middle, bool [height, width]."""
    mask = np.zeros((height, width), bool)
    mask[height // 3 : height // 2, width // 4 : width // 2] = True
    mask[height // 2, width // 8 : width - width // 8] = True
    return mask


def encoded(pixels: np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()
