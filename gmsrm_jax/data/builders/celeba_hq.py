"""TFDS builder: CelebA-HQ from any copy of its 30,000 numbered pictures, 27,000 train, 3,000 test.

TFDS's own celeb_a_hq needs tar files that can no longer be made, and has no test split.
"""

import re

from gmsrm_jax.data.builders.picture_builder import (
    PictureBuilder,
    Splits,
    proportion,
    seeded_order,
)
from gmsrm_jax.data.builders.storage import Found, Place

_COUNT, _TEST = 30_000, 3_000
_FIRST, _LAST = "00000", "30000"  # numbers that tell copies counted from 0 and from 1
# Masks, such as 00000_hair.png of CelebAMask-HQ, are called otherwise.
_NAME = re.compile(r"(?:imgHQ)?(\d{1,6})")


class GmsrmCelebaHq(PictureBuilder):
    """Portraits of celebrities; a seeded list of their numbers says which are for the test."""

    DESCRIPTION = (
        "CelebA-HQ, 30,000 portraits. The paper's list of 3,000 test pictures is not published; "
        "here they are the first 10 % of all numbers 0..29999 by SHA-256 of 'gmsrm_celeba_hq/N', "
        "N with five digits. Of another number of pictures, 10 %, rounded, by the same order."
    )
    HOMEPAGE = "https://github.com/tkarras/progressive_growing_of_gans"
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    get any one copy of the 30,000 pictures, such as CelebAMask-HQ.zip
    (https://github.com/switchablenorms/CelebAMask-HQ), celebahq-resized-256x256 of Kaggle or
    data256x256.tar of TFDS, and put it, as it comes or unpacked, into
    MANUAL_DIR/gmsrm_celeba_hq/, where MANUAL_DIR is what --manual-dir names or else
    downloads/manual in the TFDS folder; the files must be called by their numbers (0.jpg,
    00000.png, imgHQ00000.png)
    """

    def place(self, folder: str, file: str) -> Place | None:
        """Takes every picture that is called by a number."""
        match = _NAME.fullmatch(file.rpartition(".")[0])
        if match is None:
            return None
        return Place("all", f"{int(match[1]):05d}", file)

    def divide(self, found: Found) -> Splits:
        """Takes the first tenth of the seeded order for the test."""
        pictures = found.get("all", {})
        if len(pictures) < 2:
            raise self.missing("two numbered pictures")
        self.compare("pictures", len(pictures), _COUNT)
        if _FIRST not in pictures and _LAST in pictures:
            pictures = {f"{int(key) - 1:05d}": picture for key, picture in pictures.items()}
        order = seeded_order(self.name, pictures)
        test = proportion(len(order), _TEST, _COUNT)
        return {
            "train": {key: pictures[key] for key in order[test:]},
            "test": {key: pictures[key] for key in order[:test]},
        }
