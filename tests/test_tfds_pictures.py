"""Pictures of TFDS sets, on small ones prepared here: TFDS's celeb_a_hq and three made up."""

import abc
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from gmsrm_jax.data.decoding import JPEG, PILLOW
from gmsrm_jax.data.fields import Data
from gmsrm_jax.data.sources import EncodedPictures, open_pictures
from gmsrm_jax.data.tfds_pictures import TfdsPictures, open_tfds, prepare, split_names
from gmsrm_jax.runtime.errors import UserError

COUNT, SIDE = 12, 64  # of celeb_a_hq


def pixels(number: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def encoded(array: np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


class MadeUp(tfds.core.GeneratorBasedBuilder):
    """Makes its pictures itself; needs no files."""

    VERSION = tfds.core.Version("1.0.0")

    def info_of(self, **features: tfds.features.FeatureConnector) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    @abc.abstractmethod
    def examples(self) -> list[dict]: ...

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield from enumerate(self.examples())


class PhotosOfAll(MadeUp):
    """All kinds of files, one of them damaged, and names that are not unique."""

    def _info(self):
        return self.info_of(
            photo=tfds.features.Image(),
            label=tfds.features.ClassLabel(num_classes=3),
            filename=tfds.features.Text(),
        )

    def examples(self):
        upright = Image.Exif()
        upright[0x0112] = 6  # orientation: to be turned
        files = [
            encoded(pixels(0, 40, 50), "JPEG"),
            encoded(pixels(1, 40, 50), "JPEG", exif=upright),
            encoded(pixels(2, 40, 50), "WEBP"),
            encoded(pixels(3, 40, 50)),
            encoded(pixels(4, 40, 50))[:30],
        ]
        return [
            {"photo": file, "label": number % 3, "filename": "same.jpg"}
            for number, file in enumerate(files)
        ]


class TwoPhotos(MadeUp):
    def _info(self):
        return self.info_of(left=tfds.features.Image(), right=tfds.features.Image())

    def examples(self):
        return [{"left": encoded(pixels(0)), "right": encoded(pixels(1))}]


class OutsideNames(MadeUp):
    def _info(self):
        return self.info_of(image=tfds.features.Image(), filename=tfds.features.Text())

    def examples(self):
        return [
            {"image": encoded(pixels(number)), "filename": f"../{number}.png"}
            for number in range(3)
        ]


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> tuple[str, dict[str, bytes]]:
    """TFDS's celeb_a_hq/64, prepared from a tar file in its layout; its folder and files."""
    folder = tmp_path_factory.mktemp("tfds")
    files = {f"data64x64/{n:05d}.png": encoded(pixels(n)) for n in range(COUNT)}
    (folder / "manual").mkdir()
    with tarfile.open(folder / "manual" / "data64x64.tar", "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    line = prepare("tfds:celeb_a_hq/64#train", str(folder), str(folder / "manual"))
    assert line.startswith("tfds:celeb_a_hq/64 prepared: train 12 pictures in ")
    assert "array_record" in line
    return str(folder), files


def opened(faces, spec: str = "tfds:celeb_a_hq/64", split: str = "train") -> TfdsPictures:
    return open_tfds(spec, split, Data(tfds_dir=faces[0], max_bad_share=0.0))


def test_gives_every_file_as_it_was_stored(faces):
    pictures = opened(faces)
    assert isinstance(pictures, EncodedPictures)
    assert pictures.files is None and pictures.location == "tfds:celeb_a_hq/64#train"
    order = np.random.default_rng(0).permutation(COUNT)
    found = {pictures.name(row): pictures.encoded(row) for row in order.tolist()}
    assert found == faces[1]
    assert type(pictures.encoded(0)) is bytes


def test_images_and_headers_are_those_of_the_files(faces):
    pictures = opened(faces)
    for row in (0, COUNT - 1):
        number = int(Path(pictures.name(row)).stem)
        np.testing.assert_array_equal(pictures.image(row), pixels(number))
    assert len(pictures.headers) == len(pictures) == COUNT
    np.testing.assert_array_equal(pictures.headers, [(PILLOW, 1, SIDE, SIDE)] * COUNT)
    assert pictures.bad.names == {}


def test_opens_by_a_spec_of_a_config(faces):
    pictures = open_pictures("tfds:celeb_a_hq/64:2.0.0#train[:5]", Data(tfds_dir=faces[0]))
    assert len(pictures) == 5


def test_parts_of_splits_are_those_records(faces):
    whole = opened(faces)
    part = opened(faces, "tfds:celeb_a_hq/64#train[3:7]", "test")
    assert [part.name(row) for row in range(len(part))] == [whole.name(n) for n in range(3, 7)]
    assert [part.encoded(row) for row in range(4)] == [whole.encoded(n) for n in range(3, 7)]
    both = opened(faces, "tfds:celeb_a_hq/64#train[:25%]+train[-1:]")
    names = [both.name(row) for row in range(len(both))]
    assert names == [whole.name(n) for n in (0, 1, 2, COUNT - 1)]


def test_split_names_are_those_of_the_set(faces):
    assert split_names("tfds:celeb_a_hq/64", faces[0]) == ["train"]


def test_a_set_is_prepared_once(faces):
    line = prepare("tfds:celeb_a_hq/64", faces[0])
    assert line.startswith("tfds:celeb_a_hq/64 is prepared already: train 12 pictures")


def prepared(builder: type[MadeUp], folder: Path, max_bad_share: float = 0.0) -> TfdsPictures:
    prepare(f"tfds:{builder.name}", str(folder))
    return open_tfds(
        f"tfds:{builder.name}", "train", Data(tfds_dir=str(folder), max_bad_share=max_bad_share)
    )


def test_takes_the_only_picture_names_by_place_and_leaves_damaged_ones_out(tmp_path):
    pictures = prepared(PhotosOfAll, tmp_path, max_bad_share=0.2)
    whole = tfds.builder("photos_of_all", data_dir=tmp_path).as_data_source(
        "train", decoders={"photo": tfds.decode.SkipDecoding()}
    )
    files = [record["photo"] for record in whole]
    (damaged,) = [row for row, file in enumerate(files) if len(file) == 30]
    good = [row for row in range(5) if row != damaged]
    assert list(pictures.bad.names) == [f"train/{damaged:06d}"]
    assert [pictures.name(row) for row in range(4)] == [f"train/{row:06d}" for row in good]
    assert [pictures.encoded(row) for row in range(4)] == [files[row] for row in good]
    codec, orientation, _, _ = pictures.headers.T
    turned = orientation == 6
    assert turned.sum() == 1 and (codec == JPEG).sum() == 2
    for row in range(4):
        assert pictures.image(row).shape == ((50, 40, 3) if turned[row] else (40, 50, 3))


def test_names_by_place_count_in_the_whole_split(tmp_path):
    prepare("tfds:outside_names", str(tmp_path))
    pictures = open_tfds(
        "tfds:outside_names#train[1:]", "", Data(tfds_dir=str(tmp_path), max_bad_share=0.0)
    )
    assert [pictures.name(row) for row in range(2)] == ["train/000001", "train/000002"]


def test_too_many_bad_pictures_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r"1 of 5 pictures cannot be used"):
        prepared(PhotosOfAll, tmp_path, max_bad_share=0.1)


def test_a_damaged_set_is_an_error_not_a_crash(tmp_path):
    prepare("tfds:outside_names", str(tmp_path))
    (shard,) = tmp_path.rglob("*train.array_record*")
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"none of 3 pictures can be used .*record"):
        open_tfds("tfds:outside_names", "train", Data(tfds_dir=str(tmp_path), max_bad_share=0.5))


def test_two_pictures_in_a_record_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"'image'.*features are left, right, of which 2"):
        prepared(TwoPhotos, tmp_path)


def test_a_set_that_is_not_prepared_names_the_command(tmp_path):
    for spec in ("tfds:places365_small", "tfds:gmsrm_places2/butte+canyon"):
        command = f"run `gmsrm data {spec} --prepare`"
        with pytest.raises(UserError, match="not prepared") as error:
            open_tfds(f"{spec}#train[:9]", "train", Data(tfds_dir=str(tmp_path), max_bad_share=0.0))
        assert command in str(error.value)
        with pytest.raises(UserError, match="not prepared"):
            split_names(spec, str(tmp_path))


def test_a_set_in_another_format_names_the_command(tmp_path):
    builder = tfds.builder("outside_names", data_dir=tmp_path)
    builder.download_and_prepare(file_format="tfrecord")
    with pytest.raises(UserError, match=r"tfrecord.*run `gmsrm data tfds:outside_names --prepare`"):
        open_tfds("tfds:outside_names#train", "", Data(tfds_dir=str(tmp_path), max_bad_share=0.0))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tfds:no_such_set", "no TFDS set of this name; name one of ours .*gmsrm_places2"),
        ("tfds:celeb_a_hq/63", r"63 not found.*its configs: 1024, "),
        ("tfds:celeb_a_hq/64:9.9.9", r"9\.9\.9"),
        ("tfds:celeb_a_hq/64#test", r"'test'.*its splits are train"),
        ("tfds:celeb_a_hq/64#train[50:]", r"its splits are train"),
        ("tfds:celeb_a_hq/64#train[", r"its splits are train"),
        ("tfds:celeb_a_hq/64#train[:0]", "holds no records"),
        ("tfds:celeb_a_hq/64#train[:3]+train[2:]", "records twice"),
        ("tfds:", "tfds:NAME"),
        ("tfds:community:set", "tfds:NAME"),
    ],
)
def test_a_wrong_spec_is_one_line_that_names_it(spec, message, faces):
    with pytest.raises(UserError, match=message) as error:
        opened(faces, spec)
    assert str(error.value).startswith(spec) and "\n" not in str(error.value)


def test_what_a_set_of_tfds_needs_by_hand_is_said_on_one_line(tmp_path):
    with pytest.raises(
        UserError, match=r"tfds:celeb_a_hq/64: cannot be prepared: .*data2x2"
    ) as error:
        prepare("tfds:celeb_a_hq/64", str(tmp_path), str(tmp_path / "none"))
    assert "\n" not in str(error.value)
