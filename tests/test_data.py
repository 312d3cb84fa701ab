import dataclasses
import io
import itertools
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import ExifTags, Image

from gmsrm_jax.config.fields import base_config
from gmsrm_jax.data import arrays, crops
from gmsrm_jax.data.decoding import PILLOW
from gmsrm_jax.data.loading import open_data
from gmsrm_jax.data.masks.files import read_packed_masks, unpack_masks, write_mask_bank
from gmsrm_jax.data.pipeline import TfData
from gmsrm_jax.data.splits import split_pictures
from gmsrm_jax.data.tensorflow_cpu import tf
from gmsrm_jax.runtime.errors import UserError

SIZE = 32
COUNT = 14
HELD_OUT = 3
PIPELINES = ["tfdata", "arrays"]


def make_config(kind, train, bank="", **data):
    config = base_config()
    config.image_size = SIZE
    config.seed = 5
    config.masks.update(train="pic_regular", bank=str(bank))
    config.data.update(
        train=str(train),
        pipeline=kind,
        validation_bounds=(HELD_OUT, HELD_OUT),
        test_fraction=0.0,
        num_threads=2,
    )
    config.data.update(data)
    return config


def plain_pictures(count=COUNT):
    """Pictures of one colour each, red telling which: scaling and cropping keep it."""
    return [np.full((44, 40, 3), (10 * i, 50, 90), np.uint8) for i in range(count)]


def numbers(batch_images):
    """Which plain picture each row shows; JPEGs miss the colour by a little."""
    return ((batch_images[..., 0].mean((1, 2)) + 2.0) // 10.0).astype(int).tolist()


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder of plain pictures, the same as an array file, and a bank of random masks."""
    root = tmp_path_factory.mktemp("sources")
    (root / "pictures" / "more").mkdir(parents=True)
    for i, picture in enumerate(plain_pictures()):
        name = f"more/{i}.png" if i % 2 else f"{i}.BMP"
        Image.fromarray(picture).save(root / "pictures" / name)
    arrays.write_pictures(root / "pictures.npy", plain_pictures())
    masks = np.random.default_rng(0).random((9, SIZE, SIZE, 1)) < 0.4
    write_mask_bank(root / "bank.npz", masks)
    return root


@pytest.fixture(params=PIPELINES)
def config(request, sources):
    train = sources / ("pictures" if request.param == "tfdata" else "pictures.npy")
    return make_config(request.param, train, sources / "bank.npz")


def take(config, steps, batch_size=4, start=0, salt=0, **process):
    stream = open_data(config).batches(batch_size, start, salt, **process)
    return list(itertools.islice(stream, steps))


def assert_equal_batches(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_batches_have_the_promised_form(config):
    for batch in take(config, 3):
        assert batch.keys() == {"image", "mask"}
        assert batch["image"].shape == (4, SIZE, SIZE, 3)
        assert batch["mask"].shape == (4, SIZE, SIZE, 1)
        assert batch["image"].dtype == batch["mask"].dtype == np.uint8
        assert set(np.unique(batch["mask"])) == {0, 1}
        colours = batch["image"].reshape(4, -1, 3)
        assert np.all(colours == colours[:, :1])


def test_a_resumed_stream_continues_the_same(config):
    whole = take(config, 8)
    assert_equal_batches(take(config, 3, start=5), whole[5:])
    assert np.any(whole[0]["mask"] != whole[1]["mask"])


def test_processes_divide_the_batch_of_one(config):
    whole = take(config, 5, batch_size=6)
    slices = [take(config, 5, batch_size=6, process_index=i, process_count=2) for i in range(2)]
    joined = [
        {name: np.concatenate([first[name], second[name]]) for name in first}
        for first, second in zip(*slices, strict=True)
    ]
    assert_equal_batches(joined, whole)


def test_threads_do_not_change_the_stream(sources):
    config = make_config("tfdata", sources / "pictures", num_threads=1)
    alone = take(config, 3)
    config.data.num_threads = 5
    assert_equal_batches(take(config, 3), alone)


def test_jaxs_default_generator_does_not_change_the_stream(config):
    whole = take(config, 2)
    jax.clear_caches()
    with jax.default_prng_impl("unsafe_rbg"):
        assert_equal_batches(take(config, 2), whole)
    jax.clear_caches()


def test_seed_and_salt_change_the_stream(config):
    base = take(config, 1, batch_size=8)[0]
    salted = take(config, 1, batch_size=8, salt=1)[0]
    config.seed += 1
    seeded = take(config, 1, batch_size=8)[0]
    for other in (salted, seeded):
        assert numbers(other["image"]) != numbers(base["image"])
        assert np.any(other["mask"] != base["mask"])


def test_epochs_are_permutations_of_the_training_pictures(config):
    data = open_data(config)
    assert data.num_examples == COUNT - HELD_OUT
    validation = set(numbers(data.validation()["image"]))
    assert len(validation) == HELD_OUT
    stream = data.batches(25, 0, 0)  # a batch of more than two epochs
    order = [n for batch in itertools.islice(stream, 4) for n in numbers(batch["image"])]
    epochs = [order[i : i + data.num_examples] for i in range(0, 99, data.num_examples)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(set(range(COUNT)) - validation)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_validation_is_fixed(config):
    data = open_data(config)
    first, again = data.validation(), open_data(config).validation()
    assert_equal_batches([first], [again])
    assert first["image"].shape == (HELD_OUT, SIZE, SIZE, 3)
    assert first["mask"].shape == (HELD_OUT, SIZE, SIZE, 1)
    assert 0.0 < first["mask"].mean() < 1.0
    assert str(COUNT - HELD_OUT) in data.description
    assert config.data.train in data.description
    config.seed += 1
    other = open_data(config).validation()
    np.testing.assert_array_equal(other["image"], first["image"])
    assert np.any(other["mask"] != first["mask"])


def test_held_out_pictures_stay_when_a_training_picture_goes(tmp_path):
    for i, picture in enumerate(plain_pictures()):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    config = make_config("tfdata", tmp_path)
    before = numbers(open_data(config).validation()["image"])
    gone = next(i for i in range(COUNT) if i not in before)
    (tmp_path / f"{gone}.png").unlink()
    assert numbers(open_data(config).validation()["image"]) == before


@pytest.mark.parametrize("kind", PIPELINES)
def test_training_scales_crops_and_flips_within_bounds(kind, sources, tmp_path):
    # Red is 2 × the column and green 2 × the row, so their slopes tell the scale and the mirror.
    height, width = 96, 120
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = 2 * np.arange(width)
    ramp[..., 1] = 2 * np.arange(height)[:, None]
    if kind == "tfdata":
        Image.fromarray(ramp).save(tmp_path / "ramp.png")
        config = make_config(kind, tmp_path, validation_fraction=0.0)
    else:
        arrays.write_pictures(tmp_path / "ramp.npy", [ramp])
        config = make_config(
            kind, tmp_path / "ramp.npy", sources / "bank.npz", validation_fraction=0.0
        )
    crops = np.concatenate([b["image"] for b in take(config, 3, batch_size=64)]).astype(float)
    across = (crops[:, 16, 28, 0] - crops[:, 16, 3, 0]) / 25
    down = (crops[:, 28, 16, 1] - crops[:, 3, 16, 1]) / 25
    np.testing.assert_allclose(np.abs(across), down, atol=0.1)
    shorter = 2 * height / down  # of the scaled picture, in pixels
    assert shorter.min() > 1.24 * SIZE
    assert shorter.max() < 1.89 * SIZE
    assert np.ptp(shorter) > 0.5 * SIZE
    assert 0.35 < np.mean(across < 0) < 0.65
    # Crops reach all borders and stay inside.
    assert crops[..., 0].min() <= 8
    assert crops[..., 0].max() >= 2 * width - 10
    assert crops[..., 1].min() <= 8
    assert crops[..., 1].max() >= 2 * height - 10
    config.data.flip = False
    crops = take(config, 1, batch_size=32)[0]["image"].astype(float)
    assert np.all(crops[:, 16, 28, 0] > crops[:, 16, 3, 0])


@pytest.mark.parametrize("shorter", [40.0, 51.3, 120.0])
def test_crops_are_pillows_antialiased_bicubic(shorter):
    noise = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)
    picture = Image.fromarray(noise).resize((113, 90), Image.Resampling.BICUBIC)
    factor = shorter / 90
    for y, x in ((0.0, 0.0), (0.31, 0.77), (1.0, 1.0)):
        top, left = y * (90 * factor - SIZE) / factor, x * (113 * factor - SIZE) / factor
        box = (left, top, left + SIZE / factor, top + SIZE / factor)
        expected = picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        view = crops.View(np.float32(shorter), np.array([y, x], np.float32), False)
        header = tf.constant([PILLOW, 1, 90, 113])
        result = crops.decode_crop(buffer.getvalue(), header, view, SIZE, 10**6)
        difference = np.abs(np.asarray(result).astype(int) - np.asarray(expected))
        assert difference.max() <= 2
        assert difference.mean() < 0.3


def test_bank_masks_appear_in_all_eight_orientations(sources, tmp_path):
    mask = np.zeros((1, SIZE, SIZE, 1), np.uint8)
    mask[0, 2:20, 3:9] = 1
    mask[0, 2:5, 9:12] = 1
    write_mask_bank(tmp_path / "bank.npz", mask)
    config = make_config("arrays", sources / "pictures.npy", tmp_path / "bank.npz")
    turns = {np.rot90(m, k).tobytes() for k in range(4) for m in (mask[0], mask[0][:, ::-1])}
    assert len(turns) == 8
    drawn = {m.tobytes() for m in take(config, 1, batch_size=128)[0]["mask"]}
    assert drawn == turns


def test_bank_masks_all_appear(sources):
    config = make_config("arrays", sources / "pictures.npy", sources / "bank.npz")
    bank = unpack_masks(*read_packed_masks(sources / "bank.npz")).sum((1, 2, 3))
    drawn = take(config, 1, batch_size=128)[0]["mask"].sum((1, 2, 3))
    assert set(drawn) == set(bank)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif", "jpg CMYK", "png L"])
def test_training_applies_the_exif_orientation(kind, tmp_path):
    # Upright, it is tall and a grey value darker in each row; it is stored lying on its side.
    pixels = np.repeat(np.arange(250, 50, -1, dtype=np.uint8)[:, None, None], 50, 1)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    suffix, _, mode = kind.partition(" ")
    lying = Image.fromarray(np.repeat(pixels, 3, 2)).transpose(Image.Transpose.ROTATE_90)
    lying.convert(mode or "RGB").save(tmp_path / f"phone.{suffix}", exif=exif)
    config = make_config("tfdata", tmp_path, validation_fraction=0.0, scale=(1.0, 1.0))
    crops = take(config, 1, batch_size=16)[0]["image"].astype(int)
    assert np.abs(np.diff(crops[..., 0], axis=2)).max() <= 4
    drop = crops[:, 0, :, 0].mean(1) - crops[:, -1, :, 0].mean(1)
    np.testing.assert_allclose(drop, (SIZE - 1) / 0.8, atol=3)
    assert np.ptp(crops[:, 0, 0, 0]) > 50  # crops of its whole height


def test_pictures_of_every_kind_come_out_right(tmp_path):
    shades = [Image.new("L", (44, 40), 10 * i) for i in range(9)]
    red = [Image.merge("RGB", [shade, shade, shades[0]]) for shade in shades]
    veil = Image.linear_gradient("L").resize((44, 40))
    white = Image.new("RGB", (44, 40), "white")
    shades[0].save(tmp_path / "0-grey.jpg")
    red[1].quantize(8).save(tmp_path / "1-palette.png")
    red[2].convert("CMYK").save(tmp_path / "2-cmyk.jpg", quality=100)
    Image.fromarray(np.full((40, 44), 30 * 257, np.uint16)).save(tmp_path / "3-deep.png")
    red[4].convert("RGBA").save(tmp_path / "4-opaque.png")
    red[5].save(tmp_path / "5-lossless.webp", lossless=True)
    red[6].save(tmp_path / "6-plain.tif")
    red[7].save(tmp_path / "7-plain.bmp")
    red[8].save(tmp_path / "8-progressive.jpg", progressive=True)
    config = make_config("tfdata", tmp_path, validation_fraction=0.0)
    batch = take(config, 1, batch_size=9)[0]["image"]
    assert sorted(numbers(batch)) == list(range(9))
    for path in tmp_path.glob("?-*"):
        path.unlink()
    # What is transparent is white, whatever colour lies below.
    red[0].putalpha(veil.point(lambda alpha: 255 if alpha > 127 else 0))
    red[0].save(tmp_path / "veil.png")
    config.data.update(flip=False, scale=(1.0, 1.0))
    crop = take(config, 1, batch_size=1)[0]["image"][0]
    assert np.all(crop[0] == np.asarray(white)[0, 0])
    assert np.all(crop[-1] == 0)


def damage(path, kind):
    whole = path.read_bytes()
    middle = len(whole) // 2
    contents = {
        "cut": whole[: len(whole) * 3 // 4],
        "zeros": whole[:middle] + bytes(len(whole) - middle),
        "wrong byte": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
        "text": b"<html>",
        "empty": b"",
    }
    path.write_bytes(contents[kind])


@pytest.fixture
def noisy(tmp_path):
    """A folder of pictures of distinct mean colour whose files are long enough to be damaged."""
    folder = tmp_path / "noisy"
    folder.mkdir()
    grain = np.random.default_rng(0).integers(0, 8, (120, 160, 3))
    for i in range(COUNT):
        pixels = np.full((120, 160, 3), (10 * i, 50, 90)) + grain
        name = f"{i:02d}.png" if i % 3 == 2 else f"{i:02d}.jpg"
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name, quality=95)
    return folder


def test_bad_pictures_are_named_and_replaced_by_the_next_good_one(noisy):
    config = make_config("tfdata", noisy, validation_fraction=0.0, max_bad_share=0.3)
    good = take(config, 12, batch_size=6)
    bad = {"03.jpg": "cut", "04.jpg": "zeros", "13.jpg": "cut", "08.png": "wrong byte"}
    for name, kind in bad.items():
        damage(noisy / name, kind)
    data = open_data(config)
    assert not data.bad.names  # their headers are good
    stream = data.batches(6, 0, 0)
    batches = list(itertools.islice(stream, 12))
    assert data.bad.names.keys() == bad.keys()
    assert all(data.bad.names.values())
    substitute = {3: 5, 4: 5, 13: 0, 8: 9}
    for before, after in zip(good, batches, strict=True):
        wanted = [substitute.get(number, number) for number in numbers(before["image"])]
        assert numbers(after["image"]) == wanted
        np.testing.assert_array_equal(before["mask"], after["mask"])
        same = np.array(wanted) == numbers(before["image"])
        np.testing.assert_array_equal(before["image"][same], after["image"][same])
    # A run that has not met them yet makes the same batches, as does one that has met them all.
    assert_equal_batches(take(config, 5, batch_size=6, start=7), batches[7:])
    assert_equal_batches(list(itertools.islice(data.batches(6, 0, 0), 3)), batches[:3])
    part = take(config, 4, batch_size=6, process_index=1, process_count=2)
    for whole, half in zip(batches[:4], part, strict=True):
        np.testing.assert_array_equal(whole["image"][3:], half["image"])


@pytest.mark.parametrize("kind", ["text", "empty"])
def test_what_is_no_picture_is_left_out_from_the_start(kind, noisy):
    damage(noisy / "06.jpg", kind)
    config = make_config("tfdata", noisy, validation_fraction=0.0, max_bad_share=0.1)
    data = open_data(config)
    assert data.num_examples == COUNT - 1
    assert list(data.bad.names) == ["06.jpg"]
    shown = {number for batch in take(config, 2, 13) for number in numbers(batch["image"])}
    assert shown == set(range(COUNT)) - {6}


@pytest.mark.parametrize(
    ("count", "share", "words"),
    [
        (2, 0.1, r"2 of 14 .*0[01]\.jpg.*0[01]\.jpg.*max_bad_share"),
        (COUNT, 1.0, "no training picture can be decoded"),
    ],
)
def test_too_many_bad_pictures_stop_the_run(count, share, words, noisy):
    for path in sorted(noisy.iterdir())[:count]:
        damage(path, "cut" if path.suffix == ".jpg" else "wrong byte")
    config = make_config("tfdata", noisy, validation_fraction=0.0, max_bad_share=share)
    data = open_data(config)
    with pytest.raises(UserError, match=words) as caught:
        list(itertools.islice(data.batches(14, 0, 0), 3))
        data.bad.share(lambda found: [found])  # as the loop does where it writes its log
    assert "\n" not in str(caught.value)


def test_a_file_that_vanishes_stops_the_run(noisy):
    data = open_data(make_config("tfdata", noisy, validation_fraction=0.0, max_bad_share=1.0))
    stream = data.batches(3, 0, 0)
    next(stream)
    for path in noisy.iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"noisy: \d+\.\w+ was there .*No such file") as caught:
        list(itertools.islice(stream, 10))
    assert "\n" not in str(caught.value)
    assert not data.bad.names


def test_pictures_that_are_no_files_make_the_same_stream(noisy):
    config = make_config("tfdata", noisy, max_bad_share=0.1)
    damage(noisy / "03.jpg", "cut")
    from_files = take(config, 6)
    split = split_pictures(config)

    class Stored:
        """The same pictures, as a data base would give them."""

        files = None

        def __getattr__(self, name):
            return getattr(split.pictures, name)

        def __len__(self):
            return len(split.pictures)

    data = TfData(config, dataclasses.replace(split, pictures=Stored()))
    assert_equal_batches(list(itertools.islice(data.batches(4, 0, 0), 6)), from_files)


_PROCESS = """
import itertools, json, sys
import numpy as np
from ml_collections import ConfigDict
from gmsrm_jax.data.loading import open_data
fields, index, path = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
stream = open_data(ConfigDict(fields)).batches(6, 2, 1, index, 2)
batches = list(itertools.islice(stream, 4))
np.savez(path, **{name: np.stack([batch[name] for batch in batches]) for name in batches[0]})
"""


@pytest.mark.slow
def test_another_process_reads_its_rows_of_the_same_batches(noisy, tmp_path):
    config = make_config("tfdata", noisy, max_bad_share=0.1)
    config.masks.train = "pic"
    damage(noisy / "03.jpg", "cut")
    path = tmp_path / "1.npz"
    arguments = [json.dumps(config.to_dict()), "1", str(path)]
    process = subprocess.Popen([sys.executable, "-c", _PROCESS, *arguments])
    whole = take(config, 4, batch_size=6, start=2, salt=1)
    assert process.wait() == 0
    part = np.load(path)
    for name in ("image", "mask"):
        np.testing.assert_array_equal(part[name], np.stack([batch[name][3:] for batch in whole]))


def assert_refused(config, *words):
    with pytest.raises(UserError) as caught:
        open_data(config)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_errors_of_both_pipelines(config, tmp_path):
    with pytest.raises(UserError, match=r"7 .* 2 processes.*batch_size"):
        open_data(config).batches(7, 0, 0, process_index=0, process_count=2)
    data = config.data
    data.validation_bounds = (COUNT, COUNT)
    assert_refused(config, f"{COUNT} pictures are too few", "data.validation_bounds")
    data.validation_bounds = (HELD_OUT, HELD_OUT)
    data.train = ""
    assert_refused(config, "data.train")
    data.train = str(tmp_path / "absent")
    assert_refused(config, "absent")


def test_errors_of_tfdata(sources):
    assert_refused(make_config("tfdata", sources / "pictures.npy"), "pictures.npy", "arrays")
    config = make_config("tfdata", sources / "pictures")
    config.masks.train = "free"
    assert_refused(config, "'free'", "pic_regular", "pic_irregular", "pic")


def test_errors_of_arrays(sources, tmp_path):
    bank = sources / "bank.npz"
    assert_refused(make_config("arrays", sources / "pictures", bank), "pictures", "tfdata")
    assert_refused(
        make_config("arrays", sources / "pictures.npy"), "masks.bank", "gmsrm masks draw"
    )
    config = make_config("arrays", sources / "pictures.npy", bank)
    config.image_size = 64
    assert_refused(config, "bank.npz", "32 px", "image_size = 64")
    for name, array in (
        ("float", np.zeros((9, 40, 40, 3))),
        ("grey", np.zeros((9, 40, 40), np.uint8)),
        ("none", np.zeros((0, 40, 40, 3), np.uint8)),
        ("small", np.zeros((9, 40, 31, 3), np.uint8)),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        assert_refused(make_config("arrays", tmp_path / f"{name}.npy", bank), f"{name}.npy")
    (tmp_path / "text.npy").write_text("no array")
    assert_refused(make_config("arrays", tmp_path / "text.npy", bank), "text.npy")


def test_arrays_need_no_tensorflow(sources):
    config = make_config("arrays", sources / "pictures.npy", sources / "bank.npz")
    code = f"""
import sys
from ml_collections import ConfigDict
from gmsrm_jax.data import loading
next(loading.open_data(ConfigDict({config.to_dict()!r})).batches(2, 0, 0))
print(sorted({{"tensorflow", "tensorflow_datasets", "clu"}} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_write_pictures_refuses_mixed_sizes_and_leaves_nothing(tmp_path):
    mixed = [np.zeros((40, 40, 3), np.uint8), np.zeros((41, 40, 3), np.uint8)]
    for pictures in (mixed, []):
        with pytest.raises(UserError, match=r"x\.npy"):
            arrays.write_pictures(tmp_path / "x.npy", pictures)
    assert list(tmp_path.iterdir()) == []
