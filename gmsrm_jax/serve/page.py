"""The page for people: how it looks, and which of its parts call what.

Gradio reads nothing that a browser sends: every event is declared with `preprocess=False`, and
`PageEvents` takes the values as they come and checks them.
"""

from typing import Any

import gradio as gr

from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.inference.strategies import STRATEGIES
from gmsrm_jax.serve.examples import make_examples
from gmsrm_jax.serve.filling import MAX_FEATHER
from gmsrm_jax.serve.limits import MIB, Limits
from gmsrm_jax.serve.page_events import PageEvents
from gmsrm_jax.serve.storage import Storage
from gmsrm_jax.serve.worker import Worker

_BRUSH = "#ff2d55"
_FORMATS = [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"]
_SYSTEM_FONT = ("system-ui", "sans-serif")
_SYSTEM_MONO = ("ui-monospace", "monospace")
CSS = """
.gradio-container { width: 100%; max-width: 1200px !important; margin: 0 auto !important; }
footer { display: none !important; }
#examples .grid-wrap, #results .grid-wrap { min-height: 0; overflow-y: visible; }
@media (max-width: 640px) {
  .gradio-container > .main { padding: 12px !important; }
  #examples .grid-container, #results .grid-container {
    grid-template-columns: repeat(2, minmax(0, 1fr));
  }
}
"""


def theme() -> gr.themes.Base:
    """Returns Gradio's own look with fonts that every system has."""
    return gr.themes.Default(primary_hue="blue", font=_SYSTEM_FONT, font_mono=_SYSTEM_MONO)


def build_page(inpainter: Inpainter, worker: Worker, limits: Limits, storage: Storage) -> gr.Blocks:
    """Builds the page.

    Args:
        inpainter: what fills.
        worker: where it runs.
        limits: of what is uploaded and asked for.
        storage: for the pictures shown; Gradio must use the same folder.
    """
    examples = make_examples(storage)
    with gr.Blocks(title="Fill holes in pictures", analytics_enabled=False) as page:
        gr.Markdown(
            "## Fill holes in pictures\n"
            f"Choose a picture of up to {limits.upload_bytes // MIB} MB and paint over what should"
            " go. Outside the hole, not one pixel changes.",
            elem_id="intro",
        )
        shown = gr.State([])
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                picture = gr.File(
                    label="Picture", file_types=_FORMATS, height=140, elem_id="picture"
                )
                with gr.Tab("Paint the hole"):
                    hint = gr.Markdown("First choose a picture, or one of the examples below.")
                    # Shown with its first picture: it takes its width when it is made.
                    editor = gr.ImageEditor(
                        show_label=False,
                        sources=(),
                        transforms=(),
                        layers=False,
                        brush=gr.Brush(
                            default_size=28,
                            colors=[_BRUSH],
                            default_color=_BRUSH,
                            color_mode="fixed",
                        ),
                        format="png",
                        height=520,
                        buttons=["fullscreen"],
                        visible=False,
                        elem_id="editor",
                    )
                with gr.Tab("Mask file"):
                    gr.Markdown(
                        "A black and white picture: white is the hole. What is painted is added."
                    )
                    mask = gr.File(label="Mask", file_types=_FORMATS, height=140, elem_id="mask")
                    invert = gr.Checkbox(label="Black is the hole", elem_id="invert")
                    fit = gr.Checkbox(label="Fit the mask to the picture's size", elem_id="fit")
                gallery = gr.Gallery(
                    [(example.thumbnail, example.name) for example in examples],
                    label="Examples",
                    columns=4,
                    height="auto",
                    allow_preview=False,
                    object_fit="cover",
                    format="png",
                    buttons=[],
                    elem_id="examples",
                )
            with gr.Column(scale=2, min_width=320):
                with gr.Group():
                    samples = gr.Slider(
                        1, limits.samples, 1, step=1, label="Number of fillings", elem_id="samples"
                    )
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="seed")
                with gr.Accordion("More", open=False, elem_id="more"):
                    strategy = gr.Dropdown(
                        list(STRATEGIES), value="auto", label="Strategy", elem_id="strategy"
                    )
                    feather = gr.Slider(
                        0,
                        min(64, MAX_FEATHER),
                        0,
                        step=1,
                        label="Feather (pixels, inside the hole)",
                        elem_id="feather",
                    )
                button = gr.Button("Fill the hole", variant="primary", size="lg", elem_id="fill")
                status = gr.Markdown(elem_id="status")
                slider = gr.ImageSlider(
                    label="Before and after",
                    interactive=False,
                    format="png",
                    buttons=["fullscreen"],
                    visible=False,
                    elem_id="slider",
                )
                results = gr.Gallery(
                    label="Fillings",
                    columns=4,
                    height="auto",
                    allow_preview=False,
                    object_fit="cover",
                    buttons=[],
                    visible=False,
                    elem_id="results",
                )
                files = gr.File(
                    label="Download (PNG, full size)",
                    file_count="multiple",
                    interactive=False,
                    visible=False,
                    elem_id="files",
                )
        events = PageEvents(inpainter, worker, limits, storage, examples)
        private: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
        canvas = [editor, hint, status]
        picture.upload(
            events.open_picture,
            [picture, mask],
            [mask, *canvas],
            show_progress_on=status,
            **private,
        )
        picture.clear(events.clear, [], canvas, show_progress="hidden", **private)
        gallery.select(
            events.open_example, [], [picture, mask, *canvas], show_progress="hidden", **private
        )
        button.click(
            events.fill,
            [picture, editor, mask, invert, fit, samples, seed, strategy, feather],
            [slider, results, files, status, shown],
            concurrency_limit=1,
            show_progress_on=status,
            **private,
        )
        results.select(events.show, [shown], [slider, status], show_progress="hidden", **private)
    page.queue(max_size=limits.queue, default_concurrency_limit=4)
    return page
