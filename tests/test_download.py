"""Weights from a server: whole, checked and gone on with, whatever the server does."""

import hashlib
import os
import pathlib
import stat
import subprocess
import threading
from collections.abc import Iterator

import pytest
from exported_networks import change_config, exported
from weights_server import Behaviour, serving

from gmsrm_jax.networks import download, load_pretrained
from gmsrm_jax.networks.download import cache_folder, download_weights
from gmsrm_jax.runtime.errors import UserError

FILES = ["README.md", "SHA256SUMS", "config.json", "model.safetensors"]
MODEL = "model.safetensors"


@pytest.fixture(autouse=True)
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GMSRM_OFFLINE", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "gmsrm-jax" / "weights"


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return exported(tmp_path / "server")


@pytest.fixture
def server(folder: pathlib.Path) -> Iterator[tuple[str, Behaviour]]:
    with serving(folder) as found:
        yield found


def fetch(url: str, offline: bool = False) -> pathlib.Path:
    return download_weights(url, offline, allow_local_http=True)


def sum_of(folder: pathlib.Path) -> str:
    return hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest()


def same(first: pathlib.Path, second: pathlib.Path) -> bool:
    names = [sorted(path.name for path in folder.iterdir()) for folder in (first, second)]
    assert names == [FILES, FILES]
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in FILES)


def test_fetched_once_then_from_the_cache(server: tuple[str, Behaviour], cache: pathlib.Path):
    url, behaviour = server
    got = fetch(f"{url}/")
    assert same(got, behaviour.folder)
    assert got == cache / sum_of(behaviour.folder)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert [name for name, _ in behaviour.requests] == [
        "SHA256SUMS",
        "config.json",
        MODEL,
        "README.md",
    ]
    # Without a sum in the address the server is asked whether it still gives the same.
    behaviour.requests.clear()
    assert fetch(url) == got
    assert [name for name, _ in behaviour.requests] == ["SHA256SUMS"]
    # With one there is nothing to ask.
    behaviour.requests.clear()
    assert fetch(f"{url}#sha256={sum_of(got).upper()}") == got
    assert fetch(url, offline=True) == got
    assert behaviour.requests == []


def test_new_weights_on_the_server(server: tuple[str, Behaviour], folder: pathlib.Path) -> None:
    url, _ = server
    old = fetch(url)
    pinned = f"{url}#sha256={sum_of(folder)}"
    change_config(folder, lambda document: document["facts"].update(steps="2"))
    new = fetch(url)
    assert new != old
    assert same(new, folder)
    assert fetch(url, offline=True) == new
    assert fetch(pinned) == fetch(pinned, offline=True) == old


def test_pinned_sum_that_does_not_hold(server: tuple[str, Behaviour], cache: pathlib.Path) -> None:
    url, behaviour = server
    with pytest.raises(UserError, match=r"SHA256SUMS: SHA-256 is .*, the address says 0000"):
        fetch(f"{url}#sha256={'0' * 64}")
    assert [name for name, _ in behaviour.requests] == ["SHA256SUMS"]
    assert list(cache.iterdir()) == []


def test_a_lost_connection_is_gone_on_with(server: tuple[str, Behaviour]) -> None:
    url, behaviour = server
    behaviour.cut[MODEL] = [1000, 2000]
    assert same(fetch(url), behaviour.folder)
    asked = [wanted for name, wanted in behaviour.requests if name == MODEL]
    assert asked == [None, "bytes=1000-", "bytes=3000-"]


def test_a_server_that_cannot_resume(server: tuple[str, Behaviour]) -> None:
    url, behaviour = server
    behaviour.cut[MODEL], behaviour.ranges = [1000], False
    assert same(fetch(url), behaviour.folder)


def test_gone_on_with_by_a_later_run(server: tuple[str, Behaviour], cache: pathlib.Path) -> None:
    url, behaviour = server
    behaviour.cut[MODEL] = [1000, 10, 10]
    with pytest.raises(UserError, match=rf"{MODEL}: cannot be fetched .*ended after 10 of .*again"):
        fetch(url)
    final = cache / sum_of(behaviour.folder)
    assert not final.exists()
    part = final.with_name(f"{final.name}.part")
    assert (part / f"{MODEL}.part").stat().st_size == 1020
    with pytest.raises(UserError, match="was not fetched before"):
        fetch(url, offline=True)
    behaviour.requests.clear()
    assert same(fetch(url), behaviour.folder)
    assert behaviour.requests == [
        ("SHA256SUMS", None),
        (MODEL, "bytes=1020-"),
        ("README.md", None),
    ]
    assert not part.exists()


@pytest.mark.parametrize("length", [10, 10_000_000])
def test_a_part_of_something_else(
    server: tuple[str, Behaviour], cache: pathlib.Path, length: int
) -> None:
    """The file changed on the server, or the part is longer than the file."""
    url, behaviour = server
    part = cache / f"{sum_of(behaviour.folder)}.part"
    part.mkdir(parents=True)
    (part / f"{MODEL}.part").write_bytes(b"x" * length)
    assert same(fetch(url), behaviour.folder)


def test_a_complete_part_is_not_fetched_again(
    server: tuple[str, Behaviour], cache: pathlib.Path
) -> None:
    url, behaviour = server
    part = cache / f"{sum_of(behaviour.folder)}.part"
    part.mkdir(parents=True)
    (part / f"{MODEL}.part").write_bytes((behaviour.folder / MODEL).read_bytes())
    assert same(fetch(url), behaviour.folder)
    assert MODEL not in [name for name, _ in behaviour.requests]


@pytest.mark.parametrize("name", ["README.md", "config.json", MODEL])
def test_other_contents_than_the_sums_say(
    server: tuple[str, Behaviour], cache: pathlib.Path, name: str
) -> None:
    url, behaviour = server
    data = bytearray((behaviour.folder / name).read_bytes())
    data[50] ^= 4
    (behaviour.folder / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name}: SHA-256 is .*, SHA256SUMS says"):
        fetch(url)
    assert not (cache / sum_of(behaviour.folder)).exists()
    assert not list(cache.rglob(f"{name}*"))


def test_errors_of_the_server(server: tuple[str, Behaviour]) -> None:
    url, behaviour = server
    behaviour.status["SHA256SUMS"] = [500]
    behaviour.status[MODEL] = [503, 500]
    assert same(fetch(url), behaviour.folder)
    behaviour.status["SHA256SUMS"] = [500] * 3
    with pytest.raises(UserError, match=r"SHA256SUMS: cannot be fetched \(HTTP status 500\)"):
        fetch(url)
    with pytest.raises(UserError, match=r"elsewhere/SHA256SUMS: HTTP status 404 \(Not Found\)"):
        behaviour.folder = behaviour.folder / "none"
        fetch(f"{url}/elsewhere")


def test_no_server() -> None:
    with serving(pathlib.Path()) as (url, _):
        pass
    with pytest.raises(UserError, match=r"cannot be fetched \(.*refused.*\); check the connection"):
        fetch(url)


def test_more_bytes_than_there_may_be(
    server: tuple[str, Behaviour], folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, behaviour = server
    text = (folder / "SHA256SUMS").read_bytes()
    (folder / "SHA256SUMS").write_bytes(text * 1000)
    for behaviour.silent in (False, True):
        with pytest.raises(UserError, match="SHA256SUMS: has more bytes"):
            fetch(url)
    (folder / "SHA256SUMS").write_bytes(text)
    monkeypatch.setitem(download.MAX_BYTES, MODEL, 5000)
    for behaviour.silent in (False, True):
        with pytest.raises(UserError, match=f"{MODEL}: has more bytes"):
            fetch(url)


def test_without_a_length(server: tuple[str, Behaviour]) -> None:
    url, behaviour = server
    behaviour.silent = True
    assert same(fetch(url), behaviour.folder)


@pytest.mark.parametrize("text", [b"", b"<html>hello</html>\n", b"\xff\xd8\xff"])
def test_something_else_at_the_address(
    server: tuple[str, Behaviour], folder: pathlib.Path, text: bytes
) -> None:
    url, _ = server
    (folder / "SHA256SUMS").write_bytes(text)
    with pytest.raises(UserError, match="SHA256SUMS: "):
        fetch(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.org/weights", "https:// only"),
        ("http://localhost:1/weights", "https:// only"),
        ("https://user:secret@example.org/weights", "without user name"),
        ("https://example.org/weights?token=1", "query"),
        ("https:///weights", "https://HOST"),
        ("https://[::1/weights", "no address"),
        ("https://example.org/w#sha256=12", "64 hexadecimal"),
        (f"https://example.org/w#md5={'0' * 64}", "64 hexadecimal"),
        (f"https://example.org/w#sha256={'g' * 64}", "64 hexadecimal"),
    ],
)
def test_addresses_that_are_refused(url: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_pretrained(url)


@pytest.mark.parametrize("target", ["http://example.org", "file:///etc", "ftp://example.org"])
def test_redirected_to_another_protocol(server: tuple[str, Behaviour], target: str) -> None:
    url, behaviour = server
    behaviour.redirect = target
    with pytest.raises(UserError, match=rf"{target}/SHA256SUMS.*(https:// only|is not allowed)"):
        fetch(url)


def test_redirected(server: tuple[str, Behaviour]) -> None:
    url, behaviour = server
    behaviour.redirect = url.replace("/weights", "/moved")
    assert same(fetch(url), behaviour.folder)


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_offline_asks_nobody(
    server: tuple[str, Behaviour], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    url = server[0].replace("http://", "https://")
    if by == "environment":
        monkeypatch.setenv("GMSRM_OFFLINE", "1")
    with pytest.raises(UserError, match="was not fetched before; fetch it once without --offline"):
        load_pretrained(url, offline=by == "argument")
    assert server[1].requests == []


def test_two_at_the_same_time(server: tuple[str, Behaviour]) -> None:
    url, behaviour = server
    found: list[pathlib.Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cache_folder() / sum_of(behaviour.folder)] * 3
    assert [name for name, _ in behaviour.requests].count(MODEL) == 1
    assert same(found[0], behaviour.folder)


def test_a_cache_that_cannot_be_made(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set XDG_CACHE_HOME"):
        load_pretrained("https://localhost:1/weights")


def test_encrypted(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = tmp_path / "certificate.pem"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
    out = f"-keyout {certificate} -out {tmp_path / 'public.pem'}"
    subprocess.run(f"openssl req {options} {names} {out}".split(), check=True, capture_output=True)
    with certificate.open("ab") as file:
        file.write((tmp_path / "public.pem").read_bytes())
    with serving(folder, certificate) as (url, behaviour):
        with pytest.raises(UserError, match=r"SHA256SUMS: cannot be fetched .*CERTIFICATE_VERIFY"):
            load_pretrained(url)
        assert behaviour.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "public.pem"))
        network = load_pretrained(f"{url}#sha256={sum_of(folder)}")
    assert network.sha256 == load_pretrained(folder).sha256
    assert network.source.startswith(url)
    # What was fetched and then damaged is refused, and says where it lies.
    kept = cache_folder() / sum_of(folder)
    os.truncate(kept / MODEL, 100)
    with pytest.raises(UserError, match=f"remove {kept} to fetch it again"):
        load_pretrained(url, offline=True)
