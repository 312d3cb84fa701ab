"""Exported networks from a web server: HTTPS, checked sums, resumed, whole or not at all."""

import contextlib
import fcntl
import hashlib
import http.client
import os
import pathlib
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from gmsrm_jax.networks.card import CARD_FILE, MAX_CARD_BYTES
from gmsrm_jax.networks.fields import CONFIG_FILE, MAX_CONFIG_BYTES
from gmsrm_jax.networks.folder import MODEL_FILE
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import file_sha256, user_cache, write_atomically
from gmsrm_jax.runtime.sha256sums import MAX_SUMS_BYTES, SUMS_FILE, parse_sums

MAX_BYTES = {
    SUMS_FILE: MAX_SUMS_BYTES,
    CONFIG_FILE: MAX_CONFIG_BYTES,
    MODEL_FILE: 8 << 30,
    CARD_FILE: MAX_CARD_BYTES,
}
TIMEOUT_SECONDS = 30.0
_TRIES = 3
_CHUNK = 1 << 20
_LOCAL = ("localhost", "127.0.0.1", "::1")
_PIN = "sha256="


def is_url(name: str) -> bool:
    """Whether a name is meant as an address on the web."""
    return name.lower().startswith(("https://", "http://"))


def is_offline() -> bool:
    """Whether GMSRM_OFFLINE says that the net is not to be used."""
    return os.environ.get("GMSRM_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def cache_folder() -> pathlib.Path:
    """Where downloaded networks are kept, for their owner only; made if it is missing.

    Raises:
        UserError: it cannot be made.
    """
    folder = user_cache() / "weights"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made ({error.strerror}); set XDG_CACHE_HOME to another folder"
        ) from error
    return folder


def download_weights(
    url: str, offline: bool = False, allow_local_http: bool = False
) -> pathlib.Path:
    """Fetches an exported network, or finds it among those fetched before.

    SHA256SUMS is fetched first, then the files it lists; each has to have its sum. With the sum of
    SHA256SUMS in the address nothing on the way, nor the server, can give other weights; without it
    one trusts the server.

    Args:
        url: of the folder, https://HOST/PATH, where "#sha256=HEX" gives the sum of SHA256SUMS.
        offline: take only what was fetched before.
        allow_local_http: let http:// reach this machine, for tests.

    Returns:
        The folder in the cache; its name is the sum of its SHA256SUMS.

    Raises:
        UserError: another protocol, no answer, other contents than expected, or not there offline.
    """
    base, pin = _split(url, allow_local_http)
    cache = cache_folder()
    last = cache / f"{hashlib.sha256(base.encode()).hexdigest()[:32]}.last"
    known = pin or (last.read_text(encoding="ascii").strip() if last.exists() else None)
    if known and (pin or offline) and (cache / known).is_dir():
        return cache / known
    if offline:
        raise UserError(f"{url}: was not fetched before; fetch it once without --offline")
    server = _Server(base, allow_local_http)
    text = server.small_file(SUMS_FILE)
    found = hashlib.sha256(text).hexdigest()
    if pin not in (None, found):
        raise UserError(
            f"{base}/{SUMS_FILE}: SHA-256 is {found}, the address says {pin}; the weights there "
            "are others than those that the address was made for"
        )
    folder = cache / found
    if not folder.is_dir():
        try:
            _fetch_folder(server, text, folder)
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from error
    write_atomically(last, f"{found}\n".encode())
    return folder


def _split(url: str, allow_local_http: bool) -> tuple[str, str | None]:
    """The address without its fragment and last slash, and the sum that the fragment gives."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise UserError(f"{url}: is no address ({error})") from error
    _check_protocol(url, allow_local_http)
    if not host or parts.username or parts.query:
        raise UserError(f"{url}: write https://HOST/FOLDER, without user name and query")
    pin = parts.fragment.lower() or None
    if pin is not None:
        digits = pin.removeprefix(_PIN)
        if digits == pin or len(digits) != 64 or set(digits) - set("0123456789abcdef"):
            raise UserError(f"{url}: behind the # write sha256= and 64 hexadecimal digits")
        pin = digits
    return urllib.parse.urlunsplit(parts._replace(fragment="")).rstrip("/"), pin


def _check_protocol(url: str, allow_local_http: bool) -> None:
    parts = urllib.parse.urlsplit(url)
    local = parts.scheme == "http" and allow_local_http and parts.hostname in _LOCAL
    if parts.scheme != "https" and not local:
        raise UserError(f"{url}: weights are fetched by https:// only")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections that stay encrypted."""

    def __init__(self, allow_local_http: bool):
        self._allow_local_http = allow_local_http

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        _check_protocol(newurl, self._allow_local_http)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Lost(Exception):
    """The connection failed or ended early; another try may help."""


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    """Turns what a connection can raise into _Lost."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _Lost(" ".join(str(getattr(error, "reason", error)).split())[:150]) from error


class _Server:
    """A folder on a web server."""

    def __init__(self, base: str, allow_local_http: bool):
        self.base = base
        self._opener = urllib.request.build_opener(_Redirects(allow_local_http))

    def small_file(self, name: str) -> bytes:
        """The contents of a file."""
        for _ in range(_TRIES):
            try:
                with self._open(name, 0) as (response, _, _):
                    return b"".join(_chunks(response, MAX_BYTES[name], f"{self.base}/{name}"))
            except _Lost as lost:
                reason = str(lost)
        raise UserError(f"{self.base}/{name}: cannot be fetched ({reason}); check the connection")

    def fetch(self, name: str, sha256: str, limit: int, target: pathlib.Path) -> None:
        """Fetches a file; what came before a lost connection is kept in NAME.part and gone on with.

        Raises:
            UserError: it cannot be fetched, is larger than `limit` or has another sum.
        """
        part = target.with_name(f"{name}.part")
        url, reason = f"{self.base}/{name}", ""
        for _ in range(_TRIES):
            before = part.stat().st_size if part.exists() else 0
            if not before or file_sha256(part) != sha256:
                try:
                    before = self._append(name, part, before, limit)
                except _Lost as lost:
                    reason = str(lost)
                    continue
            found = file_sha256(part)
            if found == sha256:
                part.replace(target)
                return
            part.unlink()
            if not before:
                raise UserError(
                    f"{url}: SHA-256 is {found}, {SUMS_FILE} says {sha256}; tell who runs the "
                    "server"
                )
            reason = "it changed on the server"
        raise UserError(
            f"{url}: cannot be fetched ({reason}); run this again to go on from what came"
        )

    def _append(self, name: str, part: pathlib.Path, start: int, limit: int) -> int:
        """Goes on with a part from byte `start`, or anew; returns where it really began."""
        with self._open(name, start) as (response, start, total):
            chunks = _chunks(response, limit - start, f"{self.base}/{name}")
            bar = tqdm(
                desc=name, initial=start, total=total, unit="B", unit_scale=True, disable=None
            )
            with part.open("ab" if start else "wb") as file, bar:
                for chunk in chunks:
                    file.write(chunk)
                    bar.update(len(chunk))
        return start

    @contextlib.contextmanager
    def _open(self, name: str, start: int) -> Iterator[tuple[Any, int, int | None]]:
        """Asks for a file from a byte on: the response, its first byte, the file's size."""
        url = f"{self.base}/{name}"
        headers = {"Accept-Encoding": "identity", "User-Agent": "gmsrm-jax"}
        if start:
            headers["Range"] = f"bytes={start}-"
        request = urllib.request.Request(url, headers=headers)
        try:
            with _network_errors():
                response = self._opener.open(request, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
                with self._open(name, 0) as anew:
                    yield anew
                return
            if error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
                raise _Lost(f"HTTP status {error.code}") from error
            raise UserError(
                f"{url}: HTTP status {error.code} ({error.reason}); check the address"
            ) from error
        with response:
            begins = f"bytes {start}-"
            if response.status != http.HTTPStatus.PARTIAL_CONTENT or not start:
                start = 0
            elif not response.headers.get("Content-Range", "").startswith(begins):
                raise _Lost("the server sent another part of the file than asked for")
            length = response.headers.get("Content-Length", "")
            yield response, start, start + int(length) if length.isdecimal() else None


def _chunks(response: Any, limit: int, url: str) -> Iterator[bytes]:
    """The body of a response, which must be complete and not above `limit` bytes."""
    length, count = response.headers.get("Content-Length", ""), 0
    expected = int(length) if length.isdecimal() else None
    while expected is None or count < expected:
        if max(expected or 0, count) > limit:
            raise UserError(f"{url}: has more bytes than such a file may have; check the address")
        with _network_errors():
            chunk = response.read(_CHUNK)
        if not chunk:
            break
        count += len(chunk)
        yield chunk
    if expected is not None and count < expected:
        raise _Lost(f"it ended after {count} of {expected} bytes")


def _fetch_folder(server: _Server, text: bytes, folder: pathlib.Path) -> None:
    """Fetches the files that SHA256SUMS lists and this program reads, then names the folder."""
    sums = parse_sums(text, f"{server.base}/{SUMS_FILE}", "tell who runs the server")
    names = [name for name in MAX_BYTES if name != SUMS_FILE]
    missing = ", ".join(name for name in names if name not in sums)
    if missing:
        raise UserError(f"{server.base}/{SUMS_FILE}: does not list {missing}; check the address")
    part = folder.with_name(f"{folder.name}.part")
    with _lock(folder.with_name("download.lock")):
        if folder.is_dir():
            return
        print(f"gmsrm: fetching {server.base} to {folder}", file=sys.stderr)
        part.mkdir(exist_ok=True, mode=0o700)
        for name in names:
            if not (part / name).exists():
                server.fetch(name, sums[name], MAX_BYTES[name], part / name)
        write_atomically(part / SUMS_FILE, text)
        part.replace(folder)


@contextlib.contextmanager
def _lock(path: pathlib.Path) -> Iterator[None]:
    """Lets one process of this machine at a time fetch."""
    with path.open("a", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("gmsrm: another process is fetching weights; waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
