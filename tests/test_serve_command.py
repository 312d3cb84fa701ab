"""`gmsrm serve` from its first line to its end: the token, the files, what it refuses."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from exported_networks import exported
from serving import PATIENCE, ask, encoded, fill_by_rest, hole, photo, running, text

IMAGE, MASK = text(encoded(photo(48, 40))), text(encoded(hole(48, 40)))
TOKEN = "0123456789abcdef-token"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_from_its_line_to_its_end(checkpoint, tmp_path, number):
    with running(checkpoint, tmp_path) as run:
        health = ask(run.port, "GET", "/healthz").json
        assert run.line == (
            f"http://127.0.0.1:{run.port}/ - device cpu, checkpoint {checkpoint}, SHA-256"
            f" {health['sha256'][:12]} - Ctrl-C stops\n"
        )
        assert fill_by_rest(run.port, image=IMAGE, mask=MASK).status == 200
        (folder,) = tmp_path.glob("gmsrm-serve-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        # A page keeps a connection open, and must not hold up the end.
        with socket.create_connection(("127.0.0.1", run.port), PATIENCE) as connection:
            request = "GET /gradio_api/heartbeat/abc HTTP/1.1\r\nHost: localhost\r\n\r\n"
            connection.sendall(request.encode())
            assert connection.recv(12) == b"HTTP/1.1 200"
            assert fill_by_rest(run.port, image=IMAGE, mask=MASK).status == 200
            status, seconds = run.stop(number)
        assert (status, seconds < 2) == (0, True)
        assert run.process.stdout.read() == ""
        assert not folder.exists()


def test_the_page_behind_a_token(checkpoint, tmp_path):
    remote = ("--host", "0.0.0.0", "--allow-remote", "--token", TOKEN)
    with running(checkpoint, tmp_path, *remote) as run:
        assert b"auth_required" in ask(run.port, "GET", "/").body
        for path in ("/config", "/gradio_api/info", "/healthz"):
            assert ask(run.port, "GET", path).status == 401
        assert ask(run.port, "POST", "/gradio_api/upload", b"x").status == 401
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        wrong = ask(run.port, "POST", "/login", b"username=a&password=guess", form)
        assert (wrong.status, "set-cookie" in wrong.headers) == (400, False)
        name = f"username=a&password={TOKEN}".encode()
        right = ask(run.port, "POST", "/login", name, form)
        assert right.status == 200
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie and TOKEN not in cookie
        session = {"Cookie": cookie.partition(";")[0]}
        page = ask(run.port, "GET", "/config", None, session)
        assert page.status == 200 and b"Fill the hole" in page.body
        assert ask(run.port, "GET", "/healthz", None, {"Authorization": f"Bearer {TOKEN}"}).json


def test_the_page_gives_and_takes_no_files_of_others(checkpoint, tmp_path):
    with running(checkpoint, tmp_path, "--max-upload-mb", "1") as run:
        paths = ("/etc/passwd", "http://example.com/x.png", "HTTP://example.com/", "../x", "//x")
        (folder,) = tmp_path.glob("gmsrm-serve-*")
        paths += (f"{folder}/../x", f"{folder}x/y")
        for path in paths:
            assert ask(run.port, "GET", f"/gradio_api/file={path}").status == 404
            join = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}], "fn_index": 0}
            answer = ask(run.port, "POST", "/gradio_api/queue/join", join)
            assert answer.status == 403
        for path in ("/static/%2e%2e/config", "/assets/../config", "/gradio_api/proxy=http://x/"):
            assert ask(run.port, "GET", path).status in (400, 403, 404)
        boundary = {"Content-Type": "multipart/form-data; boundary=x"}
        for size, status in ((1 << 19, 200), (1 << 20, 413)):
            body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
            body += bytes(size) + b"\r\n--x--\r\n"
            answer = ask(run.port, "POST", "/gradio_api/upload", body, boundary)
            assert answer.status == status
        pieces = iter([bytes(1 << 19)] * 3)
        long = ask(run.port, "POST", "/gradio_api/queue/join", pieces, encode_chunked=True)
        assert long.status == 413
        foreign = {"Origin": "http://example.com"}
        assert ask(run.port, "POST", "/gradio_api/queue/join", {}, foreign).status == 403


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--host", "0.0.0.0"), "--host=0.0.0.0: other machines could reach it"),
        (("--allow-remote",), "127.0.0.1 is reached from this machine alone; give --host too"),
        (("--host", "0.0.0.0", "--allow-remote"), "needs --token, or GMSRM_TOKEN"),
        (("--host", "0.0.0.0", "--allow-remote", "--token", "short"), "5 characters; give 16"),
        (("--port", "{taken}"), "cannot be opened (Address already in use)"),
        (("--host", "no.such.host.invalid", "--allow-remote", "--token", TOKEN), "cannot be open"),
    ],
)
def test_what_the_command_refuses(tmp_path, more, message):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "gmsrm_jax.cli", "serve", "--checkpoint", str(tmp_path)]
        command += [option.format(taken=port) for option in more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""


def test_without_gradio_the_command_says_how_to_install_it():
    code = (
        "import sys; sys.modules['gradio'] = None; from gmsrm_jax.cli import main;"
        "sys.exit(main(['serve']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "gmsrm: error: gmsrm serve needs gradio, which is not installed; pip install -r"
        " requirements/serve.txt, or 'gmsrm-jax[serve]', which brings TensorFlow, too\n"
    )


def test_what_is_loaded_where_and_that_pillow_keeps_quiet(tmp_path):
    code = (
        "import logging, sys, warnings, jax; from gmsrm_jax import Inpainter, cli\n"
        "from gmsrm_jax.runtime import errors\n"
        "def load(*names, **options):\n"
        "    print(names, options, jax.config.jax_platforms)\n"
        "    warnings.warn_explicit('odd', UserWarning, 'x.py', 1, 'PIL.TiffImagePlugin')\n"
        "    logging.getLogger('PIL.TiffImagePlugin').error('odd')\n"
        "    raise errors.UserError('enough')\n"
        "Inpainter.from_pretrained = load\n"
        "cli.main(['serve', '--port', '0', '--checkpoint', 'x', *sys.argv[1:]])"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": ""}
    expected = {
        ("--device", "cpu"): "('x',) {'device': 'cpu', 'offline': False} cpu\n",
        ("--offline",): "('x',) {'device': 'auto', 'offline': True} \n",
    }
    for more, said in expected.items():
        done = subprocess.run(
            [sys.executable, "-c", code, *more], capture_output=True, text=True, env=environment
        )
        first, *rest = done.stdout.splitlines(keepends=True)
        assert first.startswith("starting: ")
        assert (rest, done.stderr) == ([said], "gmsrm: error: enough\n")


def test_serving_needs_no_tensorflow(checkpoint):
    code = (
        "import sys; from gmsrm_jax.commands import serve; from gmsrm_jax.serve import app;"
        "from gmsrm_jax.serve.page import build_page; from gmsrm_jax import Inpainter;"
        f"Inpainter.from_pretrained({str(checkpoint)!r}, device='cpu');"
        "print([name for name in ('tensorflow', 'clu') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_program_is_compiled_before_the_address_is_told(checkpoint):
    code = (
        "import sys, threading\n"
        "from gmsrm_jax import Inpainter, cli; from gmsrm_jax.runtime import web\n"
        "thread = lambda: threading.current_thread().name\n"
        "Inpainter.warm_up = lambda self, batch=1: print(batch, thread())\n"
        "web.serve = lambda *_: None\n"
        "cli.main(['serve', '--port', '0', '--device', 'cpu', '--checkpoint', sys.argv[1]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint)], capture_output=True, text=True
    )
    first, *sizes, last = done.stdout.splitlines()
    assert (done.returncode, first[:9], last[:7]) == (0, "starting:", "http://"), done.stderr
    # Squares that a CPU takes at a time; in the thread of pictures they would hold these up.
    assert sizes == ["1 MainThread", "2 MainThread", "4 MainThread"]
