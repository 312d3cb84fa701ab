import itertools
import subprocess
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import ExifTags, Image

from gmsrm_jax.data import arrays, pipeline
from gmsrm_jax.data.loading import open_data
from gmsrm_jax.errors import UserError
from gmsrm_jax.holes import read_mask_bank, write_mask_bank

SIZE = 32
COUNT = 14
HELD_OUT = 3
PIPELINES = ["tfdata", "arrays"]


def make_config(kind, train, bank="", **data):
    config = ConfigDict({"image_size": SIZE, "seed": 5, "data": {}, "masks": {}})
    config.masks.update(train="pic_regular", bank=str(bank))
    config.data.update(
        train=str(train),
        pipeline=kind,
        validation_count=HELD_OUT,
        shorter_side=1.25,
        scale=(1.0, 1.5),
        flip=True,
        test_resize="shorter_side",
        num_threads=2,
    )
    config.data.update(data)
    return config


def plain_pictures(count=COUNT):
    """Pictures of one colour each, red telling which: scaling and cropping keep it."""
    return [np.full((44, 40, 3), (10 * i, 50, 90), np.uint8) for i in range(count)]


def numbers(batch_images):
    return (batch_images[:, 0, 0, 0] // 10).tolist()


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


def test_no_validation_pictures(config):
    config.data.validation_count = 0
    data = open_data(config)
    assert data.num_examples == COUNT
    assert data.validation()["image"].shape == (0, SIZE, SIZE, 3)
    assert data.validation()["mask"].shape == (0, SIZE, SIZE, 1)


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
        config = make_config(kind, tmp_path, validation_count=0)
    else:
        arrays.write_pictures(tmp_path / "ramp.npy", [ramp])
        config = make_config(kind, tmp_path / "ramp.npy", sources / "bank.npz", validation_count=0)
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


@pytest.mark.parametrize(
    "crop", [pipeline.scaled_crop, jax.jit(arrays.scaled_crop, static_argnums=3)], ids=PIPELINES
)
@pytest.mark.parametrize("shorter", [40.0, 51.3, 120.0])
def test_crops_are_pillows_antialiased_bicubic(crop, shorter):
    noise = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)
    picture = Image.fromarray(noise).resize((113, 90), Image.Resampling.BICUBIC)
    factor = shorter / 90
    for y, x in ((0.0, 0.0), (0.31, 0.77), (1.0, 1.0)):
        top, left = y * (90 * factor - SIZE) / factor, x * (113 * factor - SIZE) / factor
        box = (left, top, left + SIZE / factor, top + SIZE / factor)
        expected = picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
        corner = np.array([y, x], np.float32)
        result = crop(np.asarray(picture), np.float32(shorter), corner, SIZE)
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
    bank = read_mask_bank(sources / "bank.npz").sum((1, 2, 3))
    drawn = take(config, 1, batch_size=128)[0]["mask"].sum((1, 2, 3))
    assert set(drawn) == set(bank)


def test_training_applies_the_exif_orientation(tmp_path):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32] = 255  # bright above; stored lying on its side
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    lying = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    lying.save(tmp_path / "phone.png", exif=exif)
    config = make_config("tfdata", tmp_path, validation_count=0, scale=(1.0, 1.0))
    for crop in take(config, 1, batch_size=16)[0]["image"]:
        assert np.all(crop[0] == 255)
        assert np.all(crop[-1] == 0)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_the_iterator_names_a_file_that_cannot_be_decoded(damage, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ("a.jpg", "b.jpg", "bad.jpg"):
        Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / "bad.jpg").read_bytes()
    broken = {"cut": whole[: len(whole) // 2], "text": b"<html>", "empty": b""}[damage]
    (tmp_path / "bad.jpg").write_bytes(broken)
    stream = open_data(make_config("tfdata", tmp_path, validation_count=0)).batches(1, 0, 0)
    with pytest.raises(UserError, match=r"bad\.jpg.*PNG or JPEG") as caught:
        for _ in range(3):
            next(stream)
    assert "\n" not in str(caught.value)


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
    data, kind = config.data, config.data.pipeline
    data.validation_count = COUNT
    assert_refused(config, f"{COUNT} pictures", "data.validation_count")
    data.validation_count = 0
    data.scale = (0.5, 1.5)
    assert_refused(config, "data.scale", "0.5")
    data.scale = (1.0, 1.5)
    data.pipeline = "torch"
    assert_refused(config, "torch", "tfdata", "arrays")
    data.pipeline = kind
    data.train = ""
    assert_refused(config, "data.train")
    data.train = str(tmp_path / "absent")
    assert_refused(config, "absent")


def test_errors_of_tfdata(sources, tmp_path):
    assert_refused(make_config("tfdata", sources / "pictures.npy"), "pictures.npy", "arrays")
    config = make_config("tfdata", sources / "pictures", num_threads=0)
    assert_refused(config, "num_threads = 0")
    config = make_config("tfdata", sources / "pictures")
    config.masks.train = "free"
    assert_refused(config, "'free'", "pic_regular", "pic_irregular", "pic")
    for name, picture, words in (
        ("small.png", Image.new("RGB", (40, 31)), "40 x 31"),
        ("web.webp", Image.new("RGB", (40, 40)), "convert it to PNG or JPEG"),
        ("palette.bmp", Image.new("RGB", (40, 40)).convert("P"), "palette"),
    ):
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        picture.save(folder / name)
        assert_refused(make_config("tfdata", folder, validation_count=0), name, words)


def test_errors_of_arrays(sources, tmp_path):
    bank = sources / "bank.npz"
    assert_refused(make_config("arrays", sources / "pictures", bank), "pictures", "tfdata")
    assert_refused(make_config("arrays", sources / "pictures.npy"), "masks.bank", "write_mask_bank")
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
from gmsrm_jax.data import images, loading
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
