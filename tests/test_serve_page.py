"""The page's events with values that no browser of ours would send."""

import asyncio
import types

import gradio as gr
import pytest
from exported_networks import tiny_network

from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.serve.examples import make_examples
from gmsrm_jax.serve.limits import Limits
from gmsrm_jax.serve.page_events import PageEvents
from gmsrm_jax.serve.storage import Storage
from gmsrm_jax.serve.worker import Worker


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    storage = Storage(tmp_path_factory.mktemp("storage"))
    worker = Worker(2, 30)
    inpainter = Inpainter(tiny_network(), device="cpu")
    yield PageEvents(inpainter, worker, Limits(), storage, make_examples(storage))
    worker.stop()


def chosen(index):
    return types.SimpleNamespace(index=index)


def test_another_filling_is_shown(events):
    slider, status = asyncio.run(events.show(["before", "one", "two"], chosen(1)))
    assert (slider, status) == (("before", "two"), gr.skip())


@pytest.mark.parametrize("index", [2, -1, 1.0, "0", None, [0], {}])
def test_a_filling_or_example_that_there_is_none_of(events, index):
    for shown in (["before", "one", "two"], []):
        slider, status = asyncio.run(events.show(shown, chosen(index)))
        assert (slider, status) == (gr.skip(), "**Not done:** there is no such filling")
    index = 4 if index == 2 else index
    *skipped, status = asyncio.run(events.open_example(chosen(index)))
    assert (skipped, status) == ([gr.skip()] * 4, "**Not done:** there is no such example")
