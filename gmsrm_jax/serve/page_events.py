"""What the page's buttons do. Values come as the browser sent them, and are checked here."""

import functools
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
import numpy as np
from gradio.components.image_editor import EditorValue
from PIL import Image
from pydantic import ValidationError

from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.inference.mask_io import Cures, Mask, open_mask
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.inference.picture_io import Picture, open_picture
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.serve.examples import MARK, Example
from gmsrm_jax.serve.filling import Filled, check_options, fill, painted_mask, united
from gmsrm_jax.serve.limits import Limits, Refused
from gmsrm_jax.serve.rest import first_error
from gmsrm_jax.serve.worker import Job, Worker

FIRST = "First choose a picture, or one of the examples."
FIT_LABEL = "Fit the mask to the picture's size"
INVERT_LABEL = "Black is the hole"
_CURES = Cures(f"tick “{INVERT_LABEL}”", "", f"tick “{FIT_LABEL}”")
# Longer side in pixels of what is painted on and looked at; the work is done at full size.
_SHOWN = 1024
_PAINTED = 640  # longer side at least of what is painted on
_CANVAS = (200, 520)  # pixels on the screen, least and most of the editor's height
_AROUND = 62  # of them, the editor leaves free above and below, or beside, the picture
_PROGRESS = gr.Progress()
_Event = Callable[..., Awaitable[tuple]]
T = TypeVar("T")


def _told(failed: Callable[[str], tuple]) -> Callable[[_Event], _Event]:
    """Makes an event's failure one line of text; `failed` makes its outputs of that."""

    def decorate(event: _Event) -> _Event:
        @functools.wraps(event)
        async def wrapped(*args: Any, **kwargs: Any) -> tuple:
            try:
                return await event(*args, **kwargs)
            except ValidationError as error:
                message = first_error(error)
            except (UserError, Refused) as error:
                message = str(error)
            return failed(f"**Not done:** {plain(message)}")

        return wrapped

    return decorate


class PageEvents:
    """The functions behind the page.

    A canvas is two outputs, the editor and the hint above it. A result is five: before and after,
    the fillings, their files, the button to go on, and what is kept of them. Both belong to a
    picture and go with it.
    """

    def __init__(
        self,
        inpainter: Inpainter,
        worker: Worker,
        limits: Limits,
        folder: Path,
        examples: list[Example],
    ):
        """Takes what they share.

        Args:
            inpainter: what fills.
            worker: where it runs.
            limits: of pictures and samples.
            folder: for files; Gradio deletes those that it was given.
            examples: in the order in which they are shown.
        """
        self._inpainter, self._worker, self._limits = inpainter, worker, limits
        self._folder, self._examples = folder, examples

    @_told(lambda said: (gr.skip(), *_no_canvas(), said, *no_result()))
    async def open_picture(self, file: Any, mask_file: Any) -> tuple:
        """Shows an uploaded picture, upright and scaled, to be painted on: mask, canvas, status.

        What belongs to another picture is forgotten: its result, and the mask of an example.
        """
        path = _path(file, "choose a picture first")
        picture = await self._worker.run(lambda *_: self._open(path))
        old = {str(example.mask) for example in self._examples}
        mask = None if isinstance(mask_file, dict) and mask_file.get("path") in old else gr.skip()
        return mask, *_canvas(picture), _size(picture), *no_result()

    def clear(self) -> tuple:
        """Forgets the picture, and what belongs to it: canvas, status, result."""
        return *_no_canvas(), "", *no_result()

    @_told(lambda said: (*_same(4), said, *_same(5)))
    async def open_example(self, event: gr.SelectData) -> tuple:
        """Shows an example with its hole marked: picture, mask, canvas, status, no result."""
        example = _chosen(self._examples, event.index, "there is no such example")

        def work(*_: Any) -> tuple[Picture, Mask]:
            picture = self._open(example.picture)
            return picture, open_mask(_read(example.mask), picture)

        picture, mask = await self._worker.run(work)
        canvas = _canvas(picture, mask.hole)
        return str(example.picture), str(example.mask), *canvas, _size(picture), *no_result()

    @_told(lambda said: (None, said))
    async def fill(
        self,
        file: Any,
        painting: Any,
        mask_file: Any,
        invert: Any,
        fit: Any,
        samples: Any,
        seed: Any,
        strategy: Any,
        feather: Any,
        progress: gr.Progress = _PROGRESS,
    ) -> tuple:
        """Fills the hole: for `reveal`, the picture's path with the result; and what to say."""
        path = _path(file, "choose a picture first")
        mask_path = _path(mask_file, "choose the mask again") if mask_file else None
        painted = painting.get("layers") or () if isinstance(painting, dict) else ()
        layers = [_path(layer, "paint the hole again") for layer in painted]
        options = FillOptions(
            num_samples=samples,
            seed=seed,
            strategy=strategy,
            feather=feather,
            mask_invert=invert,
            mask_resize="nearest" if fit else None,
            max_pixels=self._limits.pixels,
        )
        check_options(options, self._limits)

        def work(job: Job, _: Any) -> tuple:
            job.listeners.append(lambda share: progress(share, desc="Filling"))
            picture = self._open(path)
            mask = self._mask(picture, layers, mask_path, options)
            filled = fill(self._inpainter, picture, mask, options, self._limits, job)
            job.check()
            return self._shown(picture, filled)

        return (path, await self._worker.run(work)), gr.skip()

    async def reveal(self, filled: tuple[Path, tuple] | None, file: Any) -> tuple:
        """Shows what was filled, with what to say, unless its picture is gone by now."""
        if filled is None or not file or filled[0] != _path(file, "choose a picture first"):
            return *_same(5), gr.skip()
        return filled[1]

    @_told(lambda said: (gr.skip(), said, gr.skip()))
    async def show(self, shown: dict[str, Any], event: gr.SelectData) -> tuple:
        """Shows another filling beside the picture."""
        after = _chosen(shown["views"], event.index, "there is no such filling")
        return (shown["before"], after), gr.skip(), {**shown, "chosen": event.index}

    @_told(lambda said: (*_same(4), said, *_same(5)))
    async def go_on(self, shown: dict[str, Any]) -> tuple:
        """Makes the filling shown the next picture: picture, mask, canvas, status, no result."""
        path = _chosen(shown["files"], shown["chosen"], "there is no filling yet")
        picture = await self._worker.run(lambda *_: self._open(Path(path)))
        return path, None, *_canvas(picture), _size(picture), *no_result()

    def _open(self, path: Path) -> Picture:
        return open_picture(_read(path), max_pixels=self._limits.pixels, name="image")

    def _mask(
        self, picture: Picture, layers: list[Path], mask_path: Path | None, options: FillOptions
    ) -> Mask:
        """Where the hole is: what is painted, and the mask file; without them, alpha."""
        masks = []
        if mask_path is not None:
            masks.append(open_mask(_read(mask_path), picture, options, "mask", _CURES))
        for layer in layers:
            opened = open_picture(_read(layer), max_pixels=self._limits.pixels, name="painting")
            if opened.alpha is not None and opened.alpha.any():
                masks.append(painted_mask(picture, opened.alpha > 0))
        if masks:
            return functools.reduce(united, masks)
        if picture.alpha is None:
            raise UserError("there is no hole: paint over what should go, or choose a mask file")
        return open_mask(None, picture)

    def _shown(self, picture: Picture, filled: Filled) -> tuple:
        # In a folder with a name that nobody can guess.
        folder, result = self._folder / secrets.token_hex(16), filled.result
        folder.mkdir()
        before = str(folder / "before.png")
        _scaled(picture.rgb).save(before, compress_level=1)
        files, views = [], []
        for seed, data in zip(result.seeds, filled.files, strict=True):
            files.append(str(folder / f"filled-seed-{seed}.png"))
            views.append(str(folder / f"view-{seed}.png"))
            Path(files[-1]).write_bytes(data)
            rgb = open_picture(data, max_pixels=self._limits.pixels).rgb
            _scaled(rgb).save(views[-1], compress_level=1)
        said = (
            f"{100 * result.hole_ratio:.1f} % of {picture.width} × {picture.height} pixels filled"
            f" in {result.seconds:.1f} s (strategy {result.strategy})."
            if result.hole_ratio
            else "**Nothing was filled:** there is no hole."
        )
        gallery = [(view, f"seed {seed}") for view, seed in zip(views, result.seeds, strict=True)]
        return (
            gr.update(value=(before, views[0]), visible=True),
            gr.update(value=gallery, visible=len(views) > 1),
            gr.update(value=files, visible=True),
            gr.update(visible=True),
            {"before": before, "views": views, "files": files, "chosen": 0},
            "\n\n".join([said, *map(plain, filled.notes)]),
        )


def _path(file: Any, missing: str) -> Path:
    """Where a file is; the server lets through those of its own alone."""
    path = file.get("path") if isinstance(file, dict) else None
    if not isinstance(path, str):
        raise UserError(missing)
    return Path(path)


def _chosen(items: Sequence[T], index: Any, missing: str) -> T:
    """Returns what somebody chose; the index is as the browser sent it."""
    if not isinstance(index, int) or index not in range(len(items)):
        raise UserError(missing)
    return items[index]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError("a file is not kept any more; choose the picture again") from error


def _size(picture: Picture) -> str:
    size = f"{picture.width} × {picture.height} pixels."
    return "\n\n".join([size, *map(plain, picture.warnings)])


def _scaled(rgb: np.ndarray) -> Image.Image:
    image = Image.fromarray(rgb)
    image.thumbnail((_SHOWN, _SHOWN), reducing_gap=3.0)
    return image


def _canvas(picture: Picture, hole: np.ndarray | None = None) -> tuple[dict[str, Any], str]:
    """Puts a picture into the editor, as high as it needs, and says what to do there.

    A hole that is given is marked in what is painted on, which is never read back: the editor
    forgets a layer that it did not paint itself.
    """
    rgb = picture.rgb
    if hole is not None:
        rgb = rgb.copy()
        rgb[hole] = (rgb[hole] + 2 * np.asarray(MARK)) // 3
    image = _scaled(rgb)
    if max(image.size) < _PAINTED:  # the brush has its size in these pixels
        scale = _PAINTED / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC)
    value: EditorValue = {"background": image, "layers": [], "composite": None}
    # 100cqw is the width of the editor's place, which the browser alone knows.
    shape = image.height / image.width
    fitting = f"calc((100cqw - {_AROUND}px) * {shape:.4f} + {_AROUND}px)"
    least, most = _CANVAS
    height = f"clamp({least}px, {fitting}, {most}px)"
    hint = (
        "Paint over what should go."
        if hole is None
        else "The hole is in the mask file, and marked. Paint to add to it."
    )
    return gr.update(value=value, height=height, visible=True), hint


def _no_canvas() -> tuple[dict[str, Any], str]:
    return gr.update(value=None, visible=False), FIRST


def no_result() -> tuple:
    """The outputs of a result where there is none."""
    nothing: dict[str, Any] = {"before": None, "views": [], "files": [], "chosen": 0}
    emptied = (gr.update(value=None, visible=False) for _ in range(3))
    return *emptied, gr.update(visible=False), nothing


def _same(outputs: int) -> list[dict[str, Any]]:
    """So many outputs left as they are."""
    return [gr.skip() for _ in range(outputs)]


def plain(text: str) -> str:
    """Makes text that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!<>|~&$" else c for c in text)
