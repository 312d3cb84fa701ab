"""Several samples of a hole, methods that fill some bins only, and evaluations that are stopped."""

import csv
import itertools
import json
import tempfile

import numpy as np
import pytest
from PIL import Image

from gmsrm_jax.data.masks.bins import BIN_NAMES
from gmsrm_jax.data.masks.list_file import build_mask_list
from gmsrm_jax.data.sources import open_pictures
from gmsrm_jax.evaluation.batches import EvaluationSet, image_kinds, pictures_sha256
from gmsrm_jax.evaluation.evaluate import (
    EXAMPLES_FILE,
    METRICS_FILE,
    PARTS_FOLDER,
    PER_IMAGE_FILE,
    evaluate,
)
from gmsrm_jax.evaluation.measures import Judge
from gmsrm_jax.evaluation.scores import SAMPLES
from gmsrm_jax.evaluation.worker import Rows
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.shares import Join, Share

SIZE, COUNT = 32, 6
TOTAL = COUNT * len(BIN_NAMES)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    random = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("pictures") / "test.npy"
    np.save(path, random.integers(0, 256, (COUNT, SIZE, SIZE, 3), np.uint8))
    return open_pictures(str(path))


@pytest.fixture(scope="module")
def mask_list(pictures):
    random = np.random.default_rng(2)
    shape = (len(BIN_NAMES), SIZE, SIZE, 1)
    rows = [list(random.integers(0, 2, shape, np.uint8)) for _ in range(COUNT)]
    names = [pictures.name(index) for index in range(COUNT)]
    return build_mask_list(names, SIZE, 0, "noise", iter(rows))


def score(methods, pictures, mask_list, **options):
    """Evaluates with small batches; options are those of the set, of the rows, or of `evaluate`."""
    place = {"image_size": SIZE, "shorter_side": 1.0, "test_resize": "direct"}
    place |= {name: options.pop(name) for name in ("image_size", "max_images") if name in options}
    rows = {name: options.pop(name) for name in ("samples", "covered") if name in options}
    test_set = EvaluationSet(pictures, mask_list, **place)
    with tempfile.TemporaryDirectory() as folder:
        options = {"batch_size": 2, "panel_rows": 3, "output_dir": folder, **options}
        return evaluate(Rows(methods, **rows), test_set, **options)


def drawn(image, mask, index):
    """Noise that is a function of the example, and of the sample, alone."""
    rows = [np.random.default_rng(int(i)).uniform(-1, 1, (SIZE, SIZE, 3)) for i in index]
    return np.stack(rows).astype(np.float32)


def mean_colour(image, mask, index):
    return np.zeros(image.shape, np.float32)


def test_samples_give_mean_best_and_diversity(pictures, mask_list):
    methods = {"drawn": drawn, "flat": mean_colour}
    metrics = score(methods, pictures, mask_list, samples={"drawn": 3, "flat": 1}).metrics
    assert metrics["sample_counts"] == {"drawn": 3}
    assert set(metrics["samples"]) == {"drawn"}
    assert set(metrics["sample_kinds"]) == set(SAMPLES)

    place = BIN_NAMES.index("20-30%")
    values, best, apart, firsts = [], [], [], []
    for picture in range(COUNT):
        example = picture * len(BIN_NAMES) + place
        truth, mask = pictures.image(picture), mask_list.mask(example)
        filled = [
            image_kinds(truth, mask, drawn(truth[None], mask[None], [example + s * TOTAL])[0])[0]
            for s in range(3)
        ]
        errors = [np.square(x.astype(float) - truth).mean((0, 1)) for x in filled]
        psnr = [np.mean(10 * np.log10(255**2 / error)) for error in errors]
        values.append(np.mean(psnr))
        best.append(np.max(psnr))
        firsts.append(psnr[0])
        hole = mask[..., 0] == 1
        apart.append(
            np.mean(
                [
                    np.abs(a.astype(float) - b)[hole].mean()
                    for a, b in itertools.combinations(filled, 2)
                ]
            )
        )
    cells = {kind: metrics["samples"]["drawn"][kind]["20-30%"] for kind in SAMPLES}
    assert cells["samples_mean"]["psnr"]["mean"] == pytest.approx(np.mean(values), abs=1e-4)
    assert cells["samples_best"]["psnr"]["mean"] == pytest.approx(np.mean(best), abs=1e-4)
    assert cells["samples_diversity"]["l1"]["mean"] == pytest.approx(np.mean(apart), abs=1e-4)
    lmse = [cells[kind]["lmse"]["mean"] for kind in ("samples_best", "samples_mean")]
    assert lmse[0] < lmse[1]  # lower is better
    first = metrics["methods"]["drawn"]["composite"]["20-30%"]["psnr"]["mean"]
    assert first == pytest.approx(np.mean(firsts), abs=1e-4)


def test_bins_that_a_method_left_out_are_not_scored(pictures, mask_list, tmp_path):
    covered = np.ones((COUNT, len(BIN_NAMES)), bool)
    covered[:, 2] = False
    options = {"covered": {"part": covered.reshape(-1)}, "output_dir": tmp_path}
    metrics = score({"flat": mean_colour, "part": mean_colour}, pictures, mask_list, **options)
    part, flat = (metrics.metrics["methods"][name]["composite"] for name in ("part", "flat"))
    assert part["20-30%"]["psnr"] == {"mean": None, "count": 0, "undefined": 0}
    assert part["10-20%"] == flat["10-20%"]
    with open(tmp_path / PER_IMAGE_FILE, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * TOTAL - COUNT
    assert not any(row["method"] == "part" and row["bin"] == "20-30%" for row in rows)


class Stopped(Exception):
    pass


def test_a_stopped_evaluation_goes_on_and_ends_the_same(pictures, mask_list, tmp_path):
    seen = []

    def watched(image, mask, index):
        seen.extend(index.tolist())
        return drawn(image, mask, index)

    def stop(done, total):
        if done >= 40:
            raise Stopped

    options = {"output_dir": tmp_path / "a", "samples": {"drawn": 2}, "facts": {"x": 1}}
    with pytest.raises(Stopped):
        score({"drawn": watched}, pictures, mask_list, progress=stop, **options)
    assert not (tmp_path / "a" / METRICS_FILE).exists()
    first = set(seen)
    seen.clear()
    result = score({"drawn": watched}, pictures, mask_list, **options)
    assert 0 < len(seen) < 2 * TOTAL
    assert min(seen) == 32  # the finished part is not filled again
    assert {e for e in first | set(seen) if e < TOTAL} == set(range(TOTAL))
    assert not (tmp_path / "a" / PARTS_FOLDER).exists()

    whole = score(
        {"drawn": drawn}, pictures, mask_list, **(options | {"output_dir": tmp_path / "whole"})
    )
    for metrics in (result.metrics, whole.metrics):
        assert metrics.pop("run")["seconds"] > 0
    assert result.metrics == whole.metrics
    np.testing.assert_array_equal(result.examples.composite, whole.examples.composite)
    kept = json.loads((tmp_path / "a" / METRICS_FILE).read_text())
    assert kept["run"]["device"]


def test_what_another_evaluation_left_is_not_used(pictures, mask_list, tmp_path):
    def stop(done, total):
        if done >= 40:
            raise Stopped

    options = {"output_dir": tmp_path}
    with pytest.raises(Stopped):
        score({"m": drawn}, pictures, mask_list, progress=stop, facts={"step": 1}, **options)
    result = score({"m": mean_colour}, pictures, mask_list, facts={"step": 2}, **options)
    alone = score({"m": mean_colour}, pictures, mask_list)
    assert result.metrics["methods"] == alone.metrics["methods"]


def test_parts_of_other_covered_examples_are_not_used(pictures, mask_list, tmp_path):
    def stop(done, total):
        if done >= 40:
            raise Stopped

    covered = np.ones(TOTAL, bool)
    covered[2 :: len(BIN_NAMES)] = False

    def part(image, mask, index):
        return np.where(covered[index][:, None, None, None], drawn(image, mask, index), 0)

    methods, options = {"part": part}, {"output_dir": tmp_path}
    with pytest.raises(Stopped):
        score(methods, pictures, mask_list, progress=stop, covered={"part": covered}, **options)
    covered = np.ones(TOTAL, bool)  # the missing pictures were added since
    result = score(methods, pictures, mask_list, covered={"part": covered}, **options)
    alone = score({"part": drawn}, pictures, mask_list)
    assert result.metrics["methods"] == alone.metrics["methods"]


class ColourJudge(Judge):
    """Compares sets by their mean colours, and counts the pictures that it looks at."""

    compares_sets = True
    seen = 0

    def features(self, images):
        self.seen += len(images)
        return images.mean((1, 2), dtype=np.float64).astype(np.float32)

    def compare_sets(self, filled, real):
        return {"fid": float(np.abs(filled - real).mean()), "count": len(filled)}


def test_sets_are_compared_bin_by_bin(pictures, mask_list):
    judge = ColourJudge()
    covered = np.ones(TOTAL, bool)
    covered[3 :: len(BIN_NAMES)] = False
    methods = {"m": drawn, "part": mean_colour}
    options = {"judge": judge, "covered": {"part": covered}, "batch_size": 5}
    metrics = score(methods, pictures, mask_list, **options).metrics
    assert judge.seen == COUNT + 2 * TOTAL  # a truth once, whatever the number of its masks
    assert list(metrics["distribution"]["part"]) == [*BIN_NAMES[:3], *BIN_NAMES[4:]]
    for place, name in enumerate(BIN_NAMES):
        apart = []
        for picture in range(COUNT):
            example = picture * len(BIN_NAMES) + place
            truth, mask = pictures.image(picture), mask_list.mask(example)
            filled = image_kinds(truth, mask, drawn(truth[None], mask[None], [example])[0])[0]
            apart.append(np.abs(filled.astype(float).mean((0, 1)) - truth.mean((0, 1))))
        found = metrics["distribution"]["m"][name]
        assert found["count"] == COUNT
        assert found["fid"] == pytest.approx(np.mean(apart), abs=1e-3)


def test_one_picture_is_no_set(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros((1, SIZE, SIZE, 3), np.uint8))
    one = open_pictures(str(tmp_path / "one.npy"))
    row = [np.ones((SIZE, SIZE, 1), np.uint8)] * len(BIN_NAMES)
    masks = build_mask_list([one.name(0)], SIZE, 0, "all", iter([row]))
    judge = ColourJudge()
    with pytest.raises(UserError, match="at least 2 pictures"):
        score({"m": drawn}, one, masks, judge=judge)
    assert judge.seen == 0


def test_a_damaged_part_is_done_again(pictures, mask_list, tmp_path):
    def stop(done, total):
        if done >= 40:
            raise Stopped

    with pytest.raises(Stopped):
        score({"m": drawn}, pictures, mask_list, progress=stop, output_dir=tmp_path)
    part = sorted((tmp_path / PARTS_FOLDER).rglob("*.npz"))[-1]
    part.write_bytes(part.read_bytes()[:-100])
    result = score({"m": drawn}, pictures, mask_list, output_dir=tmp_path)
    assert result.metrics["methods"] == score({"m": drawn}, pictures, mask_list).metrics["methods"]


def test_shares_joined_are_one_evaluation(pictures, mask_list, tmp_path):
    seen = []

    def watched(image, mask, index):
        seen.extend(index.tolist())
        return drawn(image, mask, index)

    def run(name, **options):
        return score(
            {"drawn": watched, "flat": mean_colour},
            pictures,
            mask_list,
            **{"samples": {"drawn": 2}, "output_dir": tmp_path / name, **options},
        )

    whole = run("whole")
    filled = sorted(seen)
    seen.clear()
    run("shares", share=Share(2, 4))
    with pytest.raises(UserError, match="share 0/4 lacks 2 of its 2 parts; share 1/4 lacks 2 of"):
        run("shares", share=Join(4))
    for index in (0, 1, 3):
        run("shares", share=Share(index, 4))
    assert sorted(seen) == filled  # none is filled twice, none left out
    with pytest.raises(UserError, match="share 3/4 lacks 1 of its 1 part;"):
        run("shares", share=Join(4), facts={"step": 2})  # of another checkpoint
    joined = run("shares", share=Join(4))
    assert sorted(seen) == filled
    for metrics in (whole.metrics, joined.metrics):
        assert metrics["run"].pop("seconds") > 0
        assert metrics["run"].pop("examples_per_second") > 0
    assert joined.metrics == whole.metrics
    for name in (PER_IMAGE_FILE, EXAMPLES_FILE):
        first, second = ((tmp_path / f / name).read_bytes() for f in ("whole", "shares"))
        assert first == second
    assert not (tmp_path / "shares" / PARTS_FOLDER).exists()

    # A part that cannot be read is one that is missing.
    for index in range(2):
        run("damaged", share=Share(index, 2))
    part = sorted((tmp_path / "damaged" / PARTS_FOLDER).rglob("*.npz"))[1]
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(UserError, match="share 1/2 lacks 1 of its 3 parts"):
        run("damaged", share=Join(2))


def test_wanted_examples_are_kept_after_the_spread_ones(pictures, mask_list):
    result = score({"m": drawn}, pictures, mask_list, kept=(41, 2, 41, 0))
    examples = result.examples
    assert len(examples.pictures) == 5
    assert examples.pictures[3:] == (pictures.name(5), pictures.name(0))
    assert examples.bins[3:] == (BIN_NAMES[1], BIN_NAMES[2])
    picture = Image.fromarray(pictures.image(5)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(examples.truth[3], np.asarray(picture))


def test_the_hash_of_test_pictures_is_that_of_their_pixels(tmp_path):
    values = np.random.default_rng(3).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    np.save(tmp_path / "set.npy", values)
    before = pictures_sha256(open_pictures(str(tmp_path / "set.npy")), 2)
    values[1, 0, 0, 0] ^= 1
    np.save(tmp_path / "set.npy", values)
    changed = open_pictures(str(tmp_path / "set.npy"))
    assert pictures_sha256(changed, 2) != before
    for name, image in zip("ab", values, strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    (tmp_path / "set.npy").unlink()
    assert pictures_sha256(open_pictures(str(tmp_path)), 2) == pictures_sha256(changed, 2)


def test_definitions_stand_beside_every_measure(pictures, mask_list):
    metrics = score({"m": drawn}, pictures, mask_list).metrics
    scored = metrics["methods"]["m"]["composite"]["0-10%"]
    assert list(scored) == list(metrics["definitions"]) == list(Judge().definitions)
    assert {"psnr", "ssim", "ncc", "lmse", "l1", "ssim_gaussian", "psnr_hole"} <= set(scored)
    assert list(metrics["methods"]["m"]["raw"]["0-10%"]) == ["psnr", "ssim", "ncc", "lmse"]


def test_pictures_filled_for_other_masks_are_refused(pictures, mask_list):
    def truth(image, mask, index):
        shown = [pictures.image(int(i) // len(BIN_NAMES)) for i in index]
        return np.stack(shown).astype(np.float32) / 127.5 - 1.0

    covered = {"theirs": np.ones(TOTAL, bool)}
    with pytest.raises(UserError, match=r"theirs: 100% .*other masks.*--seed"):
        score({"theirs": truth}, pictures, mask_list, covered=covered)
    score({"theirs": mean_colour}, pictures, mask_list, covered=covered)
