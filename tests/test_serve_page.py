"""The page's events with values that no browser of ours would send."""

import asyncio
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
    picture, mask, canvas, _, status = asyncio.run(events.go_on(shown))
    assert (picture, mask) == (shown["files"][1], None)
    assert canvas.value is not None
    assert "50 × 40 pixels" in status
    *skipped, status = asyncio.run(events.go_on(NONE))
    assert (skipped, status) == ([gr.skip()] * 4, "**Not done:** there is no filling yet")


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
    *skipped, status = asyncio.run(events.open_example(chosen(index)))
    assert (skipped, status) == ([gr.skip()] * 4, "**Not done:** there is no such example")
