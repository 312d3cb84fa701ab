"""Fills the holes of pictures of any size and kind; the class that people import."""

import functools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from gmsrm_jax.inference.feather import feathered
from gmsrm_jax.inference.mask_io import Mask, open_mask
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.inference.picture_io import FilledPicture, Picture, PictureSource, open_picture
from gmsrm_jax.inference.strategies import Report, choose, fill
from gmsrm_jax.inference.tiling import Filling, Square
from gmsrm_jax.runtime.devices import find_device
from gmsrm_jax.runtime.errors import UserError

ImageLike = PictureSource | Picture
MaskLike = PictureSource | Mask | None

Progress = Callable[[float, int], None]
"""Is told, often, how many fillings are done and how many there are: (done, total)."""

# Under way together, pictures of a stream and samples of a picture, so that memory stays bounded.
_PIXELS_UNDER_WAY = 32_000_000


@dataclass(frozen=True)
class Result:
    """A filled picture.

    Attributes:
        images: one for each sample, of the kind and size that the picture was given in: Pillow
            image or array. A path or the bytes of a file give a Pillow image.
        seeds: of the samples.
        seconds: from opening the picture to this result, other pictures of a stream included.
        hole_ratio: share of the picture that was filled, in [0, 1].
        strategy: the one used, never "auto"; "none" if there was no hole.
        warnings: what is odd about the picture or its mask, one line each.
    """

    images: list[FilledPicture]
    seeds: list[int]
    seconds: float
    hole_ratio: float
    strategy: str
    warnings: list[str] = field(default_factory=list)


class Inpainter:
    """A trained network that fills holes.

    One program is compiled for each batch bucket (1, 2, 4, …), whatever the sizes of pictures. The
    same call with the same seed gives the same filling on the same device; another number of
    samples, or neighbours in a stream, can mean another bucket, whose program may round otherwise.
    May be called from several threads.

        inpainter = Inpainter.from_pretrained()
        result = inpainter("photo.jpg", "mask.png")
        result.images[0].save("filled.png")

    Attributes:
        size: side of the network's square in pixels.
        device: "cpu", "gpu" or "tpu", where it really runs.
        device_kind: the device's name, such as "NVIDIA H200".
        max_batch: squares in the largest batch.
        sha256: of the weights.
        source: where the weights come from.
    """

    def __init__(self, pretrained: Any, *, device: str = "auto", max_batch: int | None = None):
        """Puts a network on a device.

        Args:
            pretrained: what `gmsrm_jax.networks.load_pretrained` returns.
            device: "auto", "cpu", "gpu" or "tpu".
            max_batch: squares in the largest batch, rounded down to a power of two; None: 4 on a
                CPU, 32 elsewhere.

        Raises:
            UserError: there is no such device.
        """
        self._pretrained = pretrained
        place = find_device(device)
        # LLVM's level 1 halves the time to compile; the convolutions are not its work.
        self._filler = pretrained.filler(
            device=place,
            max_batch=max_batch,
            optimization_level=1,
        )
        self.size = self._filler.size
        self.device: str = place.platform
        self.device_kind: str = place.device_kind
        self.max_batch = self._filler.max_batch
        self.sha256: str = pretrained.sha256
        self.source: str = pretrained.source

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike | None = None,
        *,
        device: str = "auto",
        offline: bool = False,
        max_batch: int | None = None,
    ) -> "Inpainter":
        """Loads trained weights.

        Args:
            name_or_path: None for the bundled ones; a name, an exported folder, the workdir of a
                training, or a Hugging Face Hub id.
            device: "auto", "cpu", "gpu" or "tpu".
            offline: download nothing.
            max_batch: see `Inpainter`.

        Raises:
            UserError: no such weights or device; names it and the cure.
        """
        from gmsrm_jax.networks import load_pretrained

        return cls(load_pretrained(name_or_path, offline), device=device, max_batch=max_batch)

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Writes the weights as a folder that `from_pretrained` reads."""
        from gmsrm_jax.networks import save_pretrained

        save_pretrained(folder, self._pretrained)

    def warm_up(self, batch: int = 1) -> None:
        """Compiles the program of the bucket that holds so many squares, before it is needed."""
        size = self.size
        square = Square(np.zeros((size, size, 3), np.uint8), np.zeros((size, size), bool))
        count = min(batch, self.max_batch)
        self._filler.squares([square] * count, [0] * count, [0] * count)

    def __call__(
        self,
        image: ImageLike,
        mask: MaskLike = None,
        num_samples: int = 1,
        seed: int = 0,
        *,
        on_step: Callable[[], None] | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Result:
        """Fills the hole of a picture; every known pixel of the result is that of the picture.

        Args:
            image: see `open_picture`. It is displayed, and returned, as its EXIF orientation says.
            mask: see `open_mask`; white is the hole. None: the transparent part of the picture.
            num_samples: fillings; they differ inside the hole.
            seed: sample s has the seed `seed + s` and, but for rounding, is the same whenever it is
                asked for.
            on_step: called before each batch of the network and each step of detail, in the
                calling thread. What it raises ends the call, for a time limit, say; the inpainter
                can be used as before.
            progress: called after each step with how many of the fillings are done, about, and how
                many there are: `progress(done, total)`. A share of those under way counts, so that
                a bar can move within one large picture; `done` never falls and ends at `total`.
            **options: any other field of `FillOptions`, such as `strategy`, `feather`,
                `mask_invert` and `mask_dilate`.

        Raises:
            UserError: an input that cannot be used; names it, what was found and the cure.
        """
        checked = FillOptions.checked({"num_samples": num_samples, "seed": seed, **options})
        for result in self._stream([(image, mask)], checked, on_step, progress):
            if isinstance(result, UserError):
                raise result
            return result
        raise AssertionError("one item gives one result")

    def batch(
        self,
        items: Iterable[tuple[ImageLike, MaskLike] | UserError],
        *,
        on_error: Literal["raise", "return"] = "raise",
        progress: Progress | None = None,
        **options: Any,
    ) -> Iterator[Result | UserError]:
        """Fills a stream of pictures; squares of neighbouring pictures share batches.

        Args:
            items: pairs of picture and mask, taken as they are needed; an error in the place of a
                pair counts as one that cannot be used.
            on_error: "raise" stops at the first picture that cannot be used; "return" gives its
                error in the place of a result and goes on.
            progress: as in a call, about the next result.
            **options: fields of `FillOptions`, for every picture.

        Yields:
            A result for each item, in order.

        Raises:
            UserError: an item that cannot be used, with its position from 0.
        """
        if on_error not in ("raise", "return"):
            raise UserError(f"on_error {on_error!r}; use 'raise' or 'return'")
        return self._checked(
            self._stream(items, FillOptions.checked(options), None, progress), on_error
        )

    def _checked(
        self, results: Iterator[Result | UserError], on_error: str
    ) -> Iterator[Result | UserError]:
        for position, result in enumerate(results):
            if isinstance(result, UserError) and on_error == "raise":
                raise UserError(f"item {position}: {result}") from result
            yield result

    def _stream(
        self,
        items: Iterable[tuple[ImageLike, MaskLike] | UserError],
        options: FillOptions,
        on_step: Callable[[], None] | None,
        progress: Progress | None,
    ) -> Iterator[Result | UserError]:
        source, more = iter(items), True
        under_way: deque[_Task | UserError] = deque()
        while more or under_way:
            # Before others are taken, for a finished picture takes a place that fills a batch.
            while under_way:
                first = under_way[0]
                if isinstance(first, _Task) and first.waiting:
                    break
                under_way.popleft()
                yield first.result() if isinstance(first, _Task) else first
                del first
            while more and self._room(under_way):
                try:
                    item = next(source)
                except StopIteration:
                    more = False
                    break
                try:
                    if isinstance(item, UserError):
                        raise item
                    under_way.append(_Task(*item, options, self.size))
                except UserError as error:
                    under_way.append(error)
            runs = [run for task in under_way if isinstance(task, _Task) for run in task.waiting]
            squares = [square for run in runs for square in run.asked]
            seeds = [run.seed for run in runs for _ in run.asked]
            indices = [run.answered + k for run in runs for k in range(len(run.asked))]
            if on_step is not None and not squares:
                on_step()
            outputs = iter(self._filler.squares(squares, seeds, indices, on_step))
            for run in runs:
                run.answer([next(outputs) for _ in run.asked])
            if progress is not None and under_way and isinstance(under_way[0], _Task):
                progress(under_way[0].done, options.num_samples)

    def _room(self, under_way: "deque[_Task | UserError]") -> bool:
        """Returns whether another picture helps to fill a batch and fits in memory."""
        tasks = [task for task in under_way if isinstance(task, _Task)]
        squares = sum(len(run.asked) for task in tasks for run in task.waiting)
        pixels = sum(task.pixels for task in tasks)
        few = squares < self.max_batch and pixels < _PIXELS_UNDER_WAY
        return few and len(under_way) <= self.max_batch


class _Run:
    """One sample of a picture: what it asks of the network, and in the end its image.

    Nothing is worked out, and no memory taken, before `asked` is looked at.
    """

    def __init__(
        self,
        begin: Callable[[int, Report], Filling],
        seed: int,
        finish: Callable[[np.ndarray], FilledPicture],
    ):
        self.seed, self.answered = seed, 0
        self.image: FilledPicture | None = None
        self._asked: list[Square] | None = None
        # A list, and not this object, takes reports: a circle of references would keep the picture
        # in memory.
        self._share = [0.0]
        report = functools.partial(self._share.__setitem__, 0)
        self._filling, self._finish = begin(seed, report), finish

    @property
    def share(self) -> float:
        """How much of it is done, in [0, 1]."""
        return 1.0 if self.image is not None else float(self._share[0])

    @property
    def asked(self) -> list[Square]:
        if self._asked is None:
            self._asked = next(self._filling)
        return self._asked

    def answer(self, outputs: list[np.ndarray]) -> None:
        self.answered += len(outputs)
        try:
            self._asked = self._filling.send(outputs)
        except StopIteration as end:
            self._asked, self.image = [], self._finish(end.value)


class _Task:
    """A picture under way."""

    def __init__(self, image: ImageLike, mask: MaskLike, options: FillOptions, size: int):
        self._start = time.perf_counter()
        self._picture = open_picture(image, max_pixels=options.max_pixels)
        self._mask = open_mask(mask, self._picture, options)
        self._seeds = [options.seed + sample for sample in range(options.num_samples)]
        rgb, hole = self._picture.rgb, self._mask.hole
        self.pixels = hole.size * options.num_samples
        self._together = max(1, _PIXELS_UNDER_WAY // hole.size)
        self._strategy, self._runs = "none", []
        if self._mask.ratio > 0:
            self._strategy = choose(options.strategy, hole, size)
            # Not a method: a circle of references would keep the picture in memory.
            finish = functools.partial(_restored, self._picture, hole, options.feather)
            self._runs = [
                _Run(functools.partial(fill, self._strategy, rgb, hole, size), seed, finish)
                for seed in self._seeds
            ]

    @property
    def waiting(self) -> list[_Run]:
        """The samples to be worked on now, as many as fit in memory; none when all are done."""
        return [run for run in self._runs if run.image is None][: self._together]

    @property
    def done(self) -> float:
        """How many of its samples are done, those under way by their share."""
        return sum(run.share for run in self._runs) if self._runs else float(len(self._seeds))

    def result(self) -> Result:
        picture, hole = self._picture, self._mask.hole
        images = [run.image for run in self._runs if run.image is not None]
        if not self._runs:
            images = [picture.restore(picture.rgb, hole) for _ in self._seeds]
        return Result(
            images=images,
            seeds=self._seeds,
            seconds=time.perf_counter() - self._start,
            hole_ratio=self._mask.ratio,
            strategy=self._strategy,
            warnings=[*picture.warnings, *self._mask.warnings],
        )


def _restored(
    picture: Picture, hole: np.ndarray, feather: int, filled: np.ndarray
) -> FilledPicture:
    return picture.restore(feathered(filled, picture.rgb, filled, hole, feather), hole)
