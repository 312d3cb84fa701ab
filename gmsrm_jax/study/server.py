"""The study's web server: the page, its pictures without their methods' names, and the votes.

Requests name a participant's random id and places on that participant's screen; methods, samples
and files are looked up here, and nothing of a request becomes a path.
"""

import functools
import hashlib
import hmac
import io
from collections.abc import Sequence
from importlib import resources
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from gmsrm_jax.data.decoding import decode_image
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.log import say
from gmsrm_jax.runtime.web import LOCAL_NAMES, middleware
from gmsrm_jax.study.presentation import LABELS, Presentation, Turn
from gmsrm_jax.study.samples import INPUT, Picture
from gmsrm_jax.study.votes import NotStored, Vote, Votes

MAX_BODY = 4096  # bytes; a vote has about two hundred
_CACHED_PICTURES = 64
_ID = "^[0-9a-f]{32}$"
_FILES = {"": "text/html", "page.js": "text/javascript", "page.css": "text/css"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_NO_STORE = {"Cache-Control": "no-store"}
_KEPT = {"Cache-Control": "private, max-age=3600"}

_Participant = Annotated[str, Path(pattern=_ID)]


class Ballot(BaseModel):
    """What the page sends: `ranking` has the places on the screen, 0 for A, the best first."""

    model_config = ConfigDict(extra="forbid", strict=True)
    study: str
    participant: str = Field(pattern=_ID)
    position: int
    ranking: list[int]


def make_study_app(
    presentation: Presentation, votes: Votes, token: str = "", names: Sequence[str] = LOCAL_NAMES
) -> FastAPI:
    """Makes the application that serves one study.

    Args:
        presentation: what is shown.
        votes: where votes go.
        token: first part of every address' path, "" for none.
        names: under which the server is asked for; see `runtime.web.names_of`.
    """
    folder = resources.files("gmsrm_jax.study")
    page = (folder / "page.html").read_text("utf-8").replace("{study}", votes.study)
    files = {"": page} | {name: (folder / name).read_text("utf-8") for name in _FILES if name}
    picture = functools.lru_cache(_CACHED_PICTURES)(_encoded)

    def check_token(request: Request) -> None:
        given = request.path_params["token"]
        if not hmac.compare_digest(given.encode(), token.encode()):
            raise HTTPException(404, "no such page")

    app = FastAPI(
        openapi_url=None,
        redirect_slashes=False,
        middleware=middleware(names, _POLICY, MAX_BODY),
    )
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_values)
    app.add_exception_handler(UserError, _fail)
    router = APIRouter(
        prefix="/{token}" if token else "", dependencies=[Depends(check_token)] if token else []
    )

    @router.get("/")
    @router.get("/{name}")
    def file(name: str = "") -> Response:
        if name not in files:
            raise HTTPException(404, "no such page")
        return Response(files[name], media_type=_FILES[name], headers=_NO_STORE)

    @router.get("/session/{participant}")
    def session(participant: _Participant) -> Response:
        return JSONResponse(_session(presentation, votes, participant), headers=_NO_STORE)

    @router.get("/image/{participant}/{position}/{place}")
    def image(participant: _Participant, position: int, place: str) -> Response:
        turn = _turn(presentation, participant, position)
        shown = presentation.shown(participant, turn)
        methods = {"input": INPUT, **{str(number): name for number, name in enumerate(shown)}}
        pictures = presentation.samples[turn.sample].pictures
        if methods.get(place) not in pictures:
            raise HTTPException(404, "no such picture")
        data = picture(pictures[methods[place]])
        return Response(data, media_type="image/png", headers=_KEPT)

    @router.post("/vote")
    def vote(ballot: Ballot) -> Response:
        _store(presentation, votes, ballot)
        return JSONResponse({"stored": True}, headers=_NO_STORE)

    app.include_router(router)
    return app


def _session(presentation: Presentation, votes: Votes, participant: str) -> dict[str, Any]:
    """What the page needs: how much there is, and the rankings so far as screen places."""
    rankings = {vote.turn: vote.ranking for vote in votes.latest(participant)}
    samples = []
    for turn in presentation.order(participant):
        width, height = presentation.samples[turn.sample].size
        shown = presentation.shown(participant, turn)
        ranking = [shown.index(method) for method in rankings.get(turn, ())]
        samples.append({"width": width, "height": height, "ranking": ranking})
    return {
        "study": votes.study,
        "labels": LABELS[: len(presentation.methods)],
        "input": presentation.has_input,
        "samples": samples,
    }


def _store(presentation: Presentation, votes: Votes, ballot: Ballot) -> None:
    if ballot.study != votes.study:
        raise HTTPException(409, "this page is of another study; load it again")
    turn = _turn(presentation, ballot.participant, ballot.position)
    shown = presentation.shown(ballot.participant, turn)
    if sorted(ballot.ranking) != list(range(len(shown))):
        raise HTTPException(422, "ranking does not name every result once")
    ranked = tuple(shown[place] for place in ballot.ranking)
    try:
        receipt = votes.add(Vote(ballot.participant, turn.sample, ranked, shown, turn.again))
    except NotStored as error:
        say(f"a vote was NOT stored: {error}")
        raise HTTPException(503, "the vote was not stored") from error
    # Neither method nor sample: participants may sit in front of this terminal.
    say(
        f"vote {receipt.votes}: participant {ballot.participant[:6]}"
        f" {'changes' if receipt.changed else 'ranks'} picture {ballot.position + 1} of"
        f" {presentation.count + presentation.repeats} ({receipt.participants} so far)"
    )


def _turn(presentation: Presentation, participant: str, position: int) -> Turn:
    order = presentation.order(participant)
    if not 0 <= position < len(order):
        raise HTTPException(404, "no such position")
    return order[position]


def _encoded(picture: Picture) -> bytes:
    """Returns a picture as a PNG that tells nothing about the file it comes from."""
    try:
        encoded = picture.path.read_bytes()
    except OSError as error:
        say(f"{picture.path}: cannot be read any more ({error.strerror})")
        raise HTTPException(500, "the picture is gone") from error
    if hashlib.sha256(encoded).hexdigest() != picture.sha256:
        say(f"{picture.path}: has changed since the start; put it back, or start anew")
        raise HTTPException(500, "the picture has changed")
    buffer = io.BytesIO()
    # Participants wait for this, so it is packed fast rather than small.
    Image.fromarray(decode_image(encoded)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _refuse(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, HTTPException)
    return JSONResponse({"error": refusal.detail}, refusal.status_code, _NO_STORE)


def _refuse_values(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if request.method == "GET":  # a part of a path
        return JSONResponse({"error": "no such page"}, 404, _NO_STORE)
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return JSONResponse({"error": f"{place}: {first['msg']}"[:200]}, 422, _NO_STORE)


def _fail(_: Request, error: Exception) -> Response:
    """Answers when the file of votes, or a picture, has become unreadable since the start."""
    say(str(error))
    return JSONResponse({"error": "the study cannot be read"}, 503, _NO_STORE)
