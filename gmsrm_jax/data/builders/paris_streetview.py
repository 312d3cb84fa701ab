"""TFDS builder: Paris StreetView, 14,900 training and 100 test pictures."""

from gmsrm_jax.data.builders.picture_builder import PictureBuilder, Splits
from gmsrm_jax.data.builders.storage import Found, Place

_COUNTS = {"train": 14_900, "test": 100}


class GmsrmParisStreetview(PictureBuilder):
    """Street views of Paris; the folders that the files come in say what is for the test."""

    DESCRIPTION = "Paris StreetView: 936 x 537 street views of Paris, 14,900 train and 100 test."
    HOMEPAGE = "https://github.com/pathak22/context-encoder"
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    ask Deepak Pathak, author of Context Encoders, for the Paris Street-View dataset, which is given
    out on request only (https://github.com/pathak22/context-encoder/issues/24), and put
    paris_train_original.zip (14,900 *.JPG) and paris_eval_*.zip (its folder paris_eval_gt holds 100
    *_im.png), as they come or unpacked, into MANUAL_DIR/gmsrm_paris_streetview/, where MANUAL_DIR
    is what --manual-dir names or else downloads/manual in the TFDS folder
    """

    def place(self, folder: str, file: str) -> Place | None:
        """Takes paris_train*/ for training, and of paris_eval*/ all but the corrupted pictures."""
        parts = folder.lower().split("/")
        if any(part.startswith("paris_train") for part in parts):
            return Place("train", file, file)
        evaluation = any(part.startswith("paris_eval") for part in parts)
        if evaluation and not any("corrupt" in part for part in parts):
            return Place("test", file, file)
        return None

    def divide(self, found: Found) -> Splits:
        """Keeps the two sets as they come."""
        for split, count in _COUNTS.items():
            if not found.get(split):
                raise self.missing(f"{split} pictures")
            self.compare(f"{split} pictures", len(found[split]), count)
        return {split: found[split] for split in _COUNTS}
