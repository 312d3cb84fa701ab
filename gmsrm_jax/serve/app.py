"""All of the server as one ASGI application."""

import hmac
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request

from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.runtime.web import LOCAL_NAMES
from gmsrm_jax.serve.limits import Limits
from gmsrm_jax.serve.rest import make_rest_app
from gmsrm_jax.serve.worker import Worker

_FILE = "/gradio_api/file="
_JOIN = "/gradio_api/queue/join"


def make_app(
    inpainter: Inpainter,
    worker: Worker,
    limits: Limits,
    folder: Path,
    token: str = "",
    names: Sequence[str] = LOCAL_NAMES,
) -> FastAPI:
    """Puts the page and the REST call together.

    Gradio reads its settings from the environment when it is imported, so they are set here, and a
    process has one such application.

    Args:
        inpainter: what fills.
        worker: where it runs.
        limits: of the requests.
        folder: a private one, for Gradio's files and ours.
        token: that every request must bring, and password of the page; "" for none.
        names: under which the server is asked for.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio

    from gmsrm_jax.serve import page

    def own_paths(value: dict[str, Any]) -> dict[str, Any]:
        if value.get("path") is not None and not _holds(folder, value["path"]):
            raise HTTPException(403, "a file that this server did not make")
        return value

    async def own_files(request: Request) -> None:
        """Refuses files that the server did not make: Gradio fetches those that are addresses."""
        path = request.url.path
        if path.startswith(_FILE) and not _holds(folder, path.removeprefix(_FILE)):
            raise HTTPException(404, "there is no such file")
        if path.rstrip("/") == _JOIN:
            json.loads(await request.body(), object_hook=own_paths)

    app = make_rest_app(inpainter, worker, limits, token, names)
    gradio.mount_gradio_app(
        app,
        page.build_page(inpainter, worker, limits, folder),
        "/",
        app_kwargs={"dependencies": [Depends(own_files)]},
        auth=(lambda _, password: _equal(password, token)) if token else None,
        auth_message="The password is the server's token; any name will do.",
        allowed_paths=[],
        max_file_size=limits.upload_bytes,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=page.theme(),
        css=page.CSS,
    )
    return app


def _equal(one: str, other: str) -> bool:
    """Compares in a time that tells nothing."""
    return hmac.compare_digest(one.encode(), other.encode())


def _holds(folder: Path, path: Any) -> bool:
    """Whether a path, as it stands, lies in the folder."""
    parts = PurePath(path if isinstance(path, str) else "")
    return parts.is_relative_to(folder) and ".." not in parts.parts
