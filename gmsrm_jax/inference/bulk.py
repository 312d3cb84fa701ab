"""Fills many picture files: read and written by threads while the network works on others."""

import functools
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from gmsrm_jax.data.bad_pictures import printable
from gmsrm_jax.inference.inpainter import Inpainter, NotEnoughMemory, Progress, Result
from gmsrm_jax.inference.manifest import Manifest
from gmsrm_jax.inference.mask_io import Mask, open_mask
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.inference.pairing import Job
from gmsrm_jax.inference.picture_io import Picture, encode_picture, format_of, open_picture
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import file_sha256, write_atomically
from gmsrm_jax.runtime.heartbeat import Beat, heartbeat

_THREADS = min(4, os.cpu_count() or 1)
# What one picture can fail with while the next one need not.
_FAILURES = (UserError, OSError, MemoryError)
# Of the options; the manifest has the others in fields of their own.
_TOLD = {"feather", "mask_invert", "mask_threshold", "mask_dilate", "mask_resize"}
_Item = TypeVar("_Item")
_Output = TypeVar("_Output")


class Done(NamedTuple):
    """What became of a picture.

    Attributes:
        job: its files.
        error: why it could not be filled, None if it was.
        warnings: what is odd about it, one line each.
        known_pixels_kept: the files written hold every known pixel bit for bit.
        notes: why not, and what else their format cannot hold, one line each.
        copied: there was no hole, and nothing was filled.
    """

    job: Job
    error: str | None
    warnings: Sequence[str]
    known_pixels_kept: bool
    notes: Sequence[str] = ()
    copied: bool = False


class _Opened(NamedTuple):
    """A picture and its mask, or the error in their place; what is known for the manifest."""

    job: Job
    pixels: tuple[Picture, Mask] | None
    error: str | None
    warnings: Sequence[str]
    facts: dict[str, Any]
    start: float
    info: dict[str, Any]


class BulkFiller:
    """Fills picture files, and writes a line of the manifest for each."""

    def __init__(
        self,
        inpainter: Inpainter,
        manifest: Manifest | None,
        options: FillOptions,
        *,
        keep_format: bool = False,
        keep_outputs: bool = False,
        progress: Progress | None = None,
    ):
        """Takes what all pictures share.

        Args:
            inpainter: what fills.
            manifest: where to report to, if anywhere.
            options: how to fill.
            keep_format: write each picture in its own format, otherwise as PNG.
            keep_outputs: leave output files that are there already.
            progress: see `Inpainter`, about the picture that is being filled.
        """
        self._progress, self._compiled = progress, False
        self._inpainter, self._manifest, self._options = inpainter, manifest, options
        self._keep_format, self._keep_outputs = keep_format, keep_outputs
        self._facts = {
            "options": options.model_dump(include=_TOLD),
            "seed": options.seed,
            "checkpoint": inpainter.source,
            "checkpoint_sha256": inpainter.sha256,
            "device": f"{inpainter.device} ({inpainter.device_kind})",
        }

    def fill(self, jobs: Sequence[Job]) -> Generator[Done, None, None]:
        """Fills pictures in order; one that cannot be filled does not stop the others.

        Outputs and manifest are written as soon as a picture is done. When the iterator is closed
        early, or an exception leaves it, what is being written is finished.

        Raises:
            UserError: the weights are damaged, or the manifest cannot be written.
            Exception: any other is a bug and ends the run, so that it is seen. Files and lines of
                the manifest that are written stay, all of them whole; `keep_outputs` goes on there.
        """
        with _threads() as readers, _threads() as writers, heartbeat() as beat:
            fill = functools.partial(self._fill, beat)
            filled = map(fill, _in_order(readers, self._open, jobs))
            yield from _in_order(writers, self._write, filled)

    def _fill(self, beat: Beat, opened: _Opened) -> tuple[_Opened, Result | None]:
        if opened.pixels is None:
            return opened, None
        name, options = printable(str(opened.job.pair.image)), self._options.model_dump()
        report = self._progress

        def tell(done: float, total: int) -> None:
            if report is not None:  # who then says how far the picture is: each step counts anew
                beat(f"{name}: filling")
                report(done, total)

        beat(f"{name}: {'filling' if self._compiled else 'compiling and filling'}")
        try:
            result = self._inpainter(*opened.pixels, progress=tell, **options)
        except NotEnoughMemory as error:
            return opened._replace(pixels=None, error=str(error)), None
        finally:
            beat("")
        self._compiled |= result.hole_ratio > 0
        return opened._replace(pixels=None), result  # so that no more pictures are kept than needed

    def _open(self, job: Job) -> _Opened:
        start, pair = time.perf_counter(), job.pair
        facts: dict[str, Any] = {}
        warnings: Sequence[str] = ()
        try:
            facts["image_sha256"] = file_sha256(pair.image)
            facts["mask_sha256"] = file_sha256(pair.mask) if pair.mask else None
            picture = open_picture(pair.image, max_pixels=self._options.max_pixels)
            warnings = picture.warnings
            facts |= {
                "format": picture.format,
                "mode": picture.layout,
                "width": picture.width,
                "height": picture.height,
            }
            mask = open_mask(pair.mask, picture, self._options)
            picture = picture.fitted(mask.hole)
        except _FAILURES as error:
            reason = _reason(error, pair.image)
            if str(pair.image) not in reason:  # of a mask, which may be that of many pictures
                reason = f"{pair.image}: {reason}"
            return _Opened(job, None, reason, warnings, facts, start, {})
        facts["hole_ratio"] = round(mask.ratio, 6)
        warnings = []
        if self._keep_format and picture.format not in (format_of(pair.image), "MPO"):
            suffix = format_of(pair.image)
            warnings = [
                f"{pair.image}: holds {picture.format}; written as {suffix}, as its name says"
            ]
        return _Opened(job, (picture, mask), None, warnings, facts, start, picture.info)

    def _write(self, item: tuple[_Opened, Result | None]) -> Done:
        opened, result = item
        if result is None:
            return self._failure(opened, str(opened.error), opened.warnings)
        warnings = [*opened.warnings, *result.warnings]
        job, outputs, notes, kept = opened.job, [], [], True
        path = job.outputs[0]
        try:
            for path, image, seed in zip(job.outputs, result.images, result.seeds, strict=True):
                if self._keep_outputs and os.path.lexists(path):
                    continue
                form = format_of(job.pair.image) if self._keep_format else "PNG"
                encoded = encode_picture(image, form, opened.info)
                write_atomically(path, encoded.data)
                digest = hashlib.sha256(encoded.data).hexdigest()
                outputs.append({"path": str(path), "seed": seed, "sha256": digest})
                kept &= encoded.lossless
                notes += [note for note in encoded.notes if note not in notes]
        except _FAILURES as error:
            return self._failure(opened, _reason(error, path), warnings, outputs)
        copied = result.strategy == "none"
        self._append(
            opened,
            status="copied" if copied else "ok",
            strategy=result.strategy,
            outputs=outputs,
            known_pixels="kept" if kept else "re-encoded",
            notes=notes,
            warnings=warnings,
        )
        return Done(job, None, warnings, kept, notes, copied)

    def _failure(
        self,
        opened: _Opened,
        error: str,
        warnings: Sequence[str],
        outputs: Sequence[Mapping[str, Any]] = (),
    ) -> Done:
        self._append(
            opened, status="failed", error=error, outputs=list(outputs), warnings=list(warnings)
        )
        return Done(opened.job, error, warnings, True)

    def _append(self, opened: _Opened, **fields: Any) -> None:
        if self._manifest is None:
            return
        seconds = round(time.perf_counter() - opened.start, 3)
        pair = opened.job.pair
        self._manifest.append(
            image=str(pair.image),
            mask=None if pair.mask is None else str(pair.mask),
            seconds=seconds,
            **self._facts,
            **opened.facts,
            **fields,
        )


def _reason(error: BaseException, path: Path) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{path}: needs more memory than there is; scale it down"
    return (
        f"{getattr(error, 'filename', None) or path}: {getattr(error, 'strerror', None) or error}"
    )


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """A few threads; what they have not begun when the block is left is dropped."""
    pool = ThreadPoolExecutor(_THREADS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[_Item], _Output], items: Iterable[_Item]
) -> Iterator[_Output]:
    """Maps in threads, in order, with no more under way than there are threads."""
    under_way: deque[Future[_Output]] = deque()
    for item in items:
        under_way.append(pool.submit(function, item))
        if len(under_way) >= _THREADS:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()
