"""Thousands of damaged pictures and masks, for the loader, the REST call and the shell command.

The items run one after another in a child process, whose death and whose hanging are seen from
outside. Each is drawn from the seed and its own number; `python tests/test_fuzz.py loader 0 12 13`
repeats item 12 of seed 0 alone, with `rest` instead of `loader` that of the REST call.
"""

import base64
import contextlib
import faulthandler
import http.client
import io
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from good_pictures import PILLOW_MODES, READ, good_files, picture_of
from mutations import Generator, any_file, mutated
from PIL import Image

from gmsrm_jax.inference.mask_io import Mask, open_mask
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.inference.picture_io import Picture, open_picture, save_picture
from gmsrm_jax.runtime.errors import UserError

SEED = 0
LOADER_ITEMS = 2400  # each a picture and a mask
REST_ITEMS = 2000  # of these too
SHELL_FILES = 48
PIXELS = 30_000  # the limit of the loader and of the server
ITEM_SECONDS = 60  # far more than any item takes, so that only what hangs is ended
CHILD_SECONDS = 600
GROWTH = 64  # MiB of resident memory that all items together may add
SUFFIXES = (".png", ".jpg", ".webp", ".bmp", ".tif")
DOCUMENTED = {200, 400, 413, 415, 422}  # of those that a request can be answered with here
PATH = "/api/v1/inpaint"


@pytest.mark.parametrize(("target", "items"), [("loader", LOADER_ITEMS), ("rest", REST_ITEMS)])
def test_damaged_pictures_and_masks(target, items, tmp_path):
    command = [sys.executable, __file__, target, str(SEED), "0", str(items)]
    done = run_child(command, tmp_path)
    *numbers, used = done.stdout.splitlines() or ["0"]
    last = used if done.returncode else numbers[-1]
    cure = f"repeat with: python tests/test_fuzz.py {target} {SEED} {last} {int(last) + 1}"
    assert done.returncode == 0, f"exit status {done.returncode}; {cure}\n{done.stderr}"
    # Pillow's libraries print what they think of a file; a traceback would be ours.
    assert "Traceback" not in done.stderr, f"{cure}\n{done.stderr}"
    assert numbers == [str(number) for number in range(items)]
    # Some are good all the same, so that what comes behind the decoding is reached.
    assert 0.1 * items < int(used) < 0.9 * items
    assert not any(tmp_path.iterdir())


def test_a_folder_of_damaged_files(tmp_path):
    images, output = tmp_path / "images", tmp_path / "output"
    images.mkdir()
    good, bad = set(), set()
    readable = [file.data for file in good_files() if file.format in READ]
    for number in range(SHELL_FILES):
        rng = np.random.default_rng([SEED, number])
        path = images / f"{number:02d}{SUFFIXES[rng.integers(len(SUFFIXES))]}"
        whole = number % 4 == 0
        data = readable[number] if whole else mutated(rng, any_file(rng).data)
        path.write_bytes(data)
        (good if whole else bad).add(path)
    (images / "empty.png").write_bytes(b"")
    Image.fromarray(np.eye(40, dtype=bool)).save(tmp_path / "mask.png")
    done = run_child([sys.executable, __file__, "shell", str(tmp_path)], tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    lines = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    found = {Path(line["image"]): line for line in lines}
    assert len(lines) == len(found) and set(found) == good | bad | {images / "empty.png"}
    written = {output / "manifest.jsonl"}
    for path, line in found.items():
        assert line["status"] in ({"ok"} if path in good else {"ok", "failed"}), line
        if line["status"] == "failed":
            assert_one_line(line["error"])
            assert str(path) in line["error"] and line["outputs"] == []
            continue
        (file,) = (Path(each["path"]) for each in line["outputs"])
        assert_whole(file.read_bytes(), (line["width"], line["height"]))
        written.add(file)
    assert set(output.iterdir()) == written
    assert found[images / "empty.png"]["status"] == "failed"
    failed = sum(line["status"] == "failed" for line in lines)
    assert f"{len(lines) - failed} filled, {failed} failed, 0 skipped" in done.stdout


def run_child(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    # The folder is there for what the child writes, and stays empty.
    return subprocess.run(
        command, capture_output=True, text=True, timeout=CHILD_SECONDS, cwd=folder
    )


def assert_one_line(message: str) -> None:
    assert message and message.isprintable() and len(message) < 1000, repr(message)


def assert_whole(data: bytes, size: tuple[int, int]) -> None:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.size == size


def any_options(rng: Generator) -> FillOptions:
    return FillOptions(
        mask_invert=rng.random() < 0.3,
        mask_threshold=rng.integers(1, 256),
        mask_dilate=rng.integers(0, 4),
        mask_resize="nearest",
        max_pixels=PIXELS,
    )


def any_source(rng: Generator) -> Any:
    """A damaged file, or an odd thing of the Python interface."""
    kind = rng.random()
    if kind < 0.85:
        file = any_file(rng)
        return mutated(rng, file.data) if rng.random() < 0.95 else file.data
    height, width = (int(side) for side in rng.integers(0, 40, 2))
    if kind < 0.93:
        mode = PILLOW_MODES[rng.integers(len(PILLOW_MODES))]
        image = picture_of(mode, int(rng.integers(100)), width + 1, height + 1)
        noise = rng.bytes(rng.integers(40))
        for key in ("exif", "icc_profile", "xmp", "dpi", "transparency"):
            if rng.random() < 0.2:
                image.info[key] = (noise, noise.hex(), 5, (1, 2, 3), None)[rng.integers(5)]
        return image
    shape = [(height, width), (height, width, int(rng.integers(6))), (height,)][rng.integers(3)]
    dtype = rng.choice(["uint8", "uint16", "bool", "int32", "float32", "complex64"])
    scale = rng.choice([1.0, 255.0, 65535.0, np.nan])
    with np.errstate(invalid="ignore"):
        return (rng.random(shape) * scale).astype(dtype)


def load_damaged(rng: Generator, folder: Path) -> bool:
    """Feeds a picture and a mask to the loader, fills a hole, and saves the picture.

    Returns:
        Whether the picture could be used; another is filled if not.
    """
    plain = open_picture(np.zeros((20, 24, 3), np.uint8))
    source, picture = any_source(rng), plain
    with contextlib.suppress(Refusal), refusals():
        picture = open_picture(source, max_pixels=PIXELS, name="picture")
    for warning in picture.warnings:
        assert_one_line(warning)
    assert picture.rgb.shape == (picture.height, picture.width, 3)
    masked(rng, picture)
    path = folder / f"output{SUFFIXES[rng.integers(len(SUFFIXES))]}"
    hole = rng.random((picture.height, picture.width)) < rng.random()
    first, second = (
        picture.restore(rng.integers(0, 256, picture.rgb.shape, np.uint8), hole) for _ in range(2)
    )
    np.testing.assert_array_equal(np.asarray(first)[~hole], np.asarray(second)[~hole])
    if isinstance(source, np.ndarray) and picture is not plain:
        np.testing.assert_array_equal(first[~hole], source[~hole])
    with contextlib.suppress(Refusal), refusals():
        save_picture(first, path)
        assert_whole(path.read_bytes(), (picture.width, picture.height))
        path.unlink()
    assert not any(folder.iterdir())  # whole or not at all
    return picture is not plain


def masked(rng: Generator, picture: Picture) -> Mask | None:
    options, source = any_options(rng), any_source(rng)
    with contextlib.suppress(Refusal), refusals():
        if rng.random() < 0.05:
            mask = open_mask(None, picture, options)
        else:
            mask = open_mask(source, picture, options, "mask")
        assert mask.hole.shape == (picture.height, picture.width) and mask.hole.dtype == bool
        assert mask.ratio == pytest.approx(mask.hole.mean())
        for warning in mask.warnings:
            assert_one_line(warning)
        return mask
    return None


class Refusal(Exception):
    """A UserError whose message is as it should be."""


@contextlib.contextmanager
def refusals():
    try:
        yield
    except UserError as error:
        assert_one_line(str(error))
        raise Refusal from error


def any_body(rng: Generator) -> tuple[bytes, str]:
    """A request's body and its type; half of them have nothing wrong but the files."""
    good = any_file(rng).data
    image = good if rng.random() < 0.3 else mutated(rng, good)
    mask = any_file(rng).data if rng.random() < 0.3 else mutated(rng, any_file(rng).data)
    fields: dict[str, Any] = {
        "image": base64.b64encode(image).decode(),
        "mask": base64.b64encode(mask).decode(),
        "mask_resize": "nearest",
        "strategy": str(rng.choice(["auto", "resize", "crop", "tile", "detail"])),
        "feather": int(rng.integers(0, 5)),
        "num_samples": int(rng.choice([1, 1, 2])),
    }
    if rng.random() < 0.9:  # without it most of these are no masks
        fields["mask_threshold"] = int(rng.integers(1, 256))
    kind = "application/json"
    if rng.random() < 0.5:
        return json.dumps(fields).encode(), kind
    names = [*fields, "seed", "mask_invert", "mask_threshold", "mask_dilate"]
    names += ["x\n\x1b[31m", "\0y" * 2000]
    name = names[rng.integers(len(names))]
    odd = (None, True, -1, 0, 2**63, 10**400, 1.5, float("nan"), "", "é=", "A" * 5, [], {}, [[]])
    way = rng.integers(8)
    if way < 3:
        fields[name] = odd[rng.integers(len(odd))]
    elif way == 3:
        fields.pop(name, None)
    elif way == 4:
        fields["image"] = mutated(rng, fields["image"].encode()).decode("latin-1")
    elif way == 5:
        kind = str(rng.choice(["", "text/plain", "application/json; charset=utf-16", "a/b;c=d"]))
    body = json.dumps(fields, ensure_ascii=bool(rng.random() < 0.5)).encode()
    if way == 6:
        body = mutated(rng, body)
    elif way == 7:
        odd_bodies = (b"", b"null", b"[]", b"[" * 5000, b'{"image":' * 5000, b"\xef\xbb\xbf" + body)
        odd_bodies += (b'"\\ud800"', b'{"\\ud800": 1}', b"\xff\xfe{}", body + body, body[:-1])
        body = odd_bodies[rng.integers(len(odd_bodies))]
    return body, kind


def ask_damaged(rng: Generator, connection: http.client.HTTPConnection) -> bool:
    """Sends one request over a connection that must stay good; returns whether it was filled."""
    body, kind = any_body(rng)
    connection.request("POST", PATH, body, {"Content-Type": kind})
    answer = connection.getresponse()
    data = answer.read()
    assert answer.status in DOCUMENTED, (answer.status, data[:500])
    for _, value in answer.getheaders():
        assert value.isprintable()
    if answer.status != 200:
        assert_one_line(data.decode() if answer.status == 413 else json.loads(data)["error"])
        return False
    if answer.getheader("Content-Type") == "image/png":
        files = [data]
    else:
        files = [base64.b64decode(file) for file in json.loads(data)["images"]]
    with Image.open(io.BytesIO(base64.b64decode(json.loads(body)["image"]))) as image:
        width, height = image.size
    for file in files:
        with Image.open(io.BytesIO(file)) as image:
            image.load()
            assert sorted(image.size) == sorted((width, height))
    return True


def quick_inpainter() -> Any:
    """A tiny network that is compiled once, for one square at a time."""
    from small_inpainter import small_pretrained

    from gmsrm_jax.inference.inpainter import Inpainter

    inpainter = Inpainter(small_pretrained(), device="cpu", max_batch=1)
    inpainter.warm_up()
    return inpainter


@contextlib.contextmanager
def server():
    """The real application with its limits, and a tiny network; yields a connection."""
    from serving import answering

    from gmsrm_jax.serve.limits import Limits
    from gmsrm_jax.serve.rest import make_rest_app
    from gmsrm_jax.serve.worker import Worker

    limits = Limits(upload_bytes=200_000, pixels=PIXELS, queue=2, samples=2)
    worker = Worker(limits.queue, limits.seconds)
    inpainter = quick_inpainter()
    with answering(make_rest_app(inpainter, worker, limits)) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ITEM_SECONDS)
        with contextlib.closing(connection):
            yield connection
    worker.stop()


def peak() -> float:
    """The most memory that was ever resident, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_items(target: str, seed: int, first: int, last: int) -> None:
    """Prints the number of each item before it begins, and in the end how many could be used."""
    good_files()
    used = 0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".")))
        connection = stack.enter_context(server()) if target == "rest" else None
        for number in range(first, last):
            print(number, flush=True)
            faulthandler.dump_traceback_later(ITEM_SECONDS, exit=True)
            rng = np.random.default_rng([seed, number])
            used += (
                load_damaged(rng, folder) if connection is None else ask_damaged(rng, connection)
            )
            if number == first + 100:
                before = peak()
            if number > first + 100:
                assert peak() < before + GROWTH, f"{peak() - before:.0f} MiB more"
        faulthandler.cancel_dump_traceback_later()
        assert not any(folder.iterdir())
    print(used)


def run_shell(folder: str) -> int:
    from gmsrm_jax import Inpainter
    from gmsrm_jax.cli import main

    inpainter = quick_inpainter()
    Inpainter.from_pretrained = lambda *_, **__: inpainter
    faulthandler.dump_traceback_later(CHILD_SECONDS / 2, exit=True)
    options = ["--image", f"{folder}/images", "--mask", f"{folder}/mask.png"]
    options += ["--output", f"{folder}/output", "--mask-resize", "nearest"]
    return main(["inpaint", *options, "--max-pixels", str(PIXELS)])


if __name__ == "__main__":
    faulthandler.enable()
    if sys.argv[1] == "shell":
        sys.exit(run_shell(sys.argv[2]))
    run_items(sys.argv[1], *map(int, sys.argv[2:]))
