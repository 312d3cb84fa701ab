"""TFDS builder: categories of Places365-Challenge, of 40,000 pictures each; the paper takes two."""

from typing import Any, ClassVar

import tensorflow_datasets as tfds

from gmsrm_jax.data.builders.picture_builder import (
    PictureBuilder,
    Splits,
    proportion,
    seeded_order,
)
from gmsrm_jax.data.builders.storage import Found, Place
from gmsrm_jax.runtime.errors import UserError

_COUNT, _HELD_OUT = 40_000, 1_500  # pictures of a category; for the validation, and for the test
_HELD_OUT_FOLDERS = {"val", "validation", "test"}  # of Places365, not of the paper
_UNNAMED = "CATEGORY+CATEGORY"


class Places2Config(tfds.core.BuilderConfig):
    """Categories joined by "+", "/" within a category written as "-": butte+field-wild."""

    @property
    def categories(self) -> list[str]:
        """The categories as Places365 writes them, without the letter: butte, field/wild."""
        return [category.replace("-", "/") for category in self.name.split("+")]


class GmsrmPlaces2(PictureBuilder):
    """Scenes of some categories of Places365-Challenge, named by the config.

    The paper does not say which two it took.
    """

    BUILDER_CONFIGS: ClassVar[list[Places2Config]] = [
        Places2Config(name=_UNNAMED, description="Stands for the categories, which you name.")
    ]
    DESCRIPTION = (
        "Categories of Places365-Challenge. Of each category's pictures, in the order of SHA-256 "
        "of 'gmsrm_places2/CATEGORY/FILE', the first 1,500 of 40,000 are for the test, the next "
        "1,500 for validation; of another number, the same shares, rounded. Two full categories "
        "give the paper's 74,000, 3,000 and 3,000."
    )
    HOMEPAGE = "http://places2.csail.mit.edu"
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    get the training pictures of Places365-Challenge from http://places2.csail.mit.edu/download.html
    (train_256_places365challenge.tar, 108 GB, or train_large_places365challenge.tar, 476 GB, or of
    the latter only the tar files of the categories' first letters), and put them, as they come or
    unpacked (LETTER/CATEGORY/*.jpg), into MANUAL_DIR/gmsrm_places2/, where MANUAL_DIR is what
    --manual-dir names or else downloads/manual in the TFDS folder
    """

    def __init__(self, *, config: str | Places2Config | None = None, **kwargs: Any) -> None:
        """Takes any categories as config, in any order; see TFDS for the rest."""
        if isinstance(config, str):
            name = "+".join(sorted(set(config.split("+")))) if config != _UNNAMED else config
            config = next(
                (known for known in self.BUILDER_CONFIGS if known.name == name),
                Places2Config(name=name),
            )
        super().__init__(config=config, **kwargs)

    def place(self, folder: str, file: str) -> Place | None:
        """Takes CATEGORY/*.jpg wherever it lies, but not below val or test."""
        for category in self.builder_config.categories:
            flat = category.replace("/", "-")  # the "easy directory structure" of Places365
            if f"/{folder}".endswith((f"/{category}", f"/{flat}")):
                if _HELD_OUT_FOLDERS.isdisjoint(folder.lower().split("/")):
                    name = f"{category}/{file}"
                    return Place(category, name, name)
                return None
        return None

    def divide(self, found: Found) -> Splits:
        """Takes the same shares of every category."""
        splits: Splits = {"train": {}, "validation": {}, "test": {}}
        for category in self.builder_config.categories:
            pictures = found.get(category, {})
            if len(pictures) < len(splits):
                raise self.missing(f"pictures of category {category!r}")
            self.compare(f"pictures of category {category}", len(pictures), _COUNT)
            order = seeded_order(self.name, pictures)
            count = proportion(len(order), _HELD_OUT, _COUNT)
            ends = {
                "test": (0, count),
                "validation": (count, 2 * count),
                "train": (2 * count, None),
            }
            for split, (start, stop) in ends.items():
                splits[split] |= {key: pictures[key] for key in order[start:stop]}
        return splits

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        if self.builder_config.name == _UNNAMED:
            raise UserError(
                f"{self.name} needs the names of categories, which the paper does not give: "
                f"{self.name}/{_UNNAMED}, such as {self.name}/butte+canyon, or "
                f"{self.name}/butte+field-wild for field/wild"
            )
        return super()._split_generators(dl_manager)
