import re

import numpy as np
import pytest
from PIL import Image
from small_stages import small_config

from gmsrm_jax.data.masks.bins import BIN_NAMES
from gmsrm_jax.data.masks.list_file import build_mask_list
from gmsrm_jax.evaluation.predictions import Predictions, export_inputs, file_name
from gmsrm_jax.evaluation.rows import open_predictions
from gmsrm_jax.runtime.errors import UserError

NAMES = ("a.jpg", "deep/b 1.png")


@pytest.fixture
def masks():
    random = np.random.default_rng(0)
    rows = [list(random.integers(0, 2, (len(BIN_NAMES), 32, 32, 1), np.uint8)) for _ in NAMES]
    return build_mask_list(NAMES, 32, 0, "noise", iter(rows))


def pictures():
    return np.random.default_rng(1).integers(0, 256, (len(NAMES), 32, 32, 3), np.uint8)


def test_exported_inputs_come_back_as_predictions(masks, tmp_path):
    images = pictures()
    holed, written = export_inputs(tmp_path, masks, lambda index: images[index])
    assert (holed / "deep" / "b 1__20-30.png").is_file()
    assert (written / "a__centre50.png").is_file()
    for example in range(2 * len(BIN_NAMES)):
        picture, place = divmod(example, len(BIN_NAMES))
        name = file_name(NAMES[picture], BIN_NAMES[place])
        with Image.open(holed / name) as file:
            pixels = np.asarray(file)
        with Image.open(written / name) as file:
            white = np.asarray(file) == 255
        hole = masks.mask(example)[..., 0] == 1
        np.testing.assert_array_equal(white, hole)
        np.testing.assert_array_equal(pixels[~hole], images[picture][~hole])
        assert (pixels[hole] == 128).all()
    fill = Predictions(holed, masks)
    assert fill.covered.all()
    index = np.array([1, 9, 15])
    raw = fill(np.zeros((3, 32, 32, 3), np.float32), np.zeros((3, 32, 32, 1)), index)
    for row, example in enumerate(index):
        name = file_name(NAMES[example // 8], BIN_NAMES[example % 8])
        with Image.open(holed / name) as file:
            np.testing.assert_allclose((raw[row] + 1) * 127.5, np.asarray(file), atol=1e-3)


def test_whole_bins_can_be_left_out_but_not_single_pictures(masks, tmp_path):
    holed, _ = export_inputs(tmp_path, masks, lambda index: pictures()[index])
    for name in NAMES:
        (holed / file_name(name, "0-10%")).unlink()
    covered = Predictions(holed, masks).covered.reshape(2, -1)
    assert not covered[:, 0].any()
    assert covered[:, 1:].all()
    (holed / file_name(NAMES[1], "20-30%")).unlink()
    with pytest.raises(UserError, match=r"1 of 2 pictures of 20-30% .*deep/b 1__20-30\.png"):
        Predictions(holed, masks)


def test_errors_name_the_file(masks, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        Predictions(tmp_path / "absent", masks)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no filled pictures.*a__0-10\.png.*--export-inputs"):
        Predictions(tmp_path / "empty", masks)
    holed, _ = export_inputs(tmp_path, masks, lambda index: pictures()[index])
    Image.new("RGB", (40, 32)).save(holed / "a__10-20.png")
    (holed / "a__20-30.png").write_text("<html>")
    fill = Predictions(holed, masks)
    shape = np.zeros((1, 32, 32, 3), np.float32)
    for example, message in ((1, r"a__10-20\.png: 40 x 32 px"), (2, r"a__20-30\.png: .*save it")):
        with pytest.raises(UserError, match=message):
            fill(shape, shape[..., :1], np.array([example]))
    twins = build_mask_list(("x.jpg", "x.png"), 32, 0, "noise", iter([[masks.mask(0)] * 8] * 2))
    with pytest.raises(UserError, match=r"x\.jpg and x\.png differ in their suffix only"):
        export_inputs(tmp_path / "twins", twins, lambda index: pictures()[index])


def test_names_from_a_list_of_files_stay_in_the_folder(tmp_path):
    row = [np.ones((32, 32, 1), np.uint8)] * len(BIN_NAMES)
    names = (str(tmp_path / "set" / "a.png"), "../other/a.png")
    masks = build_mask_list(names, 32, 0, "noise", iter([row, row]))
    (tmp_path / "set").mkdir()
    holed, written = export_inputs(tmp_path / "out", masks, lambda index: pictures()[index])
    assert not any((tmp_path / "set").iterdir())
    assert not (tmp_path / "other").exists()
    for folder in (holed, written):
        assert len(list(folder.rglob("*.png"))) == 2 * len(BIN_NAMES)
    assert Predictions(holed, masks).covered.all()
    twins = build_mask_list(("/a.png", "../a.png"), 32, 0, "noise", iter([row, row]))
    with pytest.raises(UserError, match=r"/a\.png and \.\./a\.png"):
        export_inputs(tmp_path / "twins", twins, lambda index: pictures()[index])


def test_predictions_are_decoded_like_every_other_picture(masks, tmp_path):
    grey = pictures()[0, ..., 0]
    holed, _ = export_inputs(tmp_path, masks, lambda index: pictures()[index])
    Image.fromarray(grey.astype(np.uint16) * 257).save(holed / "a__0-10.png")
    shape = np.zeros((1, 32, 32, 3), np.float32)
    raw = Predictions(holed, masks)(shape, shape[..., :1], np.array([0]))[0]
    np.testing.assert_allclose((raw + 1) * 127.5, np.repeat(grey[..., None], 3, 2), atol=1e-3)


def test_the_hash_of_a_folder_changes_with_its_pictures(masks, tmp_path):
    holed, _ = export_inputs(tmp_path, masks, lambda index: pictures()[index])
    before = Predictions(holed, masks).sha256
    (holed / "unrelated.txt").write_text("x")
    assert Predictions(holed, masks).sha256 == before
    Image.new("RGB", (32, 32)).save(holed / "a__10-20.png")
    changed = Predictions(holed, masks).sha256
    for name in NAMES:
        (holed / file_name(name, "0-10%")).unlink()
    assert len({before, changed, Predictions(holed, masks).sha256}) == 3


@pytest.mark.parametrize(
    "name", ["mean colour", "PConv (paper)", "GM-BM (paper)", "untrained network"]
)
def test_names_of_other_rows_are_refused(masks, tmp_path, name):
    config = small_config(evaluation__predictions=[f"{name}={tmp_path}"])
    with pytest.raises(UserError, match=re.escape(f"a row is called '{name}' already; rename it")):
        open_predictions(config, masks)
