"""Mask lists, padding, composites and means, with methods whose scores are known beforehand."""

import csv
import hashlib
import json
import tempfile

import numpy as np
import pytest
from made_up_scores import make_metrics
from ml_collections import ConfigDict
from PIL import Image

from gmsrm_jax.data.masks.assignment import assign_from_folder, make_mask_list, open_mask_list
from gmsrm_jax.data.masks.bins import RATIO_BINS, bin_name, ratio_bin
from gmsrm_jax.data.masks.list_file import read_mask_list, write_mask_list
from gmsrm_jax.data.sources import open_pictures
from gmsrm_jax.evaluation.batches import IMAGE_KINDS, EvaluationSet, evaluated_names, image_kinds
from gmsrm_jax.evaluation.evaluate import (
    EXAMPLES_FILE,
    METRICS_FILE,
    PER_IMAGE_FILE,
    evaluate,
)
from gmsrm_jax.evaluation.examples import read_examples, spread
from gmsrm_jax.evaluation.paper_tables import full_table
from gmsrm_jax.evaluation.table_formats import to_text
from gmsrm_jax.evaluation.worker import Rows
from gmsrm_jax.methods.classical import mean_colour
from gmsrm_jax.runtime.errors import UserError

SIZE = 32
RATIOS = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55)
CENTRES = ("centre 25%", "centre 50%")


@pytest.fixture(scope="module")
def mask_folder(tmp_path_factory):
    """Two mask files of each bin: the top, or the bottom, of the picture is white."""
    folder = tmp_path_factory.mktemp("masks")
    for number, ratio in enumerate(RATIOS):
        for flip in (False, True):
            mask = np.zeros((200, 200), np.uint8)
            mask[: round(200 * ratio)] = 255
            Image.fromarray(mask[::-1] if flip else mask).save(folder / f"{number}{flip:d}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Five random pictures of another size than the evaluation's."""
    random = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("pictures") / "test.npy"
    np.save(path, random.integers(0, 256, (5, 40, 48, 3), np.uint8))
    return open_pictures(str(path))


@pytest.fixture(scope="module")
def mask_list(mask_folder, pictures):
    return assign_from_folder(evaluated_names(pictures, 0), SIZE, 3, mask_folder)


def score(methods, pictures, mask_list, **options):
    """Evaluates with small batches; options are those of the set, of the rows, or of `evaluate`."""
    place = {"image_size": SIZE, "shorter_side": 1.0, "test_resize": "direct"}
    place |= {name: options.pop(name) for name in ("image_size", "max_images") if name in options}
    rows = {name: options.pop(name) for name in ("samples", "covered") if name in options}
    test_set = EvaluationSet(pictures, mask_list, **place)
    with tempfile.TemporaryDirectory() as folder:
        options = {"batch_size": 16, "output_dir": folder, **options}
        return evaluate(Rows(methods, **rows), test_set, **options)


def classical(fill):
    """A classical fill as a row, which is told the numbers of the examples too."""
    return lambda image, mask, index: fill(image, mask)


def constant(value):
    """A method whose raw output has one value everywhere."""
    return lambda image, mask, index: np.full(image.shape, value, np.float32)


def resized(pictures, index):
    """The test rule "direct", by Pillow."""
    picture = Image.fromarray(pictures.image(index))
    return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


# --- mask lists ---------------------------------------------------------------------------------


def test_a_folder_gives_one_mask_of_every_bin(mask_list):
    assert mask_list.bins == (*(bin_name(i) for i in range(6)), *CENTRES)
    for example in range(5 * 8):
        picture, position = divmod(example, 8)
        mask = mask_list.mask(example)
        assert mask.shape == (SIZE, SIZE, 1)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1}
        assert mask_list.ratios[picture, position] == mask.mean()
        digest = hashlib.sha256(mask.tobytes()).hexdigest()
        assert mask_list.hashes[picture][position] == digest
        if position < 6:
            assert ratio_bin(float(mask.mean())) == position
    assert mask_list.mask(6)[8:24, 8:24].all()
    assert mask_list.mask(6).sum() == 16 * 16
    assert mask_list.mask(7).sum() == 23 * 23


def test_a_bins_masks_are_used_in_turn(mask_list):
    """Two files a bin: neighbours differ, every second picture has the same mask."""
    for position in range(6):
        hashes = [row[position] for row in mask_list.hashes]
        assert hashes[0] != hashes[1]
        assert hashes[0] == hashes[2] == hashes[4]
        assert hashes[1] == hashes[3]


def test_the_seed_decides_the_assignment(mask_folder):
    names = ["a", "b"]
    lists = [assign_from_folder(names, SIZE, seed, mask_folder).sha256 for seed in (0, 0, 1, 2, 3)]
    assert lists[0] == lists[1]
    assert len(set(lists)) > 1


def test_inverted_files_give_the_same_list(mask_list, mask_folder, tmp_path):
    """Named as their negatives, they lie in the same order, so the assignment is the same."""
    for path in mask_folder.iterdir():
        negative = 255 - np.asarray(Image.open(path))
        Image.fromarray(negative).save(tmp_path / path.name)
    names = list(mask_list.names)
    inverted = open_mask_list(config(str(tmp_path), invert_masks=True), names)
    assert inverted.sha256 == mask_list.sha256
    assert inverted.source == f"folder {tmp_path.name}, 12 files, inverted, seed 3"
    assert mask_list.source == f"folder {mask_folder.name}, 12 files, seed 3"


def test_a_folder_without_a_bin_is_refused(mask_folder, tmp_path):
    for number in (0, 1, 2, 4):
        (tmp_path / f"{number}.png").write_bytes((mask_folder / f"{number}0.png").read_bytes())
    with pytest.raises(UserError, match=r"none of 4 masks has a hole of 30-40%, 50-60%"):
        assign_from_folder(["a"], SIZE, 0, tmp_path)


def test_drawn_lists_depend_on_seed_and_place_alone():
    long = make_mask_list(["a", "b", "c"], SIZE, 5)
    short = make_mask_list(["x", "y"], SIZE, 5)
    assert long.hashes[:2] == short.hashes
    assert len({row[4] for row in long.hashes}) == 3
    assert make_mask_list(["a"], SIZE, 6).hashes[0][:6] != long.hashes[0][:6]
    for low_high, ratios in zip(RATIO_BINS, long.ratios.T[:6], strict=True):
        assert ((ratios > low_high[0]) & (ratios <= low_high[1])).all()


def test_a_list_comes_back_from_its_file(mask_list, tmp_path):
    path = tmp_path / "list.npz"
    write_mask_list(path, mask_list)
    back = read_mask_list(path)
    assert back.sha256 == mask_list.sha256
    assert back.facts() == mask_list.facts()
    np.testing.assert_array_equal(back.packed, mask_list.packed)
    np.testing.assert_array_equal(back.ratios, mask_list.ratios)
    first = path.read_bytes()
    write_mask_list(path, back)
    assert path.read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["list.npz"]


def test_the_hash_of_a_list_covers_names_bins_and_masks(mask_folder):
    one = assign_from_folder(["a", "b"], SIZE, 0, mask_folder)
    other_names = assign_from_folder(["b", "a"], SIZE, 0, mask_folder)
    other_size = assign_from_folder(["a", "b"], 64, 0, mask_folder)
    assert len({one.sha256, other_names.sha256, other_size.sha256}) == 3


def changed_copy(path, **arrays):
    with np.load(path) as file:
        content = dict(file)
    np.savez(path, **{**content, **arrays})


def test_a_changed_file_is_noticed(mask_list, tmp_path):
    path = tmp_path / "list.npz"
    write_mask_list(path, mask_list)
    packed = mask_list.packed.copy()
    packed[2, 1, 60] ^= 16  # one pixel
    changed_copy(path, packed=packed)
    with pytest.raises(UserError, match=r"the mask of 000002, 10-20%, does not have the hash"):
        read_mask_list(path)
    write_mask_list(path, mask_list)
    same_ratio = mask_list.packed.copy()
    same_ratio[2, 1] = np.packbits(mask_list.mask(2 * 8 + 1)[::-1])
    changed_copy(path, packed=same_ratio)
    with pytest.raises(UserError, match="does not have the hash"):
        read_mask_list(path)
    write_mask_list(path, mask_list)
    changed_copy(path, ratios=mask_list.ratios + 0.001)
    with pytest.raises(UserError, match="hash or ratio"):
        read_mask_list(path)
    write_mask_list(path, mask_list)
    changed_copy(path, packed=mask_list.packed[:, :, :-1])
    with pytest.raises(UserError, match="do not hold 5 x 8 masks of 32 px"):
        read_mask_list(path)


def test_unreadable_lists_name_the_file(mask_list, tmp_path):
    missing = tmp_path / "none.npz"
    with pytest.raises(UserError, match=r"none\.npz: cannot be read as a mask list"):
        read_mask_list(missing)
    other = tmp_path / "other.npz"
    np.savez(other, packed=np.zeros(3))
    with pytest.raises(UserError, match=r"other\.npz"):
        read_mask_list(other)
    cut = tmp_path / "cut.npz"
    write_mask_list(cut, mask_list)
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"cut\.npz"):
        read_mask_list(cut)
    objects = tmp_path / "objects.npz"
    np.savez(objects, names=np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"objects\.npz"):
        read_mask_list(objects)


def config(masks, size=SIZE, seed=3, max_images=0, invert_masks=False):
    evaluation = {
        "masks": masks,
        "invert_masks": invert_masks,
        "seed": seed,
        "max_images": max_images,
    }
    return ConfigDict({"image_size": size, "evaluation": evaluation})


def test_open_mask_list_takes_every_source(mask_list, mask_folder, tmp_path):
    names = list(mask_list.names)
    assert open_mask_list(config(str(mask_folder)), names).sha256 == mask_list.sha256
    path = tmp_path / "list.npz"
    write_mask_list(path, mask_list)
    assert open_mask_list(config(str(path)), names).sha256 == mask_list.sha256
    first = open_mask_list(config(str(path), max_images=2), names[:2])
    assert first.hashes == mask_list.hashes[:2]
    drawn = open_mask_list(config("generated", seed=8), ["a"])
    assert drawn.sha256 == make_mask_list(["a"], SIZE, 8).sha256


def test_the_bundled_list_fits_the_bundled_pictures():
    names = evaluated_names(open_pictures("bundled:facades/test"), 0)
    mask_list = open_mask_list(config("bundled", size=64), names)
    assert len(mask_list.names) == 60
    assert mask_list.sha256 == make_mask_list(names, 64, mask_list.seed).sha256
    with pytest.raises(UserError, match="no list of 32 px is bundled"):
        open_mask_list(config("bundled", size=32), names)


def test_lists_for_other_pictures_are_refused(mask_list, tmp_path):
    path = tmp_path / "list.npz"
    write_mask_list(path, mask_list)
    names = list(mask_list.names)
    with pytest.raises(UserError, match=r"masks have 32 px, the evaluated pictures 64 px"):
        open_mask_list(config(str(path), size=64), names)
    with pytest.raises(
        UserError, match=r"made for 5 pictures, evaluated are 4; number 5 is 000004"
    ):
        open_mask_list(config(str(path)), names[:4])
    names[1] = "other"
    with pytest.raises(UserError, match=r"number 2 is 000001 in the list and other among"):
        open_mask_list(config(str(path)), names)
    with pytest.raises(UserError, match=r"'nowhere' is no folder and no mask list"):
        open_mask_list(config("nowhere"), names)


# --- composites and baselines -------------------------------------------------------------------


def test_composite_takes_the_output_in_the_hole_only():
    image = np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8)
    mask = np.array([[[1], [0]]], np.uint8)
    raw = np.array([[[-1.0, 0.0, 1.5], [0.25, 0.25, 0.25]]], np.float32)
    rounded, unrounded, pixels = image_kinds(image, mask, raw)
    assert rounded.dtype == np.uint8
    np.testing.assert_array_equal(rounded, [[[0, 128, 255], [40, 50, 60]]])  # 127.5 to even
    np.testing.assert_allclose(unrounded, [[[0.0, 127.5, 255.0], [40, 50, 60]]])
    np.testing.assert_allclose(pixels[0, 1], [159.375] * 3)


def test_mean_colour_uses_known_pixels_only():
    random = np.random.default_rng(0)
    image = random.uniform(-1, 1, (3, 8, 8, 3)).astype(np.float32)
    mask = (random.uniform(size=(3, 8, 8, 1)) < 0.4).astype(np.float32)
    mask[2] = 1.0
    filled = mean_colour(image * (1 - mask), mask)
    assert filled.dtype == np.float32
    for row in range(2):
        known = image[row][mask[row, ..., 0] == 0].astype(np.float64)
        expected = np.broadcast_to(known.mean(0), (8, 8, 3))
        np.testing.assert_allclose(filled[row], expected, atol=1e-6)
    np.testing.assert_array_equal(filled[2], 0.0)


# --- evaluation ---------------------------------------------------------------------------------


def test_scores_of_known_outputs(pictures, mask_list):
    """Constant fillings: every PSNR and mean follows from the pictures and masks by hand."""
    result = score({"grey": constant(0.2), "white": constant(1.0)}, pictures, mask_list)
    for method, value in (("grey", 153.0), ("white", 255.0)):
        for position, name in enumerate(mask_list.bins):
            decibels = []
            for picture in range(5):
                truth = resized(pictures, picture).astype(np.float64)
                hole = mask_list.mask(picture * 8 + position).astype(np.float64)
                error = (((truth - value) * hole) ** 2).mean((0, 1))
                decibels.append(np.mean(10 * np.log10(255.0**2 / error)))
            cell = result.metrics["methods"][method]["composite"][name]["psnr"]
            assert cell["mean"] == pytest.approx(np.mean(decibels), abs=1e-4)
            assert (cell["count"], cell["undefined"]) == (5, 0)


def test_a_perfect_method_scores_perfectly(pictures, mask_list):
    truths = np.stack([resized(pictures, index) for index in range(5)])

    def perfect(image, mask, index):
        return truths[index // 8].astype(np.float32) / 127.5 - 1.0

    cells = score({"perfect": perfect}, pictures, mask_list).metrics["methods"]["perfect"]
    for name in mask_list.bins:
        means = {metric: cell["mean"] for metric, cell in cells["composite"][name].items()}
        assert means["psnr"] == 100.0
        assert means["lmse"] == 0.0
        assert means["ssim"] == pytest.approx(1.0, abs=1e-6)
        assert means["ncc"] == pytest.approx(1.0, abs=1e-6)


def test_methods_see_holes_zeroed_and_full_batches(pictures, mask_list):
    """40 examples in batches of 16: three calls, the last one padded; each example comes once."""
    calls = []

    def method(image, mask, index):
        calls.append((image, mask, index))
        return np.zeros_like(image)

    progress = []
    score({"m": method}, pictures, mask_list, progress=lambda *done: progress.append(done))
    assert [len(image) for image, _, _ in calls] == [16, 16, 16]
    assert progress == [(16, 40), (32, 40), (40, 40)]
    indices = np.concatenate([index for _, _, index in calls])
    np.testing.assert_array_equal(indices[:40], np.arange(40))
    np.testing.assert_array_equal(indices[40:], 39)
    for image, mask, index in calls:
        assert (image.dtype, mask.dtype, index.dtype) == (np.float32, np.float32, np.int32)
        for row, example in enumerate(index):
            hole = mask_list.mask(int(example))
            np.testing.assert_array_equal(mask[row], hole)
            truth = resized(pictures, int(example) // 8) / 127.5 - 1.0
            np.testing.assert_allclose(image[row], truth * (1 - hole), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_batch_size_does_not_change_scores(pictures, mask_list, batch_size):
    """Outputs depend on the example, so padding or a shifted row would show."""

    def method(image, mask, index):
        values = np.cos(index.astype(np.float32))[:, None, None, None]
        return np.broadcast_to(values, image.shape).astype(np.float32)

    expected = score({"m": method}, pictures, mask_list, batch_size=40)
    result = score({"m": method}, pictures, mask_list, batch_size=batch_size)
    for name in mask_list.bins:
        for metric, cell in result.metrics["methods"]["m"]["composite"][name].items():
            other = expected.metrics["methods"]["m"]["composite"][name][metric]
            if metric == "ssim_hole" and cell["count"] == 0:
                assert other == cell  # a strip at the border has no window's centre in it
                continue
            assert cell["mean"] == pytest.approx(other["mean"], rel=1e-5)
            assert cell["count"] == other["count"] == 5


def test_kept_examples_leave_known_pixels_untouched(pictures, mask_list):
    random = np.random.default_rng(0)

    def noise(image, mask, index):
        return random.uniform(-1, 1, image.shape).astype(np.float32)

    methods = {"noise": noise, "mean colour": classical(mean_colour)}
    examples = score(methods, pictures, mask_list).examples
    assert examples.methods == ("noise", "mean colour")
    assert examples.bins == mask_list.bins
    assert len(set(examples.pictures)) == 5
    for row, name in enumerate(examples.pictures):
        np.testing.assert_array_equal(examples.truth[row], resized(pictures, int(name)))
        known = examples.mask[row, ..., 0] == 0
        for composites, raw in zip(examples.composite, examples.raw, strict=True):
            np.testing.assert_array_equal(composites[row][known], examples.truth[row][known])
            np.testing.assert_array_equal(composites[row][~known], raw[row][~known])
    assert (examples.raw[0] != examples.truth).any()


def test_rounded_unrounded_and_raw_are_told_apart(pictures, mask_list):
    """Output 0.002 is 127.755 in pixels: 128 rounded."""
    cells = score({"m": constant(0.002)}, pictures, mask_list).metrics["methods"]["m"]
    name = mask_list.bins[2]
    expected = {kind: [] for kind in IMAGE_KINDS}
    for picture in range(5):
        truth = resized(pictures, picture).astype(np.float64)
        hole = mask_list.mask(picture * 8 + 2)
        for kind, value, region in (
            ("composite", 128.0, hole),
            ("composite_unrounded", 127.755, hole),
            ("raw", 127.755, 1),
        ):
            error = (((truth - value) * region) ** 2).mean((0, 1))
            expected[kind].append(np.mean(10 * np.log10(255.0**2 / error)))
    for kind, decibels in expected.items():
        assert cells[kind][name]["psnr"]["mean"] == pytest.approx(np.mean(decibels), abs=1e-5)
    assert cells["composite"][name]["psnr"] != cells["composite_unrounded"][name]["psnr"]


def test_undefined_scores_are_null_and_counted(mask_list, tmp_path):
    """The second of five pictures is one colour: nothing correlates with it."""
    array = np.random.default_rng(2).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
    array[1] = 77
    np.save(tmp_path / "test.npy", array)
    pictures = open_pictures(str(tmp_path / "test.npy"))
    result = score({"m": constant(0.0)}, pictures, mask_list, output_dir=tmp_path)
    metrics = json.loads((tmp_path / METRICS_FILE).read_text())
    assert metrics == result.metrics
    for name in mask_list.bins:
        cell = metrics["methods"]["m"]["composite"][name]["ncc"]
        assert (cell["count"], cell["undefined"]) == (4, 1)
        raw = metrics["methods"]["m"]["raw"][name]["ncc"]
        assert raw == {"mean": None, "count": 0, "undefined": 5}
    with (tmp_path / PER_IMAGE_FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows if row["ncc"] == ""] == ["000001"] * 8


def test_files_agree_with_the_result(pictures, mask_list, tmp_path):
    methods = {"grey": constant(0.2), "mean colour": classical(mean_colour)}
    result = score(methods, pictures, mask_list, output_dir=tmp_path, facts={"checkpoint": "x"})
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        [METRICS_FILE, PER_IMAGE_FILE, EXAMPLES_FILE]
    )
    metrics = json.loads((tmp_path / METRICS_FILE).read_text())
    assert metrics == result.metrics
    assert metrics["facts"] == {"checkpoint": "x"}
    assert metrics["mask_list"]["sha256"] == mask_list.sha256
    assert metrics["definitions"]["lmse"]["better"] == "lower"
    assert (metrics["pictures"], metrics["examples"]) == (5, 40)
    with (tmp_path / PER_IMAGE_FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40 * 2
    for row in rows:
        picture, position = divmod(int(row["mask_index"]), 8)
        assert row["picture"] == mask_list.names[picture]
        assert row["bin"] == mask_list.bins[position]
        assert row["mask_sha256"] == mask_list.hashes[picture][position]
        assert float(row["ratio"]) == pytest.approx(mask_list.ratios[picture, position], abs=1e-6)
    for method in methods:
        for name in mask_list.bins:
            for metric in ("psnr", "ssim", "ncc", "lmse"):
                own = [r for r in rows if r["method"] == method and r["bin"] == name]
                mean = np.mean([float(r[metric]) for r in own])
                cell = metrics["methods"][method]["composite"][name][metric]
                assert cell["mean"] == pytest.approx(mean, rel=1e-6)
    examples = read_examples(tmp_path / EXAMPLES_FILE)
    assert examples.pictures == result.examples.pictures
    np.testing.assert_array_equal(examples.composite, result.examples.composite)
    np.testing.assert_array_equal(examples.raw, result.examples.raw)


def test_max_images_evaluates_the_first_pictures(pictures, mask_list):
    assert evaluated_names(pictures, 2) == ["000000", "000001"]
    assert len(evaluated_names(pictures, 99)) == 5
    few = score({"m": constant(0.0)}, pictures, mask_list.first(2), max_images=2).metrics
    assert (few["pictures"], few["examples"]) == (2, 16)


def test_no_examples_are_kept_on_request(pictures, mask_list):
    examples = score({"m": constant(0.0)}, pictures, mask_list, panel_rows=0).examples
    assert examples.pictures == ()
    assert examples.composite.shape == (1, 0, SIZE, SIZE, 3)


def test_what_evaluate_refuses(pictures, mask_list):
    with pytest.raises(UserError, match=r"number 3 is nothing in the list and 000002 among"):
        score({"m": constant(0.0)}, pictures, mask_list.first(2))
    with pytest.raises(UserError, match="masks have 32 px, the evaluated pictures 64 px"):
        score({"m": constant(0.0)}, pictures, mask_list, image_size=64)
    with pytest.raises(UserError, match="'broken': its output holds values that are not finite"):
        score({"broken": constant(np.nan)}, pictures, mask_list)
    with pytest.raises(ValueError, match="expected"):
        score({"m": lambda image, mask, index: image[:, :-1]}, pictures, mask_list)
    with pytest.raises(ValueError, match="at least one method"):
        score({}, pictures, mask_list)


def test_spread_differs_in_bins_and_pictures():
    chosen = spread(60, 8, 8)
    assert sorted(example % 8 for example in chosen) == list(range(8))
    assert len({example // 8 for example in chosen}) == 8
    assert len({example % 8 for example in spread(60, 8, 4)}) == 4
    assert spread(3, 1, 8) == [0, 1, 2]  # of few pictures, all
    assert spread(2, 2, 8) == [0, 2, 1, 3]
    assert len(spread(1, 8, 20)) <= 8
    assert spread(5, 8, 0) == []


def test_broken_examples_name_the_file(tmp_path):
    path = tmp_path / "examples.npz"
    path.write_bytes(b"not an archive")
    with pytest.raises(UserError, match=r"examples\.npz"):
        read_examples(path)


# --- tables -------------------------------------------------------------------------------------


def test_the_text_table_marks_the_best(pictures, mask_list):
    methods = {"black": constant(-1.0), "grey": constant(0.0)}
    metrics = score(methods, pictures, mask_list).metrics
    lines = to_text(full_table("x", metrics)).splitlines()
    cells = metrics["methods"]["grey"]["composite"][mask_list.bins[0]]
    psnr = next(line for line in lines[1:] if line.startswith("grey"))
    assert f"{cells['psnr']['mean']:.2f}*" in psnr
    assert psnr.count("*") == 8
    lmse = lines[[line.startswith("LMSE") for line in lines].index(True) + 2]
    assert f"{cells['lmse']['mean']:.4f}" in lmse
    assert all(len(line) <= 120 for line in lines[1:-1])  # without caption and notes


@pytest.mark.parametrize(
    ("metric", "scores", "expected"),
    [
        ("psnr", [20.0, 21.0, None], {1}),
        ("lmse", [0.02, 0.01], {1}),
        ("psnr", [20.001, 20.002], {0, 1}),  # equal as printed
        ("psnr", [20.0], set()),
        ("ncc", [None, None], set()),
    ],
)
def test_the_best_knows_directions_ties_and_gaps(metric, scores, expected):
    metrics = make_metrics([str(row) for row in range(len(scores))], bins=["20-30%"])
    for row, score in enumerate(scores):
        metrics["methods"][str(row)]["composite"]["20-30%"][metric]["mean"] = score
    found = full_table("x", metrics).scores.query("measure == @metric and best")
    assert set(found["method"].astype(int)) == expected
