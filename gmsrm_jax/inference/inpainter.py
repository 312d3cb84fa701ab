"""Fills the holes of pictures of any size and kind; the class that people import."""

import functools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import numpy as np

from gmsrm_jax.inference.doubts import doubts
from gmsrm_jax.inference.feather import feathered
from gmsrm_jax.inference.mask_io import Mask, open_mask
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.inference.picture_io import FilledPicture, Picture, PictureSource, open_picture
from gmsrm_jax.inference.strategies import choose, fill
from gmsrm_jax.inference.tiling import Square
from gmsrm_jax.runtime.devices import find_device
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.jax_setup import use_compile_cache

ImageLike = PictureSource | Picture
MaskLike = PictureSource | Mask | None

Progress = Callable[[float, int], None]
"""Is told, often, how many fillings are done and how many there are: (done, total)."""

# Of samples that are worked on together, so that memory stays bounded.
_PIXELS_UNDER_WAY = 32_000_000


@dataclass(frozen=True)
class Result:
    """A filled picture.

    Attributes:
        images: one for each sample, of the kind and size that the picture was given in: Pillow
            image or array. A path or the bytes of a file give a Pillow image.
        seeds: of the samples.
        seconds: from opening the picture to this result.
        hole_ratio: share of the picture that was filled, in [0, 1].
        strategy: the one used, never "auto"; "none" if there was no hole.
        warnings: what is odd about the picture or its mask, and why the filling may be poor, one
            line each.
    """

    images: list[FilledPicture]
    seeds: list[int]
    seconds: float
    hole_ratio: float
    strategy: str
    warnings: list[str] = field(default_factory=list)


class NotEnoughMemory(UserError):
    """A picture that needs more memory than there is, while others need not."""


class Inpainter:
    """A trained network that fills holes.

    One program is compiled for each batch bucket (1, 2, 4, …), whatever the sizes of pictures. The
    same call with the same seed gives the same filling on the same device; another number of
    samples can mean another bucket, whose program may round otherwise. May be called from several
    threads.

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
        knows: the pictures that they were trained on, in words; "" if nobody said.
    """

    def __init__(self, pretrained: Any, *, device: str = "auto", max_batch: int | None = None):
        """Puts a network on a device.

        Compiled programs are kept between processes, in the user's cache folder if JAX is told of
        no other, which is said once on the standard error.

        Args:
            pretrained: what `gmsrm_jax.networks.load_pretrained` returns.
            device: "auto", "cpu", "gpu" or "tpu".
            max_batch: squares in the largest batch, rounded down to a power of two; None: 4 on a
                CPU, 32 elsewhere.

        Raises:
            UserError: there is no such device.
        """
        if not hasattr(pretrained, "filler"):
            raise UserError(
                f"pretrained: {pretrained!r} is no network; use Inpainter.from_pretrained"
            )
        self._pretrained = pretrained
        cache = use_compile_cache()
        if cache:  # a program of somebody else: the commands have one before they come here
            print(
                f"gmsrm: the first filling compiles the network, unless it is in {cache}",
                file=sys.stderr,
            )
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
        self.knows: str = pretrained.facts.get("data", "")

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
        if not isinstance(batch, int) or batch < 1:
            raise UserError(f"batch: {batch!r}; use a whole number from 1")
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
            NotEnoughMemory: a UserError, the picture needs more than there is.
        """
        for name, function in {"on_step": on_step, "progress": progress}.items():
            if function is not None and not callable(function):
                raise UserError(f"{name}: {function!r} cannot be called; give a function")
        checked = FillOptions.checked({"num_samples": num_samples, "seed": seed, **options})
        return self._fill(_Opened(image, mask, checked), checked, on_step, progress)

    def batch(
        self,
        items: Iterable[tuple[ImageLike, MaskLike] | UserError],
        *,
        on_error: Literal["raise", "return"] = "raise",
        **options: Any,
    ) -> Iterator[Result | UserError]:
        """Fills a stream of pictures, one after another.

        Args:
            items: pairs of picture and mask, each taken when it is its turn; an error in the place
                of a pair counts as one that cannot be used.
            on_error: "raise" stops at the first picture that cannot be used; "return" gives its
                error in the place of a result and goes on.
            **options: fields of `FillOptions`, for every picture.

        Yields:
            A result for each item, in order.

        Raises:
            UserError: an item that cannot be used, with its position from 0.
        """
        if on_error not in ("raise", "return"):
            raise UserError(f"on_error {on_error!r}; use 'raise' or 'return'")
        if not isinstance(items, Iterable):
            raise UserError(f"items: {items!r}; give pairs of picture and mask")
        return self._each(items, on_error, FillOptions.checked(options))

    def _each(
        self,
        items: Iterable[tuple[ImageLike, MaskLike] | UserError],
        on_error: str,
        options: FillOptions,
    ) -> Iterator[Result | UserError]:
        for position, item in enumerate(items):
            try:
                if isinstance(item, UserError):
                    raise item
                if not isinstance(item, tuple | list) or len(item) != 2:
                    raise UserError(f"{type(item).__name__} is no pair; give (picture, mask)")
                opened = _Opened(*item, options)
            except UserError as error:
                if on_error == "raise":
                    raise UserError(f"item {position}: {error}") from error
                yield error
            else:
                # Outside: what is wrong with the network is wrong for all.
                result: Result | UserError
                try:
                    result = self._fill(opened, options)
                except NotEnoughMemory as error:
                    if on_error == "raise":
                        raise
                    result = error
                del opened, item  # before the next one is opened
                yield result
                del result

    def _fill(
        self,
        opened: "_Opened",
        options: FillOptions,
        on_step: Callable[[], None] | None = None,
        progress: Progress | None = None,
    ) -> Result:
        try:
            return self._filled(opened, options, on_step, progress)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            picture = opened.picture
            raise NotEnoughMemory(
                f"{picture.name}: {picture.width} x {picture.height} px need more memory than "
                "there is; scale it down"
            ) from error

    def _filled(
        self,
        opened: "_Opened",
        options: FillOptions,
        on_step: Callable[[], None] | None,
        progress: Progress | None,
    ) -> Result:
        picture, mask = opened.picture, opened.mask
        rgb, hole = picture.rgb, mask.hole
        seeds = [options.seed + sample for sample in range(options.num_samples)]
        strategy, images = "none", []
        warnings = [*opened.warnings, *mask.warnings]
        if not mask.ratio:
            images = [picture.restore(rgb, hole) for _ in seeds]
            _told(progress, 0, len(seeds), len(seeds))
        else:
            strategy = choose(options.strategy, hole, self.size)
            doubt = doubts(rgb, hole, strategy, self.size, self.knows)
            warnings += [f"{picture.name}: {doubt}"] if doubt else []
            together = max(1, _PIXELS_UNDER_WAY // hole.size)
            for first in range(0, len(seeds), together):
                tell = functools.partial(_told, progress, first, len(seeds))
                filled = self._samples(
                    options.strategy, rgb, hole, seeds[first : first + together], on_step, tell
                )
                images += [
                    picture.restore(feathered(one, rgb, one, hole, options.feather), hole)
                    for one in filled
                ]
        return Result(
            images=images,
            seeds=seeds,
            seconds=time.perf_counter() - opened.start,
            hole_ratio=mask.ratio,
            strategy=strategy,
            warnings=warnings,
        )

    def _samples(
        self,
        strategy: str,
        rgb: np.ndarray,
        hole: np.ndarray,
        seeds: list[int],
        on_step: Callable[[], None] | None,
        tell: Callable[[float], None],
    ) -> list[np.ndarray]:
        """Fills a hole once for each seed; what these ask of the network shares batches."""
        shares, answered = [0.0] * len(seeds), [0] * len(seeds)
        fillings = [
            fill(strategy, rgb, hole, self.size, seed, functools.partial(shares.__setitem__, k))
            for k, seed in enumerate(seeds)
        ]
        asked = {k: next(filling) for k, filling in enumerate(fillings)}
        filled: dict[int, np.ndarray] = {}
        while asked:
            squares = [square for each in asked.values() for square in each]
            of_square = [k for k, each in asked.items() for _ in each]
            indices = [answered[k] + i for k, each in asked.items() for i in range(len(each))]
            if on_step is not None and not squares:
                on_step()
            outputs = iter(
                self._filler.squares(squares, [seeds[k] for k in of_square], indices, on_step)
            )
            for k, each in list(asked.items()):
                answered[k] += len(each)
                try:
                    asked[k] = fillings[k].send([next(outputs) for _ in each])
                except StopIteration as end:
                    del asked[k]
                    filled[k], shares[k] = end.value, 1.0
            tell(sum(shares))
        return [filled[k] for k in range(len(seeds))]


class _Opened:
    """A picture and its mask, and when they were asked for."""

    def __init__(self, image: ImageLike, mask: MaskLike, options: FillOptions):
        self.start = time.perf_counter()
        self.picture = open_picture(image, max_pixels=options.max_pixels)
        self.warnings = list(self.picture.warnings)
        lost = self.picture.is_array and self.picture.info.keys() & {"exif", "icc_profile"}
        if lost and not isinstance(image, Picture):  # whoever has the picture has its info
            self.warnings.append(
                f"{self.picture.name}: given back as an array, without EXIF data and colour profile"
            )
        self.mask = open_mask(mask, self.picture, options)
        self.picture = self.picture.fitted(self.mask.hole)


def _told(progress: Progress | None, before: int, total: int, done: float) -> None:
    if progress is not None:
        progress(before + done, total)
