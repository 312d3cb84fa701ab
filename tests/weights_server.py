"""A web server on this machine that gives a folder, and misbehaves as it is told."""

import collections
import contextlib
import http.server
import pathlib
import re
import ssl
import threading
from collections.abc import Iterator


class Behaviour:
    """What the server does, and what it was asked for.

    Attributes:
        folder: whose files it gives.
        ranges: whether it honours Range.
        cut: by file name, after how many bytes of an answer the connection is cut, in turn.
        status: by file name, error statuses to give first.
        redirect: where to send every request instead.
        silent: leave Content-Length out.
        requests: (file name, Range header) of each request.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.ranges = True
        self.cut: dict[str, list[int]] = collections.defaultdict(list)
        self.status: dict[str, list[int]] = collections.defaultdict(list)
        self.redirect: str | None = None
        self.silent = False
        self.requests: list[tuple[str, str | None]] = []


@contextlib.contextmanager
def serving(
    folder: pathlib.Path, certificate: pathlib.Path | None = None
) -> Iterator[tuple[str, Behaviour]]:
    """Serves a folder as .../weights/facades; yields the address and the behaviour."""
    behaviour = Behaviour(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.rsplit("/", 1)[-1]
            asked = self.headers.get("Range")
            behaviour.requests.append((name, asked))
            if behaviour.redirect is not None and not self.path.startswith("/moved"):
                return self._end(302, Location=f"{behaviour.redirect}/{name}")
            if behaviour.status[name]:
                return self._end(behaviour.status[name].pop(0))
            path = behaviour.folder / name
            if not path.is_file():
                return self._end(404)
            data, status, extra = path.read_bytes(), 200, {}
            if asked and behaviour.ranges:
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                if start >= len(data):
                    return self._end(416)
                extra = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
                data, status = data[start:], 206
            self.send_response(status)
            if not behaviour.silent:
                self.send_header("Content-Length", str(len(data)))
            for key, value in extra.items():
                self.send_header(key, value)
            self.end_headers()
            cut = behaviour.cut[name].pop(0) if behaviour.cut[name] else None
            self.wfile.write(data if cut is None else data[:cut])
            self.close_connection = cut is not None or behaviour.silent
            return None

        def _end(self, status: int, **headers: str) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": "0", **headers}.items():
                self.send_header(key, value)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Stays quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        scheme = "http" if certificate is None else "https"
        yield f"{scheme}://localhost:{server.server_port}/weights/facades", behaviour
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
