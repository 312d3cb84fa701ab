"""Which mask belongs to which picture, by their names.

The mask of NAME is NAME, or, if nothing else can be meant, NAME_mask, with a number behind it or
not, mask_NAME, or the picture's whole name, NAME.jpg. A hyphen, dot or space may stand for the
underscore.
"""

import re
import unicodedata
from collections.abc import Container, Iterable
from pathlib import PurePath

from gmsrm_jax.data.bad_pictures import named, printable
from gmsrm_jax.data.formats import SUFFIXES
from gmsrm_jax.runtime.errors import UserError

_MASK_NAMES = (
    re.compile(r"(.+)[ ._-]mask(?:[ ._-]?\d+)?", re.IGNORECASE),
    re.compile(r"mask[ ._-](.+)", re.IGNORECASE),
    re.compile(rf"(.+)(?:{'|'.join(map(re.escape, SUFFIXES))})", re.IGNORECASE),
)


def stem_of(name: str | PurePath) -> str:
    """The path below a folder without its suffix, in composed Unicode, as file systems differ."""
    return unicodedata.normalize("NFC", PurePath(name).with_suffix("").as_posix())


def named_after(mask: str, stems: Container[str]) -> list[str]:
    """Returns those of some stems that a mask's name is made of, such as NAME of NAME_mask."""
    folder, slash, name = mask.rpartition("/")
    matches = (pattern.fullmatch(name) for pattern in _MASK_NAMES)
    found = dict.fromkeys(f"{folder}{slash}{match[1]}" for match in matches if match)
    return [stem for stem in found if stem in stems]


def masks_of(pictures: Container[str], masks: Iterable[str]) -> dict[str, str]:
    """Returns the stem of the mask of each picture that has one, by stem.

    Raises:
        UserError: a mask can be of two pictures, or a picture has two.
    """
    of_picture = {stem: stem for stem in masks if stem in pictures}
    claims: dict[str, list[str]] = {}
    for mask in masks:
        if mask not in of_picture:
            meant = [stem for stem in named_after(mask, pictures) if stem not in of_picture]
            if len(meant) > 1:
                raise UserError(
                    f"{printable(mask)} can be the mask of {named(meant)}; name it like its picture"
                )
            for stem in meant:
                claims.setdefault(stem, []).append(mask)
    for stem, claimed in claims.items():
        if len(claimed) > 1:
            raise UserError(
                f"{printable(stem)} has {len(claimed)} masks ({named(claimed)}); keep one, or name "
                "it like its picture"
            )
    return of_picture | {stem: claimed[0] for stem, claimed in claims.items()}
