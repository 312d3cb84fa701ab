"""The fields of training and test pictures, and of the holes of training."""

from typing import Annotated, Literal

import pydantic

from gmsrm_jax.runtime.fields import Section, setting

# Larger pictures are taken for decompression bombs; Pillow warns from here and refuses twice that.
MAX_PIXELS = 89_478_485


def _from(least: int) -> pydantic.AfterValidator:
    def check(value: tuple[int, int]) -> tuple[int, int]:
        if not least <= value[0] <= value[1]:
            raise ValueError(f"use two whole numbers from {least}, the smaller one first")
        return value

    return pydantic.AfterValidator(check)


class Data(Section):
    """Where pictures come from, and how training crops them."""

    train: str = setting(
        "",
        "a folder, a list of files *.txt, an array file *.npy, tfds:NAME[/CONFIG][#SPLIT], or "
        "bundled:NAME",
        local="bundled:facades",
    )
    test: str = setting(
        "", "likewise; empty: a part of data.train, see data.split", local="", free=True
    )
    split: Literal["auto", "folders", "hash"] = setting(
        "auto", "folders: by train/, val/, test/; auto: folders if there is a train/", local="auto"
    )
    test_fraction: float = setting(
        0.05, "share of data.train tested on when split by hash; 0: none", ge=0, le=1
    )
    # Free, for what it changes in a training, its pictures, is compared anyway.
    test_bounds: Annotated[tuple[int, int], _from(0)] = setting(
        (4, 1000), "fewest and most of these pictures", free=True
    )
    note: str = setting(
        "", "where the pictures come from; a part of the error when they are missing", free=True
    )
    pipeline: Literal["tfdata", "arrays"] = setting(
        "tfdata", "arrays: pictures and masks from memory, no TensorFlow", local="tfdata"
    )
    validation_fraction: float = setting(
        0.1,
        "share of data.train held out of training by a hash of the name, if there is no val/; "
        "stage 1's snapshot is chosen by them",
        gt=0,
        le=1,
    )
    validation_bounds: Annotated[tuple[int, int], _from(2)] = setting(
        (4, 100), "fewest and most of these pictures; of a val/, the most", local=(4, 16)
    )
    shorter_side: float = setting(
        1.25, "shorter side after the resize, in image sizes (320 at 256)", ge=1
    )
    scale: tuple[float, float] = setting((1.0, 1.5), "random extra scale in training")
    flip: bool = setting(True, "mirror half of the training pictures")
    test_resize: Literal["shorter_side", "direct"] = setting(
        "shorter_side", "then centre crop; direct resizes to the size", local="shorter_side"
    )
    num_threads: int = setting(4, "of tf.data", gt=0, local=2, free=True)
    max_pixels: int = setting(
        MAX_PIXELS, "larger pictures are left out, as decompression bombs", gt=0, le=2 * MAX_PIXELS
    )
    max_bad_share: float = setting(
        0.01, "share of pictures that may be left out, as unreadable", ge=0, le=1, free=True
    )
    tfds_dir: str = setting(
        "", "where TFDS sets lie; empty: $TFDS_DATA_DIR, ~/tensorflow_datasets", free=True
    )


class Masks(Section):
    """Where the holes of training come from."""

    train: str = setting(
        "pic", "a name of gmsrm_jax.data.masks.SAMPLERS, or several by weight: pic:0.7,lama:0.3"
    )
    bank: str = setting("", "bit-packed masks *.npz for data.pipeline = arrays")
