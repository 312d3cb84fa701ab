"""The REST call, what is asked of the server's health, and the page that explains them."""

import base64
import binascii
import contextlib
import hmac
import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from importlib import resources
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import ValidationError, create_model
from starlette.exceptions import HTTPException

import gmsrm_jax
from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.inference.mask_io import open_mask
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.fields import Section, setting
from gmsrm_jax.runtime.web import LOCAL_NAMES, middleware
from gmsrm_jax.serve.filling import Filled, check_options, fill, open_input
from gmsrm_jax.serve.limits import Limits, Refused
from gmsrm_jax.serve.worker import Worker

PATH = "/api/v1/inpaint"
_JSON = "application/json"
# Gradio has scripts in its page, and its editor's drawing library makes functions of text.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval';"
    " style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:;"
    " worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self';"
    " frame-ancestors 'none'"
)


class _Files(Section):
    """A picture with a hole to fill."""

    image: str = setting(..., "the picture's file in base64: JPEG, PNG, WebP, BMP or TIFF")
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
    app = FastAPI(
        title="gmsrm-jax",
        version=gmsrm_jax.__version__,
        description="Fills holes in pictures.",
        docs_url=None,  # FastAPI's own page loads its scripts from elsewhere
        redoc_url=None,
        middleware=middleware(names, _POLICY, limits.upload_bytes),
    )
    explanation = (resources.files("gmsrm_jax.serve") / "docs.html").read_text("utf-8")

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
        return {
            "status": "ok",
            "device": inpainter.device,
            "device_kind": inpainter.device_kind,
            "checkpoint": inpainter.source,
            "sha256": inpainter.sha256,
            "size": inpainter.size,
            "queue": worker.length,
            "queue_limit": limits.queue,
        }

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(explanation.replace("{fields}", _fields_table(app.openapi())))

    @app.post(
        PATH,
        summary="Fill a hole",
        responses=_RESPONSES,
        openapi_extra=_body(limits),
        dependencies=checked,
    )
    async def inpaint(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _JSON:
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {_JSON}, not {kind!r}")
        with worker.place() as place:
            pieces = [await place.within(request.body())]
            return await place.run(lambda: _answer(pieces, inpainter, limits, place.check))

    return app


def first_error(error: ValidationError) -> str:
    """Says what is wrong with the first field that is."""
    found = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # A field that there is none of is named by who asks.
    place = ".".join(map(str, found["loc"]))[:80].encode("unicode_escape").decode()
    message = found["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _answer(
    body: list[bytes], inpainter: Inpainter, limits: Limits, check: Callable[[], None]
) -> Response:
    """Does the work of one request; the body's list is emptied, to have its memory back early."""
    check()
    request, options = _parse(body.pop(), limits)
    check_options(options, limits)
    try:
        picture = open_input(_decoded(request.image, "image"), limits)
        mask_file = None if request.mask is None else _decoded(request.mask, "mask")
        mask = open_mask(mask_file, picture, options, "mask")
        filled = fill(inpainter, picture, mask, options, limits, check)
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
    with contextlib.suppress(binascii.Error, ValueError):
        return base64.b64decode(text, validate=True)
    raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: not base64")


def _png(filled: Filled) -> Response:
    result = filled.result
    headers = {
        "Cache-Control": "no-store",
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
    return Response(json.dumps(value), media_type=_JSON, headers={"Cache-Control": "no-store"})


def _body(limits: Limits) -> dict[str, Any]:
    """Describes the request, its options in the server's limits."""
    schema = InpaintRequest.model_json_schema()
    for name, most in limits.most.items():
        schema["properties"][name]["maximum"] = most
    return {"requestBody": {"required": True, "content": {_JSON: {"schema": schema}}}}


def _fields_table(schema: dict[str, Any]) -> str:
    """Makes rows of HTML of the request's fields; their texts are all from this module."""
    body = schema["paths"][PATH]["post"]["requestBody"]["content"][_JSON]["schema"]
    rows = []
    for name, field in body["properties"].items():
        options = field.get("anyOf", [field])
        kinds = [_kind(option) for option in options if option.get("type") != "null"]
        default = "needed" if name in body["required"] else json.dumps(field.get("default"))
        cells = (f"<code>{name}</code>", " or ".join(kinds), f"<code>{default}</code>")
        rows.append(
            "<tr>"
            + "".join(f"<td>{cell}</td>" for cell in (*cells, field["description"]))
            + "</tr>"
        )
    return "\n".join(rows)


def _kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(field["enum"])
    if "const" in field:
        return field["const"]
    if field["type"] == "integer":
        least, most = field.get("minimum"), field.get("maximum")
        return f"{least:.0f} to {most:.0f}" if most is not None else f"{least:.0f} or more"
    return {"string": "text", "boolean": "true or false"}[field["type"]]


def _error(text: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"error": {"type": "string"}}}
    return {"description": text, "content": {_JSON: {"schema": schema}}}


def _text(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"text/plain": {"schema": {"type": "string"}}}}


_SEVERAL = {
    "type": "object",
    "properties": {
        "images": {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}},
        "seeds": {"type": "array", "items": {"type": "integer"}},
        "hole_ratio": {"type": "number"},
        "strategy": {"type": "string"},
        "seconds": {"type": "number"},
        "warnings": {"type": "array", "items": {"type": "string"}},
    },
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": (
            "one sample: a PNG, with the headers X-Seed, X-Hole-Ratio, X-Strategy and X-Warnings;"
            " several: JSON"
        ),
        "content": {
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            _JSON: {"schema": _SEVERAL},
        },
    },
    400: _error("the body is no JSON, or the server was asked for under another name (plain text)"),
    401: _error("the token is missing or wrong"),
    403: _error("asked by another site"),
    413: _text("the body has too many bytes"),
    415: _error("the body is not application/json"),
    422: _error("a field, the picture or the mask cannot be used"),
    503: _error("the queue is full; Retry-After says when to come back"),
    504: _error("not done in time"),
}
