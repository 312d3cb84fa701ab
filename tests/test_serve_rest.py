"""The REST call: right answers, every refusal, the limits and the token."""

import base64
import concurrent.futures
import contextlib
import html
import io
import json
import re
import socket
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from exported_networks import tiny_network
from PIL import Image, ImageOps
from serving import (
    INPAINT,
    PATIENCE,
    answering,
    ask,
    decoded,
    encoded,
    fill_by_rest,
    hole,
    photo,
    text,
)

from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.inference.mask_io import open_mask
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.inference.picture_io import open_picture
from gmsrm_jax.runtime.web import names_of
from gmsrm_jax.serve.filling import fill
from gmsrm_jax.serve.limits import Limits, Refused
from gmsrm_jax.serve.rest import make_rest_app
from gmsrm_jax.serve.worker import Job, Worker

HEIGHT, WIDTH = 48, 40
PICTURE, HOLE = photo(HEIGHT, WIDTH), hole(HEIGHT, WIDTH)
IMAGE, MASK = text(encoded(PICTURE)), text(encoded(HOLE))
MASK_130 = text(encoded(hole(130, 120)))
LIMITS = Limits(upload_bytes=100_000, pixels=20_000, queue=3, seconds=30, samples=3)
TOKEN = "0123456789abcdef-token"
RATIO = "x-hole-ratio"


@contextlib.contextmanager
def rest(inpainter, limits=LIMITS, token=""):
    """The server without the page; yields its port."""
    worker = Worker(limits.queue, limits.seconds)
    app = make_rest_app(inpainter, worker, limits, token, names_of("127.0.0.1", token))
    with answering(app) as port:
        yield port
    worker.stop()


class Held:
    """An inpainter whose calls wait until they are let go."""

    device = device_kind = "cpu"
    source, sha256, size = "made up", "0" * 64, 32

    def __init__(self, inpainter):
        self.inpainter = inpainter
        self.begun, self.go = threading.Semaphore(0), threading.Event()

    def __call__(self, *args, **kwargs):
        self.begun.release()
        assert self.go.wait(PATIENCE)
        return self.inpainter(*args, **kwargs)


@pytest.fixture(scope="module")
def inpainter():
    return Inpainter(tiny_network(), device="cpu", max_batch=4)


@pytest.fixture(scope="module")
def port(inpainter):
    with rest(inpainter) as port:
        yield port


def test_one_sample_is_a_png_with_every_known_pixel_as_it_was(port, inpainter):
    answer = fill_by_rest(port, image=IMAGE, mask=MASK, seed=7)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-seed"] == "7"
    assert float(answer.headers["x-hole-ratio"]) == pytest.approx(HOLE.mean(), abs=1e-6)
    assert answer.headers["x-strategy"] in ("resize", "crop", "tile", "detail")
    assert "x-warnings" not in answer.headers
    np.testing.assert_array_equal(answer.pixels[~HOLE], PICTURE[~HOLE])
    assert (answer.pixels[HOLE] != PICTURE[HOLE]).any(1).mean() > 0.9
    np.testing.assert_array_equal(answer.pixels, inpainter(PICTURE, HOLE, seed=7).images[0])


def test_several_samples_are_json_and_differ_inside_the_hole_only(port):
    fields = {"image": IMAGE, "mask": MASK, "num_samples": 3, "seed": 11}
    first, again = fill_by_rest(port, **fields).json, fill_by_rest(port, **fields).json
    assert first["seeds"] == [11, 12, 13]
    assert first["hole_ratio"] == pytest.approx(HOLE.mean())
    assert first["images"] == again["images"]
    pictures = [decoded(base64.b64decode(image)) for image in first["images"]]
    for picture in pictures:
        np.testing.assert_array_equal(picture[~HOLE], PICTURE[~HOLE])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (pictures[one] != pictures[other]).any()
    alone = fill_by_rest(port, image=IMAGE, mask=MASK, seed=12)
    # The batch's size decides how sums are rounded.
    np.testing.assert_allclose(alone.pixels.astype(int), pictures[1], atol=2)


@pytest.mark.parametrize("strategy", ["resize", "crop", "tile", "detail"])
def test_the_strategy_is_the_one_asked_for(port, strategy):
    answer = fill_by_rest(port, image=IMAGE, mask=MASK, strategy=strategy)
    assert answer.headers["x-strategy"] == strategy
    np.testing.assert_array_equal(answer.pixels[~HOLE], PICTURE[~HOLE])


def test_the_feather_stays_inside_the_hole(port):
    plain = fill_by_rest(port, image=IMAGE, mask=MASK).pixels
    feathered = fill_by_rest(port, image=IMAGE, mask=MASK, feather=3).pixels
    assert (plain != feathered).any()
    np.testing.assert_array_equal(feathered[~HOLE], PICTURE[~HOLE])


def test_options_of_the_mask(port, inpainter):
    expected = fill_by_rest(port, image=IMAGE, mask=MASK).pixels
    inverted = fill_by_rest(port, image=IMAGE, mask=text(encoded(~HOLE)), mask_invert=True)
    np.testing.assert_array_equal(inverted.pixels, expected)
    grey = text(encoded(np.where(HOLE, np.uint8(60), np.uint8(0))))
    low = fill_by_rest(port, image=IMAGE, mask=grey, mask_threshold=50)
    np.testing.assert_array_equal(low.pixels, expected)
    found = fill_by_rest(port, image=IMAGE, mask=grey)
    np.testing.assert_array_equal(found.pixels, expected)
    assert "0 and 60, which is taken as white" in found.headers["x-warnings"]
    nothing = fill_by_rest(port, image=IMAGE, mask=grey, mask_threshold=70)
    np.testing.assert_array_equal(nothing.pixels, PICTURE)
    assert "no hole in it" in nothing.headers["x-warnings"]
    wider = fill_by_rest(port, image=IMAGE, mask=MASK, mask_dilate=2)
    assert float(wider.headers["x-hole-ratio"]) > HOLE.mean()
    half = text(encoded(HOLE[::2, ::2]))
    fitted = fill_by_rest(port, image=IMAGE, mask=half, mask_resize="nearest")
    assert fitted.status == 200


def test_the_hole_can_be_where_the_picture_is_transparent(port):
    alpha = np.where(HOLE, np.uint8(100), np.uint8(255))
    picture = np.dstack([PICTURE, alpha])
    image = text(encoded(picture))
    answer = fill_by_rest(port, image=image)
    np.testing.assert_array_equal(answer.pixels[~HOLE], picture[~HOLE])
    assert (answer.pixels[..., 3] == 255).all()
    ratios = {"mask_dilate": 2, "mask_invert": True, "mask_threshold": 100}
    for name, value in ratios.items():
        ratios[name] = float(fill_by_rest(port, image=image, **{name: value}).headers[RATIO])
    assert float(answer.headers[RATIO]) == pytest.approx(HOLE.mean(), abs=1e-6)
    wider = fill_by_rest(port, image=IMAGE, mask=MASK, mask_dilate=2)
    assert ratios["mask_dilate"] == float(wider.headers[RATIO]) > HOLE.mean()
    assert ratios["mask_invert"] == pytest.approx(1 - HOLE.mean(), abs=1e-6)
    assert ratios["mask_threshold"] == 0


def test_a_phone_picture_comes_back_upright(port):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    data = encoded(PICTURE, "JPEG", exif=exif.tobytes())
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    mask = hole(*upright.shape[:2])
    answer = fill_by_rest(port, image=text(data), mask=text(encoded(mask)))
    np.testing.assert_array_equal(answer.pixels[~mask], upright[~mask])
    assert (answer.pixels[mask] != upright[mask]).any()


def _huge_png() -> bytes:
    """A PNG whose header promises 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_base64_of_browsers_and_shells_is_the_same(port):
    wanted = fill_by_rest(port, image=IMAGE, mask=MASK).pixels
    plain = base64.urlsafe_b64encode(base64.b64decode(IMAGE)).decode()
    assert set("-_") & set(plain) and IMAGE.endswith("=")
    wrapped = "\r\n".join(IMAGE[k : k + 76] for k in range(0, len(IMAGE), 76)) + "\n"
    forms = [plain, wrapped, IMAGE.rstrip("="), f" data:image/png;base64,{IMAGE}\n"]
    for image in [*forms, f"DATA:image/png;charset=utf-8;BASE64,{wrapped}"]:
        answer = fill_by_rest(port, image=image, mask=f"data:;base64,{MASK}")
        np.testing.assert_array_equal(answer.pixels, wanted)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "image: Field required"),
        ({"image": 3}, "image: "),
        ({"image": "not base64!"}, "image: not base64"),
        ({"image": "data:image/png,abcd"}, "image: not base64"),
        ({"mask": "A"}, "mask: not base64"),
        ({"mask": ""}, "mask: the file is empty"),
        ({"image": text(b"no picture")}, "image: not one of"),
        ({"image": text(b"")}, "image: "),
        ({"image": text(encoded(PICTURE)[:500])}, "image: "),
        ({"image": text(_huge_png())}, "image: "),
        ({"image": text(encoded(photo(200, 101)))}, "limit of 20000"),
        ({"mask": None}, "no mask is given"),
        ({"mask": text(b"no mask")}, "mask: not one of"),
        ({"mask": text(encoded(HOLE[1:]))}, "mask: 40 x 47 px, but the picture"),
        ({"num_samples": 0}, "num_samples: "),
        ({"num_samples": 4}, "num_samples: 4; this server takes at most 3"),
        ({"num_samples": True}, "num_samples: "),
        (
            {"image": text(encoded(photo(130, 120))), "mask": MASK_130, "num_samples": 3},
            "num_samples: 3; this server makes at most 2 of a picture of 15600 pixels",
        ),
        ({"seed": -1}, "seed: "),
        ({"seed": 2**32}, "seed: "),
        ({"num_samples": 2, "seed": 2**32 - 1}, "seed: use 0 to 4294967294"),
        ({"seed": "1"}, "seed: "),
        ({"strategy": "guess"}, "strategy: "),
        ({"feather": -1}, "feather: "),
        ({"feather": 257}, "feather: 257; this server takes at most 256"),
        ({"mask_dilate": 257}, "mask_dilate: 257; this server takes at most 256"),
        ({"max_pixels": 9}, "max_pixels: Extra inputs are not permitted"),
        ({"mask_threshold": 0}, "mask_threshold: "),
        ({"mask_invert": 1}, "mask_invert: "),
        ({"mask_resize": "bicubic"}, "mask_resize: "),
        ({"sampels": 2}, "sampels: Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(port, fields, message):
    whole = {"image": IMAGE, "mask": MASK, **fields} if fields else fields
    answer = fill_by_rest(port, **whole)
    assert answer.status == 422
    assert message in answer.error


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xfe"])
def test_a_body_that_is_no_json(port, body):
    answer = ask(port, "POST", INPAINT, body, {"Content-Type": "application/json"})
    assert answer.status == 400
    assert answer.error


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", ""])
def test_a_body_of_another_type(port, kind):
    answer = ask(port, "POST", INPAINT, b"{}", {"Content-Type": kind})
    assert answer.status == 415
    assert "application/json" in answer.error


def test_too_many_bytes_are_refused_whether_announced_or_not(port):
    body = json.dumps({"image": "A" * (LIMITS.upload_bytes + 1)}).encode()
    headers = {"Content-Type": "application/json"}
    announced = ask(port, "POST", INPAINT, body, headers)
    pieces = (body[start : start + 5000] for start in range(0, len(body), 5000))
    chunked = ask(port, "POST", INPAINT, pieces, headers, encode_chunked=True)
    # One that closes the connection, as urllib does, and is still sending when it is refused.
    closing = ask(port, "POST", INPAINT, bytes(20 << 20), {**headers, "Connection": "close"})
    for answer in (announced, chunked, closing):
        assert answer.status == 413
    assert fill_by_rest(port, image=IMAGE, mask=MASK).status == 200


def test_a_length_that_is_no_number_or_never_comes(port):
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        head = f"POST {INPAINT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall((head + "Content-Length: 50\r\n\r\n{").encode())
    # The sender has left; its place is free again.
    for _ in range(LIMITS.queue + 1):
        assert fill_by_rest(port, image=IMAGE, mask=MASK).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", INPAINT, 405),
        ("POST", "/healthz", 405),
        ("PUT", INPAINT, 405),
        ("OPTIONS", INPAINT, 405),
        ("DELETE", INPAINT, 405),
        ("GET", "/nothing", 404),
    ],
)
def test_other_methods_and_paths(port, method, path, status):
    answer = ask(port, method, path)
    assert answer.status == status
    assert answer.error


def test_other_sites_can_neither_ask_nor_read(port):
    fields = {"image": IMAGE, "mask": MASK}
    for origin in ("http://example.com", "null", "http://localhost:1", "https://127.0.0.1"):
        for method, path in (("POST", INPAINT), ("GET", "/healthz"), ("OPTIONS", INPAINT)):
            answer = ask(port, method, path, fields, {"Origin": origin})
            assert (answer.status, "other sites" in answer.error) == (403, True)
    own = ask(port, "POST", INPAINT, fields, {"Origin": f"http://127.0.0.1:{port}"})
    assert own.status == 200
    for answer in (own, ask(port, "GET", "/healthz"), ask(port, "GET", "/nothing")):
        assert not any(name.startswith("access-control") for name in answer.headers)
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_names_that_reach_other_machines_are_refused(port):
    names = ("example.com", "192.168.0.1", "localhost.example.com", "www.localhost", "", "[::1")
    for host in names:
        assert ask(port, "GET", "/healthz", None, {"Host": host}).status == 400
    for host in (f"localhost:{port}", "127.0.0.1", "[::1]:80", "LOCALHOST"):
        assert ask(port, "GET", "/healthz", None, {"Host": host}).status == 200


@pytest.mark.parametrize(
    ("host", "token", "name"),
    [("127.8.8.8", "", "127.8.8.8"), ("::1", "", "[::1]"), ("0.0.0.0", TOKEN, "*")],
)
def test_a_server_has_the_name_of_what_it_listens_on(host, token, name):
    assert name in names_of(host, token)


def test_health_and_its_description(port, inpainter):
    health = ask(port, "GET", "/healthz").json
    assert health == {
        "status": "ok",
        "device": "cpu",
        "device_kind": inpainter.device_kind,
        "checkpoint": "made up",
        "sha256": inpainter.sha256,
        "size": 32,
        "queue": 0,
        "queue_limit": 3,
        "progress": None,
    }
    schema = ask(port, "GET", "/openapi.json").json
    call = schema["paths"][INPAINT]["post"]
    fields = call["requestBody"]["content"]["application/json"]["schema"]["properties"]
    options = FillOptions.defaults()
    assert [*fields] == ["image", "mask", *(name for name in options if name != "max_pixels")]
    for name, default in options.items():
        assert name == "max_pixels" or fields[name].get("default") == default
    assert (fields["num_samples"]["minimum"], fields["num_samples"]["maximum"]) == (1, 3)
    assert not {"local", "free"} & set().union(*fields.values())
    assert {"200", "400", "401", "403", "413", "415", "422", "503", "504"} == set(call["responses"])
    page = html.unescape(ask(port, "GET", "/docs").body.decode())
    for name in fields:
        assert f"<code>{name}</code>" in page and fields[name]["description"] in page
    assert "<td>1 to 255</td>" in page
    assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?(https?:)?//", page)


def test_a_full_queue_says_when_to_come_back(inpainter):
    held = Held(inpainter)
    limits = Limits(queue=2, seconds=30)
    with rest(held, limits) as port:
        answers = []

        def fill():
            answers.append(fill_by_rest(port, image=IMAGE, mask=MASK))

        threads = [threading.Thread(target=fill) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert held.begun.acquire(timeout=PATIENCE)
        while ask(port, "GET", "/healthz").json["queue"] < 2:
            time.sleep(0.01)
        refused = fill_by_rest(port, image=IMAGE, mask=MASK)
        assert refused.status == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert "2 requests are waiting" in refused.error
        held.go.set()
        for thread in threads:
            thread.join()
        assert [answer.status for answer in answers] == [200, 200]
        assert fill_by_rest(port, image=IMAGE, mask=MASK).status == 200
        assert ask(port, "GET", "/healthz").json["queue"] == 0


def test_health_tells_how_far_a_picture_is(inpainter):
    class Told(Held):
        def __call__(self, *args, progress, **kwargs):
            progress(0.5, 2)
            return super().__call__(*args, progress=progress, **kwargs)

    held = Told(inpainter)
    with rest(held) as port, concurrent.futures.ThreadPoolExecutor() as threads:
        answer = threads.submit(fill_by_rest, port, image=IMAGE, mask=MASK)
        assert held.begun.acquire(timeout=PATIENCE)
        assert ask(port, "GET", "/healthz").json["progress"] == 0.25
        held.go.set()
        assert answer.result().status == 200
        while ask(port, "GET", "/healthz").json["queue"]:
            time.sleep(0.01)
        assert ask(port, "GET", "/healthz").json["progress"] is None


def test_late_answers_and_late_bodies_give_504(inpainter):
    held = Held(inpainter)
    with rest(held, Limits(queue=2, seconds=0.5)) as port:
        late = fill_by_rest(port, image=IMAGE, mask=MASK)
        assert (late.status, late.error) == (
            504,
            "not done within 0.5 s; mark a smaller hole, or give a smaller picture",
        )
        # It still runs and holds its place; what waits behind it is forgotten when it is late.
        late = fill_by_rest(port, image=IMAGE, mask=MASK, num_samples=2)
        assert (late.status, late.error) == (
            504,
            "not begun within 0.5 s; others come first: try again later",
        )
        assert ask(port, "GET", "/healthz").json["queue"] == 1
        held.go.set()
        while ask(port, "GET", "/healthz").json["queue"]:
            time.sleep(0.01)
        assert held.begun.acquire(blocking=False) and not held.begun.acquire(blocking=False)

        def slowly():
            yield b'{"image": "'
            time.sleep(1.5)
            yield b'"}'

        headers = {"Content-Type": "application/json"}
        late = ask(port, "POST", INPAINT, slowly(), headers, encode_chunked=True)
        assert (late.status, late.error) == (
            504,
            "not received within 0.5 s; give a smaller picture, or send it faster",
        )


def test_a_late_request_makes_way_for_the_next(inpainter):
    class Endless(Held):
        """Fills in very many steps, the first time."""

        def __call__(self, *args, on_step=lambda: None, **kwargs):
            first = not self.go.is_set()
            self.go.set()
            steps = int(PATIENCE / 0.02) if first else 0
            for _ in range(steps):
                time.sleep(0.02)
                on_step()
            return self.inpainter(*args, **kwargs)

    inpainter(PICTURE, HOLE)
    with rest(Endless(inpainter), Limits(queue=2, seconds=3)) as port:
        assert fill_by_rest(port, image=IMAGE, mask=MASK).status == 504
        assert fill_by_rest(port, image=IMAGE, mask=MASK).status == 200
        assert ask(port, "GET", "/healthz").json["queue"] == 0


def test_a_late_request_ends_between_two_runs_of_the_network(inpainter):
    calls = []

    class Late(Job):
        def check(self):
            calls.append(None)
            if len(calls) == 4:
                raise Refused(504, "late")

    picture = open_picture(encoded(photo(130, 120)))
    mask = open_mask(np.pad(np.ones((110, 100), bool), 10), picture)
    with pytest.raises(Refused, match="late"):
        fill(inpainter, picture, mask, FillOptions(strategy="tile"), LIMITS, Late(30))
    assert len(calls) == 4
    assert inpainter(PICTURE, HOLE).strategy != "none"


def test_a_fault_of_ours_is_no_traceback_for_others():
    class Broken(Held):
        def __call__(self, *args, **kwargs):
            raise ZeroDivisionError("a fault")

    with rest(Broken(None)) as port:
        answer = fill_by_rest(port, image=IMAGE, mask=MASK)
        assert (answer.status, answer.error) == (500, "something is broken here")
        assert ask(port, "GET", "/healthz").json["queue"] == 0


def test_without_the_token_nothing_is_answered(inpainter):
    with rest(inpainter, token=TOKEN) as port:
        fields = {"image": IMAGE, "mask": MASK}
        wrong = ("", TOKEN, f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", "Bearer é")
        for header in wrong:
            answer = ask(port, "POST", INPAINT, fields, {"Authorization": header})
            assert answer.status == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert TOKEN not in answer.error
        assert ask(port, "GET", "/healthz").status == 401
        assert ask(port, "GET", "/docs").status == 200  # which says how the token is given
        right = {"Authorization": f"Bearer {TOKEN}", "Host": "any.example.com"}
        assert ask(port, "POST", INPAINT, fields, right).status == 200
