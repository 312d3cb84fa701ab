"""Fillings of the same pictures and masks by several networks, to be compared in a study."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from gmsrm_jax.inference.mask_io import open_mask
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.inference.pairing import Pair, find_pairs, plan_outputs
from gmsrm_jax.inference.picture_io import open_picture
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import replacing
from gmsrm_jax.runtime.image_grid import holed
from gmsrm_jax.runtime.log import say

if TYPE_CHECKING:
    from gmsrm_jax.inference.inpainter import Inpainter


def make_fillings(
    folder: Path, networks: Mapping[str, "Inpainter"], images: Path, masks: Path | None
) -> tuple[dict[str, Path], Path]:
    """Fills every picture with every network, and marks the holes in the pictures themselves.

    A network's fillings lie in a folder named by the SHA-256 of its weights. One that is there
    already is whole and is not made again; the study refuses it where it is of other pictures.

    Args:
        folder: for the fillings.
        networks: by the name of the method.
        images: a picture file, or a folder of them.
        masks: see `find_pairs`.

    Returns:
        The folder of each method's fillings, and the folder of the pictures with grey holes.

    Raises:
        UserError: pictures and masks that do not pair, or one that cannot be used or written.
    """
    pairs = find_pairs(images, masks, ("--images", "--masks"))
    inputs = folder / "input"
    with _renamed(inputs) as made:
        for pair in pairs:
            _save_holed(pair, made / f"{pair.stem}.png")
    found = {}
    for name, network in networks.items():
        found[name] = folder / network.sha256[:16]
        if not found[name].exists():
            say(f"{name}: {network.source} fills {count_of(len(pairs), 'picture')}")
            with _renamed(found[name]) as made:
                _fill(network, pairs, images, made)
    return found, inputs


def _fill(network: "Inpainter", pairs: list[Pair], images: Path, folder: Path) -> None:
    from gmsrm_jax.inference.bulk import BulkFiller  # imports JAX
    from gmsrm_jax.inference.manifest import Manifest

    options = FillOptions()
    plan = plan_outputs(pairs, images, folder, options.num_samples, keep_format=False)
    with contextlib.closing(Manifest(folder / "manifest.jsonl")) as manifest:
        for done in BulkFiller(network, manifest, options).fill(plan.jobs):
            if done.error is not None:
                raise UserError(done.error)


def _save_holed(pair: Pair, path: Path) -> None:
    picture = open_picture(pair.image)
    hole = open_mask(pair.mask, picture).hole
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(holed(picture.rgb, hole[..., None])).save(path)


@contextlib.contextmanager
def _renamed(folder: Path) -> Iterator[Path]:
    """Yields a new folder that takes the place of `folder` when all in it is written."""
    try:
        with replacing(folder) as made:
            made.mkdir()
            yield made
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); change --out") from error
