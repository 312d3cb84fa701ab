"""All of the server as one ASGI application."""

import os
from collections.abc import Callable
from importlib import resources
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.serve.guard import COOKIE, Guard
from gmsrm_jax.serve.limits import Limits
from gmsrm_jax.serve.rest import make_rest_app
from gmsrm_jax.serve.storage import Storage
from gmsrm_jax.serve.worker import Worker


def make_app(
    inpainter: Inpainter, worker: Worker, limits: Limits, storage: Storage, token: str = ""
) -> Guard:
    """Puts the page and the REST call together.

    Gradio reads its settings from the environment when it is imported, so they are set here, and a
    process has one such application.

    Args:
        inpainter: what fills.
        worker: where it runs.
        limits: of the requests.
        storage: a private folder.
        token: that every request must bring; "" for none.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(storage.folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio

    from gmsrm_jax.serve import page

    app = make_rest_app(inpainter, worker, limits)
    guard: Guard
    _add_login(app, lambda: guard)
    gradio.mount_gradio_app(
        app,
        page.build_page(inpainter, worker, limits, storage),
        "/",
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
    storage.keep_all()
    guard = Guard(app, limits, storage, token)
    return guard


def _add_login(app: FastAPI, guard: Callable[[], Guard]) -> None:
    """Adds the page that asks a browser for the token."""
    form = (resources.files("gmsrm_jax.serve") / "login.html").read_text("utf-8")

    @app.get("/login", include_in_schema=False)
    async def ask() -> HTMLResponse:
        return HTMLResponse(form.replace("{message}", ""))

    @app.post("/login", include_in_schema=False)
    async def log_in(request: Request) -> Response:
        fields = parse_qs((await request.body()).decode("utf-8", "replace"))
        token = fields.get("token", [""])[0].strip()
        if not guard().knows(token):
            return HTMLResponse(form.replace("{message}", "This is not the token."), 401)
        answer = RedirectResponse("./", 303)
        answer.set_cookie(COOKIE, guard().session, httponly=True, samesite="strict", path="/")
        return answer
