"""`gmsrm serve`: a page on which people fill holes, and a REST call for programs."""

import argparse
import contextlib
import functools
import importlib.util
import logging
import os
import socket
import warnings
import webbrowser

from gmsrm_jax.commands import Subparsers
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.local_address import address, is_local, listen

_MIN_TOKEN = 16
_TOKEN_VARIABLE = "GMSRM_TOKEN"


def add_parser(subparsers: Subparsers) -> None:
    """Adds `serve`."""
    serve = subparsers.add_parser(
        "serve",
        help="fill holes on a local page, or by REST",
        description=(
            "Serves a page on which a hole is painted on a picture, or a mask uploaded, and filled;"
            " and for programs POST /api/v1/inpaint, GET /healthz, and /docs, which explains them."
            " Everything works without the net. Ctrl-C stops."
        ),
    )
    serve.add_argument(
        "--checkpoint",
        metavar="NAME|DIR",
        help="weights: a name, an exported folder, the workdir of a training, an https:// address"
        " or org/name of the Hugging Face Hub (default: facades-128, bundled)",
    )
    serve.add_argument("--offline", action="store_true", help="download no weights")
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default: %(default)s)",
    )
    serve.add_argument(
        "--port",
        type=_port,
        default=7860,
        metavar="N",
        help="0 for any that is free (default: %(default)s)",
    )
    serve.add_argument(
        "--allow-remote",
        action="store_true",
        help=(
            "answer other machines: needed, with a token, for any other --host, such as 0.0.0.0."
            " Traffic is not encrypted."
        ),
    )
    serve.add_argument(
        "--token",
        metavar="TOKEN",
        help=(
            f"secret of {_MIN_TOKEN} characters or more that every request must bring (default:"
            f" the environment's {_TOKEN_VARIABLE}, which other users of the machine cannot read)"
        ),
    )
    serve.add_argument(
        "--max-upload-mb",
        type=_positive,
        default=64,
        metavar="N",
        help="largest request in MiB (default: %(default)s)",
    )
    serve.add_argument(
        "--max-pixels",
        type=_positive,
        default=50_000_000,
        metavar="N",
        help="largest picture in pixels; all fillings of one together have at most twice as many"
        " (default: %(default)s)",
    )
    serve.add_argument(
        "--queue",
        type=_positive,
        default=16,
        metavar="N",
        help="requests under way, the one worked on included; more are answered with 503"
        " (default: %(default)s)",
    )
    serve.add_argument(
        "--timeout",
        type=_positive,
        default=120,
        metavar="SECONDS",
        help="for one request; then it is answered with 504 (default: %(default)s)",
    )
    serve.add_argument(
        "--device",
        choices=("auto", "cpu", "gpu", "tpu"),
        default="auto",
        help="where the network runs (default: %(default)s)",
    )
    serve.add_argument("--open", action="store_true", help="open the page in the browser")
    serve.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Serves until it is interrupted."""
    token = _checked_token(args)
    # What Pillow says of odd files is for its developers; whoever sent one is told.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    with contextlib.suppress(KeyboardInterrupt):
        _serve(args, token)


def _serve(args: argparse.Namespace, token: str) -> None:
    for package in ("gradio", "fastapi", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"gmsrm serve needs {package}, which is not installed; pip install"
                " 'gmsrm-jax[serve]'"
            )
    from gmsrm_jax.serve import server

    server.interrupt_on_terminate()
    with contextlib.closing(listen(args.host, args.port)) as opened:
        _answer(args, token, opened)


def _answer(args: argparse.Namespace, token: str, opened: socket.socket) -> None:
    from gmsrm_jax.inference.inpainter import Inpainter
    from gmsrm_jax.runtime.jax_setup import set_up_jax
    from gmsrm_jax.serve import server
    from gmsrm_jax.serve.app import make_app
    from gmsrm_jax.serve.limits import MIB, Limits
    from gmsrm_jax.serve.storage import MAX_BYTES, temporary_storage
    from gmsrm_jax.serve.worker import Worker

    limits = Limits(
        upload_bytes=args.max_upload_mb * MIB,
        pixels=args.max_pixels,
        queue=args.queue,
        seconds=args.timeout,
    )
    with temporary_storage(max(MAX_BYTES, 4 * limits.upload_bytes)) as storage:
        set_up_jax("default", args.device)
        inpainter = Inpainter.from_pretrained(
            args.checkpoint, device=args.device, offline=args.offline
        )
        inpainter.warm_up()
        worker = Worker(limits.queue, limits.seconds)
        batch = 2
        while batch <= inpainter.max_batch:
            worker.submit(functools.partial(inpainter.warm_up, batch))
            batch *= 2
        app = make_app(inpainter, worker, limits, storage, token)
        url = address(opened, args.host)
        print(
            f"{url} - device {inpainter.device}, checkpoint {inpainter.source}, SHA-256"
            f" {inpainter.sha256[:12]} - Ctrl-C stops",
            flush=True,
        )
        if args.open:
            webbrowser.open(url)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve(app, opened)
        worker.stop()
    server.leave()


def _checked_token(args: argparse.Namespace) -> str:
    """Returns the token, "" for none."""
    token = args.token or os.environ.get(_TOKEN_VARIABLE, "")
    if token and (len(token) < _MIN_TOKEN or not token.isascii() or not token.isprintable()):
        raise UserError(
            f"--token: {len(token)} characters; give {_MIN_TOKEN} or more of ASCII, such as those"
            " of `openssl rand -hex 16`"
        )
    if is_local(args.host):
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


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port, 0 to 65535")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)
