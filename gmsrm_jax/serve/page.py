"""The page for people: how it looks, and which of its parts call what.

Gradio reads nothing that a browser sends: every event is declared with `preprocess=False`, and
`PageEvents` takes the values as they come and checks them.
"""

from pathlib import Path
from typing import Any

import gradio as gr

from gmsrm_jax.data.formats import SUFFIXES
from gmsrm_jax.inference.doubts import short_kinds
from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.runtime.fields import choices
from gmsrm_jax.runtime.fields import limits as field_limits
from gmsrm_jax.serve.examples import make_examples
from gmsrm_jax.serve.limits import MIB, Limits
from gmsrm_jax.serve.page_events import (
    FIRST,
    FIT_LABEL,
    INVERT_LABEL,
    PageEvents,
    no_result,
    plain,
)
from gmsrm_jax.serve.worker import Worker

_BRUSH = "#ff2d55"
_HEIGHT = 520  # pixels on the screen of the result
_SWEEP_SECONDS, _KEPT_SECONDS = 60, 1800  # of files of uploads and results
_FEATHER = 64  # pixels; more is asked for by REST
_GALLERY: dict[str, Any] = {
    "columns": 4,
    "height": "auto",
    "allow_preview": False,
    "object_fit": "cover",
    "buttons": [],
}
_DEFAULTS = FillOptions.defaults()
# The brush paints a mask, which has one colour.
CSS = """
.gradio-container { width: 100%; max-width: 1200px !important; margin: 0 auto !important; }
footer { display: none !important; }
#editor button[aria-label="Color"] { display: none; }
#examples .grid-wrap, #results .grid-wrap { min-height: 0; overflow-y: visible; }
#paint { container-type: inline-size; }
/* One column: the button stands below the canvas, what is seldom used at the end. */
@media (max-width: 720px) {
  #sides { flex-direction: column; flex-wrap: nowrap; }
  #sides > .column { display: contents; }
  #options, #more { order: 1; }
  #examples { order: 2; }
}
@media (max-width: 640px) {
  .gradio-container > .main { padding: 12px !important; }
  #examples .grid-container, #results .grid-container {
    grid-template-columns: repeat(2, minmax(0, 1fr));
  }
}
"""


def theme() -> gr.themes.Base:
    """Returns Gradio's own look with fonts that every system has."""
    fonts, mono = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
    return gr.themes.Default(primary_hue="blue", font=fonts, font_mono=mono)


def build_page(inpainter: Inpainter, worker: Worker, limits: Limits, folder: Path) -> gr.Blocks:
    """Builds the page.

    Args:
        inpainter: what fills.
        worker: where it runs.
        limits: of what is uploaded and asked for.
        folder: for the pictures shown; Gradio must use the same one.
    """
    examples = make_examples(folder)
    events = PageEvents(inpainter, worker, limits, folder, examples)
    known = short_kinds(inpainter.knows)
    with gr.Blocks(
        title="Fill holes in pictures",
        analytics_enabled=False,
        delete_cache=(_SWEEP_SECONDS, _KEPT_SECONDS),
    ) as page:
        gr.Markdown(
            "## Fill holes in pictures\n"
            f"Choose a picture of up to {limits.upload_bytes // MIB} MiB and paint over what should"
            " go. Outside the hole, not one pixel changes.\n\n"
            + (
                f"The weights know {plain(known)}; what is unlike that, they fill less well."
                if known
                else "Nobody said which pictures the weights know."
            ),
            elem_id="intro",
        )
        shown = gr.State(no_result()[-1])
        with gr.Row(elem_id="sides"):
            with gr.Column(min_width=320):
                picture = _file("Picture")
                for example in examples:
                    picture.keep_in_cache |= {str(example.picture), str(example.mask)}
                with gr.Tab("Paint the hole", elem_id="paint"):
                    hint = gr.Markdown(FIRST, elem_id="hint")
                    editor = _editor()
                with gr.Tab("Mask file"):
                    gr.Markdown(
                        "A black and white picture: white is the hole. What is painted is added."
                    )
                    mask = _file("Mask")
                    invert = gr.Checkbox(label=INVERT_LABEL, elem_id="invert")
                    fit = gr.Checkbox(label=FIT_LABEL, elem_id="fit")
                gallery = gr.Gallery(
                    [(example.thumbnail, example.name) for example in examples],
                    label="Examples",
                    format="png",
                    elem_id="examples",
                    **_GALLERY,
                )
            with gr.Column(min_width=320):
                options = _options(limits)
                button = gr.Button("Fill the hole", variant="primary", size="lg", elem_id="fill")
                status = gr.Markdown(elem_id="status")
                slider = gr.ImageSlider(
                    label="Before and after",
                    interactive=False,
                    format="png",
                    height=_HEIGHT,
                    buttons=["fullscreen"],
                    visible=False,
                    elem_id="slider",
                )
                again = gr.Button("Go on from this result", visible=False, elem_id="again")
                fillings = gr.Gallery(
                    label="Fillings", visible=False, elem_id="results", **_GALLERY
                )
                files = gr.File(
                    label="Download (PNG, full size)",
                    file_count="multiple",
                    interactive=False,
                    visible=False,
                    elem_id="files",
                )
        private: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
        quiet = {"show_progress": "hidden", **private}
        told = {"show_progress_on": status, **private}
        result = [slider, fillings, files, again, shown]
        filled = gr.State(None)
        filling = button.click(
            events.fill,
            [picture, editor, mask, invert, fit, *options],
            [filled, status],
            concurrency_limit=1,
            **told,
        )
        filling.then(events.reveal, [filled, picture], [*result, status], **quiet)
        fillings.select(events.show, [shown], [slider, status, shown], **quiet)
        # With another picture, a filling that is under way belongs to the one before.
        of_picture = [editor, hint, status, *result]
        picture.upload(
            events.open_picture, [picture, mask], [mask, *of_picture], cancels=filling, **told
        )
        picture.clear(events.clear, [], of_picture, cancels=filling, **quiet)
        both = [picture, mask, *of_picture]
        gallery.select(events.open_example, [], both, cancels=filling, **quiet)
        again.click(events.go_on, [shown], both, cancels=filling, **quiet)
    page.queue(max_size=limits.queue, default_concurrency_limit=4)
    return page


def _file(label: str) -> gr.File:
    return gr.File(label=label, file_types=list(SUFFIXES), height=140, elem_id=label.lower())


def _editor() -> gr.ImageEditor:
    # Shown with its first picture: it takes its width when it is made.
    return gr.ImageEditor(
        show_label=False,
        sources=(),
        transforms=(),
        layers=False,
        brush=gr.Brush(default_size=28, colors=[_BRUSH], default_color=_BRUSH, color_mode="fixed"),
        format="png",
        buttons=["fullscreen"],
        visible=False,
        elem_id="editor",
    )


def _options(limits: Limits) -> list[gr.components.Component]:
    """Number of fillings, seed, strategy and feather, in the order of `PageEvents.fill`."""
    with gr.Group(elem_id="options"):
        samples = _slider("num_samples", limits.samples, "Number of fillings", "samples")
        least = field_limits(FillOptions, "seed")["ge"]
        seed = gr.Number(
            _DEFAULTS["seed"], label="Seed", precision=0, minimum=least, elem_id="seed"
        )
    with gr.Accordion("More", open=False, elem_id="more"):
        strategy = gr.Dropdown(
            list(choices(FillOptions, "strategy")),
            value=_DEFAULTS["strategy"],
            label="Strategy",
            elem_id="strategy",
        )
        most = min(_FEATHER, limits.rings)
        feather = _slider("feather", most, "Feather (pixels, inside the hole)", "feather")
    return [samples, seed, strategy, feather]


def _slider(name: str, most: int, label: str, elem_id: str) -> gr.Slider:
    least = field_limits(FillOptions, name)["ge"]
    return gr.Slider(least, most, _DEFAULTS[name], step=1, label=label, elem_id=elem_id)
