"""`gmsrm serve`: fill holes on a local page, or by REST.

Serves a page on which a hole is painted on a picture, or a mask uploaded, and filled; and for
programs POST /api/v1/inpaint, GET /healthz, and /docs, which explains them. Everything works
without the net. Ctrl-C stops.
"""

import argparse
import contextlib
import os
import socket
import sys
import tempfile
import webbrowser
from pathlib import Path

from gmsrm_jax.commands import Subparsers, add_command
from gmsrm_jax.commands.options import add_address, add_network, load_inpainter, whole
from gmsrm_jax.runtime import web
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.serve.limits import MIB, Limits

_MIN_TOKEN = 16
_TOKEN_VARIABLE = "GMSRM_TOKEN"


def add_parser(subparsers: Subparsers) -> None:
    """Adds `serve`."""
    serve = add_command(subparsers, "serve", __doc__, run)
    add_network(serve)
    add_address(
        serve,
        7860,
        "answer other machines: needed, with a token, for any other --host, such as 0.0.0.0.",
    )
    serve.add_argument(
        "--token",
        metavar="TOKEN",
        help=f"secret of {_MIN_TOKEN} characters or more that every request must bring (default:"
        f" the environment's {_TOKEN_VARIABLE}, which other users of the machine cannot read)",
    )
    for flag, default, unit, meaning in (
        ("--max-upload-mb", Limits.upload_bytes // MIB, "N", "largest request in MiB"),
        (
            "--max-pixels",
            Limits.pixels,
            "N",
            "largest picture; all its fillings have twice as many",
        ),
        ("--queue", Limits.queue, "N", "requests under way; more are answered with 503"),
        ("--timeout", int(Limits.seconds), "SECONDS", "for one request; then it is answered 504"),
    ):
        meaning += " (default: %(default)s)"
        serve.add_argument(flag, type=whole(1), default=default, metavar=unit, help=meaning)
    serve.add_argument("--open", action="store_true", help="open the page in the browser")


def run(args: argparse.Namespace) -> None:
    """Serves until it is interrupted."""
    token = _checked_token(args)
    with contextlib.suppress(KeyboardInterrupt):
        web.check_installed("gmsrm serve", "gradio", "fastapi", "uvicorn")
        web.interrupt_on_terminate()
        with contextlib.closing(web.listen(args.host, args.port)) as opened:
            _answer(args, token, opened)


def _answer(args: argparse.Namespace, token: str, opened: socket.socket) -> None:
    from gmsrm_jax.serve.app import make_app
    from gmsrm_jax.serve.worker import Worker

    limits = Limits(
        upload_bytes=args.max_upload_mb * MIB,
        pixels=args.max_pixels,
        queue=args.queue,
        seconds=args.timeout,
    )
    print("starting: weights are loaded and compiled, which may take a minute", flush=True)
    with tempfile.TemporaryDirectory(prefix="gmsrm-serve-") as temporary:
        folder = Path(temporary).resolve()
        inpainter = load_inpainter(args)
        batch = 1
        while batch <= inpainter.max_batch:
            inpainter.warm_up(batch)
            batch *= 2
        worker = Worker(limits.queue, limits.seconds)
        app = make_app(inpainter, worker, limits, folder, token, web.names_of(args.host, token))
        url = web.address(opened, args.host)
        print(
            f"{url} - device {inpainter.device}, checkpoint {inpainter.source}, SHA-256"
            f" {inpainter.sha256[:12]} - Ctrl-C stops",
            flush=True,
        )
        if args.open:
            webbrowser.open(url)
        with contextlib.suppress(KeyboardInterrupt):
            web.serve(app, opened)
        worker.stop()
    # A thread may still be filling a hole.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _checked_token(args: argparse.Namespace) -> str:
    """Returns the token, "" for none."""
    token = args.token or os.environ.get(_TOKEN_VARIABLE, "")
    if token and (len(token) < _MIN_TOKEN or not token.isascii() or not token.isprintable()):
        raise UserError(
            f"--token: {count_of(len(token), 'character')}; give {_MIN_TOKEN} or more of ASCII,"
            " such as those of `openssl rand -hex 16`"
        )
    if web.is_local(args.host):
        if args.allow_remote:
            raise UserError(
                f"--allow-remote: {args.host} is reached from this machine alone; give --host too,"
                " such as --host 0.0.0.0"
            )
        return token
    if not args.allow_remote:
        raise UserError(
            f"--host={args.host}: other machines could reach it; give --allow-remote and --token,"
            " or leave --host out"
        )
    if not token:
        raise UserError(
            f"--host={args.host}: needs --token, or {_TOKEN_VARIABLE} in the environment; make one"
            " with `openssl rand -hex 16`"
        )
    return token
