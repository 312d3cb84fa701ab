"""The REST call, what is asked of the server's health, and the page that explains them."""

import base64
import binascii
import contextlib
import hmac
import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

import jinja2
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import ValidationError, create_model
from starlette.exceptions import HTTPException

import gmsrm_jax
from gmsrm_jax.data.formats import FORMATS
from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.inference.mask_io import open_mask
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.inference.picture_io import open_picture
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.fields import Section, setting
from gmsrm_jax.runtime.web import LOCAL_NAMES, middleware
from gmsrm_jax.serve.filling import Filled, check_options, fill
from gmsrm_jax.serve.limits import Limits, Refused
from gmsrm_jax.serve.worker import Job, Worker

PATH = "/api/v1/inpaint"
_JSON = "application/json"
_URL_SAFE = str.maketrans("-_", "+/")
_NO_STORE = {"Cache-Control": "no-store"}
# Gradio has scripts in its page, and its editor's drawing library makes functions of text.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval';"
    " style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:;"
    " worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self';"
    " frame-ancestors 'none'"
)
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "one sample: a PNG, with the headers X-Seed, X-Hole-Ratio, X-Strategy and"
        " X-Warnings; several: JSON with images (PNG in base64), seeds, hole_ratio, strategy,"
        " seconds and warnings",
        "content": {"image/png": {}, _JSON: {}},
    },
    400: {"description": "no JSON, or the server was asked for under another name (plain text)"},
    401: {"description": "the token is missing or wrong"},
    403: {"description": "asked by another site"},
    413: {"description": "the body has too many bytes (plain text)"},
    415: {"description": "the body is not application/json"},
    422: {"description": "a field, the picture or the mask cannot be used"},
    503: {"description": "the queue is full; Retry-After says when to come back"},
    504: {"description": "not done in time"},
}


class _Files(Section):
    """A picture with a hole to fill."""

    image: str = setting(
        ..., f"the picture's file in base64, also as a data: URL: one of {', '.join(FORMATS)}"
    )
    mask: str | None = setting(
        None,
        "the mask's file in base64, as large as the picture is displayed, white is the hole;"
        " without it, the hole is where the picture is transparent",
    )


# How large a picture may be is the server's matter.
_OPTIONS: dict[str, Any] = {
    name: (field.annotation, field)
    for name, field in FillOptions.model_fields.items()
    if name != "max_pixels"
}
InpaintRequest = create_model("InpaintRequest", __base__=_Files, __doc__=_Files.__doc__, **_OPTIONS)


def make_rest_app(
    inpainter: Inpainter,
    worker: Worker,
    limits: Limits,
    token: str = "",
    names: Sequence[str] = LOCAL_NAMES,
) -> FastAPI:
    """Makes what answers POST /api/v1/inpaint, GET /healthz, /docs and /openapi.json.

    Args:
        inpainter: what fills.
        worker: where it runs.
        limits: of the requests.
        token: that requests must bring, but for those that ask how to call; "" for none.
        names: under which the server is asked for.
    """
    bearer = HTTPBearer(auto_error=False)

    async def check_token(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> None:
        if not hmac.compare_digest(given.credentials.encode() if given else b"", token.encode()):
            raise HTTPException(
                HTTPStatus.UNAUTHORIZED,
                "give the token: Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )

    checked = [Depends(check_token)] if token else []
    schema = InpaintRequest.model_json_schema()
    for name, most in limits.most.items():
        schema["properties"][name]["maximum"] = most
    app = FastAPI(
        title="gmsrm-jax",
        version=gmsrm_jax.__version__,
        description="Fills holes in pictures.",
        docs_url=None,  # FastAPI's own page loads its scripts from elsewhere
        redoc_url=None,
        middleware=middleware(names, _POLICY, limits.upload_bytes),
    )

    @app.exception_handler(Refused)
    async def refuse(_: Request, refusal: Refused) -> Response:
        again = refusal.retry_after
        headers = None if again is None else {"Retry-After": str(again)}
        return JSONResponse({"error": str(refusal)}, refusal.status, headers)

    @app.exception_handler(HTTPException)
    async def refuse_http(_: Request, refusal: HTTPException) -> Response:
        return JSONResponse({"error": refusal.detail}, refusal.status_code, refusal.headers)

    @app.exception_handler(Exception)
    async def fail(_: Request, __: Exception) -> Response:
        # The traceback goes to the server's terminal.
        return JSONResponse({"error": "something is broken here"}, 500)

    @app.get("/healthz", summary="Whether the server works, and with what", dependencies=checked)
    async def healthz() -> dict[str, Any]:
        running = worker.running
        return {
            "status": "ok",
            "device": inpainter.device,
            "device_kind": inpainter.device_kind,
            "checkpoint": inpainter.source,
            "sha256": inpainter.sha256,
            "size": inpainter.size,
            "queue": worker.length,
            "queue_limit": limits.queue,
            "progress": None if running is None else running.share,
        }

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> HTMLResponse:
        loader = jinja2.PackageLoader("gmsrm_jax.serve", ".")
        page = jinja2.Environment(loader=loader, autoescape=True).get_template("docs.html")
        return HTMLResponse(page.render(schema=schema))

    @app.post(
        PATH,
        summary="Fill a hole",
        responses=_RESPONSES,
        openapi_extra={"requestBody": {"required": True, "content": {_JSON: {"schema": schema}}}},
        dependencies=checked,
    )
    async def inpaint(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _JSON:
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {_JSON}, not {kind!r}")
        return await worker.run(
            lambda job, body: _answer(body, inpainter, limits, job), request.body
        )

    return app


def first_error(error: ValidationError) -> str:
    """Says what is wrong with the first field that is."""
    found = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # A field that there is none of is named by who asks.
    place = ".".join(map(str, found["loc"]))[:80].encode("unicode_escape").decode()
    message = found["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _answer(body: list[bytes], inpainter: Inpainter, limits: Limits, job: Job) -> Response:
    """Does the work of one request."""
    job.check()
    request, options = _parse(body.pop(), limits)
    check_options(options, limits)
    try:
        data = _decoded(request.image, "image")
        picture = open_picture(data, max_pixels=limits.pixels, name="image")
        mask_file = None if request.mask is None else _decoded(request.mask, "mask")
        mask = open_mask(mask_file, picture, options, "mask")
        filled = fill(inpainter, picture, mask, options, limits, job)
    except UserError as error:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
    return _png(filled) if len(filled.files) == 1 else _several(filled)


def _parse(body: bytes, limits: Limits) -> tuple[_Files, FillOptions]:
    try:
        request = InpaintRequest.model_validate_json(body)
        options = request.model_dump(include=set(_OPTIONS))
        return request, FillOptions(max_pixels=limits.pixels, **options)
    except ValidationError as error:
        broken = error.errors()[0]["type"] == "json_invalid"
        status = HTTPStatus.BAD_REQUEST if broken else HTTPStatus.UNPROCESSABLE_ENTITY
        raise Refused(status, first_error(error)) from error


def _decoded(text: str, name: str) -> bytes:
    """Base64 as browsers and shells give it: either alphabet, wrapped, unpadded, as a data: URL."""
    text = "".join(text.split())
    if text[:5].lower() == "data:":
        head, _, text = text.partition(",")
        text = text if head.lower().endswith(";base64") else "%"
    packed = text.translate(_URL_SAFE).rstrip("=")
    with contextlib.suppress(binascii.Error, ValueError):
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: not base64")


def _png(filled: Filled) -> Response:
    result = filled.result
    headers = {
        **_NO_STORE,
        "X-Seed": str(result.seeds[0]),
        "X-Hole-Ratio": f"{result.hole_ratio:.6f}",
        "X-Strategy": result.strategy,
    }
    if filled.notes:
        notes = "; ".join(filled.notes).encode("ascii", "replace").decode()
        headers["X-Warnings"] = " ".join(notes.split())[:1000]
    return Response(filled.files[0], media_type="image/png", headers=headers)


def _several(filled: Filled) -> Response:
    result = filled.result
    value = {
        "images": [base64.b64encode(data).decode() for data in filled.files],
        "seeds": result.seeds,
        "hole_ratio": result.hole_ratio,
        "strategy": result.strategy,
        "seconds": result.seconds,
        "warnings": filled.notes,
    }
    return Response(json.dumps(value), media_type=_JSON, headers=_NO_STORE)
