"""The page's events with values that no browser of ours would send."""

import asyncio
import copy
import types

import gradio as gr
import pytest
from exported_networks import tiny_network
from gradio.route_utils import delete_files_created_by_app
from PIL import Image

from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.serve.examples import make_examples
from gmsrm_jax.serve.limits import Limits
from gmsrm_jax.serve.page import build_page
from gmsrm_jax.serve.page_events import PageEvents
from gmsrm_jax.serve.worker import Worker


@pytest.fixture(scope="module")
def inpainter():
    return Inpainter(tiny_network(), device="cpu")


@pytest.fixture(scope="module")
def events(inpainter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    worker = Worker(2, 30)
    yield PageEvents(inpainter, worker, Limits(), folder, make_examples(folder))
    worker.stop()


def assert_no_result(outputs):
    """Checks that what shows a result is emptied and hidden, and nothing kept of it."""
    *shown, button, kept = outputs
    assert [(each["value"], each["visible"]) for each in shown] == [(None, False)] * 3
    assert (button["visible"], kept) == (False, NONE)


def unchanged(status):
    """The outputs of what failed, when picture, mask, canvas and result are as before."""
    return *[gr.skip()] * 4, status, *[gr.skip()] * 5


def chosen(index):
    return types.SimpleNamespace(index=index)


SHOWN = {"before": "before", "views": ["one", "two"], "files": ["1", "2"], "chosen": 0}
NONE = {"before": None, "views": [], "files": [], "chosen": 0}


def test_another_filling_is_shown(events):
    slider, status, shown = asyncio.run(events.show(SHOWN, chosen(1)))
    assert (slider, status, shown) == (("before", "two"), gr.skip(), {**SHOWN, "chosen": 1})


def test_a_filling_becomes_the_next_picture(events, tmp_path):
    Image.new("RGB", (50, 40), (9, 99, 199)).save(tmp_path / "two.png")
    shown = {**SHOWN, "files": ["one.png", str(tmp_path / "two.png")], "chosen": 1}
    picture, mask, canvas, hint, status, *result = asyncio.run(events.go_on(shown))
    assert (picture, mask) == (shown["files"][1], None)
    assert canvas["visible"] and canvas["value"]["background"].size == (640, 512)
    assert (status, hint) == ("50 × 40 pixels.", "Paint over what should go.")
    assert_no_result(result)
    answer = asyncio.run(events.go_on(NONE))
    assert answer == unchanged("**Not done:** there is no filling yet")


def test_a_refused_picture_leaves_nothing_of_the_one_before(events, tmp_path):
    (tmp_path / "text.png").write_bytes(b"no picture")
    file, mine = {"path": str(tmp_path / "text.png")}, {"path": "mask.png"}
    mask, canvas, hint, status, *result = asyncio.run(events.open_picture(file, mine))
    assert mask == gr.skip()  # somebody's own, which may come before its picture
    assert (canvas["value"], canvas["visible"]) == (None, False)
    assert hint.startswith("First choose a picture")
    assert status.startswith("**Not done:** image: not one of JPEG")
    assert_no_result(result)
    (canvas, hint, status, *result) = events.clear()
    assert (canvas["visible"], status) == (False, "")
    assert_no_result(result)


@pytest.mark.parametrize(
    ("colours", "size", "message"),
    [
        (("black", "white"), (10, 8), "make them one size, or tick “Fit the mask to the picture"),
        (("white", "red"), (20, 16), "paint on black, or tick “Black is the hole” if"),
        (("#111", "#222"), (20, 16), "save the hole as white (255) on black"),
    ],
)
def test_a_mask_is_cured_with_what_is_on_the_page(events, tmp_path, colours, size, message):
    mask = Image.new("RGB", size, colours[0])
    mask.paste(colours[1], (2, 2, 7, 7))
    mask.save(tmp_path / "mask.png")
    Image.new("RGB", (20, 16)).save(tmp_path / "picture.png")
    files = [{"path": str(tmp_path / name)} for name in ("picture.png", "mask.png")]
    filled, status = asyncio.run(
        events.fill(files[0], None, files[1], False, False, 1, 0, "auto", 0)
    )
    *result, _ = asyncio.run(events.reveal(filled, files[0]))
    assert result == [gr.skip()] * 5
    # Markdown's own signs are escaped.
    assert message in status.replace("\\", "") and "mask_" not in status.replace("\\", "")
    assert "--" not in status.replace("\\", "")


@pytest.mark.parametrize(
    ("knows", "line"),
    [
        (
            "street facades and photographs: 397 (of a data set, a lab), 896 of flowers",
            "The weights know street facades and photographs; what is unlike that, they fill less"
            " well.",
        ),
        ("20 walls (bricks, some lab)", "The weights know 20 walls; what is unlike that"),
        ("", "Nobody said which pictures the weights know."),
    ],
)
def test_what_weights_know_is_said_in_few_words(inpainter, tmp_path, knows, line):
    worker = Worker(2, 30)
    worker.stop()
    known = copy.copy(inpainter)
    known.knows = knows
    page = build_page(known, worker, Limits(upload_bytes=3 << 20), tmp_path)
    intro = next(block for block in page.blocks.values() if block.elem_id == "intro")
    assert line in intro.value
    assert "of up to 3 MiB" in intro.value  # as the option says


def test_files_that_the_page_was_given_are_swept_but_not_its_own(inpainter, tmp_path):
    worker = Worker(2, 30)
    page = build_page(inpainter, worker, Limits(), tmp_path)
    worker.stop()
    files = next(block for block in page.blocks.values() if block.elem_id == "files")
    for path in (tmp_path / "made.png", *tmp_path.glob("facade_*.jpg")):
        path.touch()
        files.temp_files.add(str(path))
    delete_files_created_by_app(page, 1000)
    assert (tmp_path / "made.png").exists()
    delete_files_created_by_app(page, 0)
    assert not (tmp_path / "made.png").exists()
    assert len([*tmp_path.glob("facade_*.jpg")]) == 4


@pytest.mark.parametrize("index", [2, -1, 1.0, "0", None, [0], {}])
def test_a_filling_or_example_that_there_is_none_of(events, index):
    for shown in (SHOWN, NONE):
        slider, status, same = asyncio.run(events.show(shown, chosen(index)))
        assert (slider, same) == (gr.skip(), gr.skip())
        assert status == "**Not done:** there is no such filling"
    index = 4 if index == 2 else index
    answer = asyncio.run(events.open_example(chosen(index)))
    assert answer == unchanged("**Not done:** there is no such example")
