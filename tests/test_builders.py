"""The builders on stand-ins for the files that people get, as folders and as archives."""

import hashlib
import io
import logging
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from gmsrm_jax.data.builders import BUILDERS, GmsrmCelebaHq, GmsrmParisStreetview, GmsrmPlaces2
from gmsrm_jax.data.builders.storage import Picture
from gmsrm_jax.data.fields import Data
from gmsrm_jax.data.tfds_pictures import TfdsPictures, open_tfds, prepare, split_names
from gmsrm_jax.runtime.errors import UserError

FORMS = ("folder", "zip", "tar", "tar.gz")


def picture(number: int, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (33, 40, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def pictures(paths: list[str]) -> dict[str, bytes]:
    return {
        path: picture(number, "PNG" if path.endswith("png") else "JPEG")
        for number, path in enumerate(paths)
    }


def store(files: dict[str, bytes], folder: Path, form: str, name: str) -> None:
    """Writes files below a folder, or into an archive NAME.form there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.{form}"
    if form == "folder":
        for member, data in files.items():
            (folder / member).parent.mkdir(parents=True, exist_ok=True)
            (folder / member).write_bytes(data)
    elif form == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in files.items():
                archive.writestr(member, data)
    else:
        with tarfile.open(path, "w:gz" if form == "tar.gz" else "w") as archive:
            for member, data in files.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def prepared(name: str, tmp_path: Path, *splits: str) -> list[TfdsPictures]:
    spec = f"tfds:{name}"
    prepare(spec, str(tmp_path / "data"), str(tmp_path / "manual"))
    data = Data(tfds_dir=str(tmp_path / "data"), max_bad_share=0.0)
    return [open_tfds(spec, split, data) for split in splits]


def contents(opened: TfdsPictures) -> dict[str, bytes]:
    return {opened.name(row): opened.encoded(row) for row in range(len(opened))}


@pytest.fixture
def warnings():
    """What is said to people above the level of a note."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Lines(logging.WARNING)
    logging.getLogger("gmsrm").addHandler(handler)
    yield lines
    logging.getLogger("gmsrm").removeHandler(handler)


# Paris StreetView

PARIS_TRAIN = pictures(
    [f"paris_train_original/48.84250{n}_2.344968_90_-004.JPG" for n in range(5)]
    + ["paris_train_original/.DS_Store", "paris_train_original/._48.842502_2.344968_90_-004.JPG"]
)
PARIS_TEST = pictures(
    [f"paris_eval/paris_eval_gt/00{n}_im.png" for n in range(1, 4)]
    + [f"paris_eval/paris_eval_corrupted/00{n}_im.png" for n in range(1, 4)]
)


@pytest.mark.parametrize("form", FORMS)
def test_paris_keeps_the_sets_and_the_bytes(form, tmp_path, warnings):
    manual = tmp_path / "manual"
    store(PARIS_TRAIN, manual, form, "paris_train_original")
    store(PARIS_TEST, manual, form, "paris_eval_75876")
    train, test = prepared("gmsrm_paris_streetview", tmp_path, "train", "test")
    assert contents(train) == {
        path.rpartition("/")[2]: data for path, data in PARIS_TRAIN.items() if "/4" in path
    }
    assert contents(test) == {
        path.rpartition("/")[2]: data for path, data in PARIS_TEST.items() if "gt" in path
    }
    assert any("5 train pictures" in line and "14900" in line for line in warnings)
    assert any("3 test pictures" in line and "100" in line for line in warnings)


def test_records_are_in_the_same_order_whatever_held_the_files(tmp_path):
    orders = []
    for form in ("folder", "zip"):
        store(PARIS_TRAIN | PARIS_TEST, tmp_path / form / "manual", form, "Paris")
        (train,) = prepared("gmsrm_paris_streetview", tmp_path / form, "train")
        orders.append([train.name(row) for row in range(len(train))])
    assert orders[0] == orders[1] != sorted(orders[0])


def test_archives_without_a_folder_inside_go_by_their_own_names(tmp_path):
    manual = tmp_path / "manual" / "gmsrm_paris_streetview"
    store({"1.JPG": picture(1)}, manual, "zip", "paris_train_original")
    store({"001_im.png": picture(2, "PNG")}, manual, "tar", "paris_eval_gt")
    train, test = prepared("gmsrm_paris_streetview", tmp_path, "train", "test")
    assert (train.name(0), test.name(0)) == ("1.JPG", "001_im.png")


def test_a_file_both_packed_and_unpacked_is_taken_once(tmp_path):
    store(PARIS_TRAIN | PARIS_TEST, tmp_path / "manual", "folder", "")
    store(PARIS_TRAIN, tmp_path / "manual", "zip", "paris_train_original")
    (train,) = prepared("gmsrm_paris_streetview", tmp_path, "train")
    assert len(train) == 5


def test_two_archives_with_the_same_picture_are_an_error(tmp_path):
    store(PARIS_TRAIN, tmp_path / "manual", "zip", "paris_train_original")
    store(PARIS_TRAIN, tmp_path / "manual", "tar", "paris_train_original")
    with pytest.raises(UserError, match=r"original\.zip: .*leave one") as error:
        prepare("tfds:gmsrm_paris_streetview", str(tmp_path), str(tmp_path / "manual"))
    assert "original.tar: " in str(error.value)


# CelebA-HQ

CELEBA = {
    "plain": [f"{n:05d}.png" for n in range(40)],
    "celebamask": [f"CelebAMask-HQ/CelebA-HQ-img/{n}.jpg" for n in range(40)]
    + [f"CelebAMask-HQ/CelebAMask-HQ-mask-anno/0/{n:05d}_hair.png" for n in range(40)],
    "pggan": [f"celeba-1024/imgHQ{n:05d}.png" for n in range(40)],
}


def celeba_number(name: str) -> int:
    return int("".join(sign for sign in name if sign.isdigit()))


@pytest.mark.parametrize("form", ("folder", "zip", "tar"))
@pytest.mark.parametrize("layout", CELEBA)
def test_celeba_hq_divides_by_the_numbers(layout, form, tmp_path, warnings):
    files = pictures(CELEBA[layout])
    store(files, tmp_path / "manual" / "gmsrm_celeba_hq", form, "archive")
    train, test = prepared("gmsrm_celeba_hq", tmp_path, "train", "test")
    expected = {path.rpartition("/")[2]: data for path, data in files.items() if "_" not in path}
    assert contents(train) | contents(test) == expected
    # 10 % of 40, the first by SHA-256 of the set's name and the number with five digits
    order = sorted(
        range(40), key=lambda n: hashlib.sha256(f"gmsrm_celeba_hq/{n:05d}".encode()).hexdigest()
    )
    assert {celeba_number(name) for name in contents(test)} == set(order[:4])
    assert len(train) == 36
    assert any("40 pictures" in line and "30000" in line for line in warnings)


def synthetic(keys: list[str]) -> dict[str, Picture]:
    return {key: Picture(key, Path("folder"), key) for key in keys}


@pytest.mark.parametrize("first", (0, 1))
def test_celeba_hq_has_27000_and_3000_counted_from_0_or_1(first, tmp_path, warnings):
    builder = GmsrmCelebaHq(data_dir=tmp_path)
    splits = builder.divide({"all": synthetic([f"{n + first:05d}" for n in range(30_000)])})
    assert {name: len(split) for name, split in splits.items()} == {"train": 27_000, "test": 3_000}
    assert not splits["train"].keys() & splits["test"].keys()
    key, value = next(iter(splits["test"].items()))
    assert int(value.name) == int(key) + first
    assert not warnings
    digest = hashlib.sha256(" ".join(sorted(splits["test"])).encode()).hexdigest()
    assert digest.startswith("4d948ecfcde04886")  # this list must never change


def test_celeba_hq_refuses_two_pictures_of_one_number(tmp_path):
    files = pictures(["train/0.jpg", "val/00000.jpg", "val/1.jpg"])
    store(files, tmp_path / "manual", "folder", "")
    with pytest.raises(UserError, match=r"00000\.jpg.*leave one"):
        prepare("tfds:gmsrm_celeba_hq", str(tmp_path), str(tmp_path / "manual"))


# Places2

PLACES = [
    *(f"data_256/b/butte/{n:08d}.jpg" for n in range(1, 81)),
    *(f"data_256/f/field/wild/{n:08d}.jpg" for n in range(1, 41)),
    *(f"data_256/f/field/cultivated/{n:08d}.jpg" for n in range(1, 3)),
    "data_256/b/butte_other/00000001.jpg",
    "places365_standard/val/butte/00000001.jpg",
    "val_256/Places365_val_00000001.jpg",
]


@pytest.mark.parametrize("form", FORMS)
def test_places2_takes_the_same_shares_of_each_category(form, tmp_path, warnings):
    files = pictures(PLACES)
    store(files, tmp_path / "manual", form, "train_256_places365challenge")
    splits = prepared("gmsrm_places2/field-wild+butte", tmp_path, "train", "validation", "test")
    train, validation, test = map(contents, splits)
    expected = {
        path.split("/", 2)[2]: data
        for path, data in files.items()
        if path.startswith(("data_256/b/butte/", "data_256/f/field/wild/"))
    }
    assert train | validation | test == expected
    assert len(train) + len(validation) + len(test) == 120
    for split in (validation, test):  # 1,500 of 40,000, rounded
        assert (
            sorted(name.rpartition("/")[0] for name in split) == ["butte"] * 3 + ["field/wild"] * 2
        )
    assert any("80 pictures of category butte" in line and "40000" in line for line in warnings)
    assert split_names("tfds:gmsrm_places2/butte+field-wild", str(tmp_path / "data")) == [
        "train",
        "validation",
        "test",
    ]


def test_places2_reads_letter_archives_and_the_easy_structure(tmp_path):
    manual = tmp_path / "manual"
    files = pictures([f"b/butte/{n}.jpg" for n in range(4)])
    store(files, manual, "tar", "b")
    flat = pictures([f"places365_standard/train/field-wild/{n}.jpg" for n in range(4)])
    store(flat, manual, "zip", "easy")
    (train,) = prepared("gmsrm_places2/butte+field-wild", tmp_path, "train")
    assert {name.rpartition("/")[0] for name in contents(train)} == {"butte", "field/wild"}


def test_long_names_in_tar_files_are_read(tmp_path):
    long = "places365" * 20  # names of over 100 characters have headers of their own
    files = pictures([f"{long}/b/butte/{n}.jpg" for n in range(10)])
    store(files, tmp_path / "manual", "tar", "b")
    splits = prepared("gmsrm_places2/butte", tmp_path, "all")
    assert contents(splits[0]) == {
        f"butte/{path.rpartition('/')[2]}": data for path, data in files.items()
    }


def test_places2_has_the_numbers_of_the_paper(tmp_path, warnings):
    builder = GmsrmPlaces2(data_dir=tmp_path, config="canyon+butte")
    assert builder.builder_config.categories == ["butte", "canyon"]
    found = {
        category: synthetic([f"{category}/{n:08d}.jpg" for n in range(40_000)])
        for category in ("butte", "canyon")
    }
    splits = builder.divide(found)
    counts = {name: len(split) for name, split in splits.items()}
    assert counts == {"train": 74_000, "validation": 3_000, "test": 3_000}
    assert len(set().union(*splits.values())) == 80_000
    assert sum(key.startswith("butte") for key in splits["test"]) == 1_500
    order = sorted(
        found["butte"], key=lambda key: hashlib.sha256(f"gmsrm_places2/{key}".encode()).hexdigest()
    )
    assert set(order[:1_500]) <= splits["test"].keys()
    assert set(order[1_500:3_000]) <= splits["validation"].keys()
    assert not warnings


def test_places2_names_a_category_that_is_missing(tmp_path):
    store(pictures(PLACES), tmp_path / "manual", "folder", "")
    with pytest.raises(UserError, match=r"'buttes' found in .*places2\.csail\.mit\.edu"):
        prepare("tfds:gmsrm_places2/buttes", str(tmp_path), str(tmp_path / "manual"))


def test_places2_asks_for_the_categories(tmp_path):
    store(pictures(PLACES), tmp_path / "manual", "folder", "")
    with pytest.raises(UserError, match=r"gmsrm_places2/CATEGORY\+CATEGORY"):
        prepare("tfds:gmsrm_places2", str(tmp_path), str(tmp_path / "manual"))


# All of them


@pytest.mark.parametrize("builder", BUILDERS)
def test_missing_files_are_one_line_with_what_to_do(builder, tmp_path):
    name = builder.name + "/butte+canyon" * (builder is GmsrmPlaces2)
    manual = tmp_path / "manual"
    with pytest.raises(UserError, match="does not exist or is empty") as error:
        prepare(f"tfds:{name}", str(tmp_path), str(manual))
    assert f"MANUAL_DIR/{builder.name}/" in str(error.value)
    assert "http" in str(error.value) and "\n" not in str(error.value)
    store({"notes.txt": b"no picture"}, manual, "folder", "")
    with pytest.raises(UserError, match=rf"no .* found in {manual}; .*MANUAL_DIR/") as error:
        prepare(f"tfds:{name}", str(tmp_path), str(manual))
    assert "\n" not in str(error.value)


def test_builders_are_found_by_name_and_always_write_array_record(tmp_path):
    store(PARIS_TRAIN | PARIS_TEST, tmp_path / "manual", "folder", "")
    builder = tfds.builder("gmsrm_paris_streetview", data_dir=tmp_path / "data")
    assert isinstance(builder, GmsrmParisStreetview)
    config = tfds.download.DownloadConfig(manual_dir=tmp_path / "manual")
    builder.download_and_prepare(download_config=config)
    assert builder.info.file_format is tfds.core.FileFormat.ARRAY_RECORD
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 5,
        "test": 3,
    }


@pytest.mark.parametrize("form", ("zip", "tar"))
def test_member_names_cannot_lead_out_of_the_set(form, tmp_path):
    store(pictures(["../../evil/00000.png", "/evil/00001.png"]), tmp_path / "manual", form, "x")
    train, test = prepared("gmsrm_celeba_hq", tmp_path, "train", "test")
    assert sorted([*contents(train), *contents(test)]) == ["00000.png", "00001.png"]
    assert not list(tmp_path.rglob("*evil*")) and not list(tmp_path.parent.glob("evil*"))


@pytest.mark.parametrize("form", ("zip", "tar", "tar.gz"))
def test_a_damaged_archive_is_named(form, tmp_path):
    store(pictures(CELEBA["plain"]), tmp_path / "manual", form, "faces")
    path = tmp_path / "manual" / f"faces.{form}"
    path.write_bytes(path.read_bytes()[:-30_000])
    with pytest.raises(UserError, match=rf"faces\.{form}: cannot be read to its end"):
        prepare("tfds:gmsrm_celeba_hq", str(tmp_path), str(tmp_path / "manual"))


def test_a_damaged_member_is_an_error(tmp_path):
    store(pictures(CELEBA["plain"]), tmp_path / "manual", "zip", "faces")
    path = tmp_path / "manual" / "faces.zip"
    data = bytearray(path.read_bytes())
    data[1000] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"faces\.zip: cannot be read"):
        prepare("tfds:gmsrm_celeba_hq", str(tmp_path), str(tmp_path / "manual"))


def test_an_encrypted_archive_is_named(tmp_path):
    store(pictures(CELEBA["plain"]), tmp_path / "manual", "zip", "faces")
    path = tmp_path / "manual" / "faces.zip"
    data = bytearray(path.read_bytes())
    start = data.find(b"PK\x01\x02")  # the first entry of the central directory
    data[start + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"faces\.zip: .*00000\.png' is encrypted.*unpack"):
        prepare("tfds:gmsrm_celeba_hq", str(tmp_path), str(tmp_path / "manual"))
