"""The VGG distance in the hole against loops in float64, and where an evaluation states it."""

import csv
import json

import numpy as np
import pytest
from table_readers import plain, read_html, read_latex, read_markdown
from vgg_references import pictures, reference_vgg_hole

from gmsrm_jax.config.fields import base_config
from gmsrm_jax.data.masks.bins import BIN_NAMES
from gmsrm_jax.data.masks.list_file import build_mask_list
from gmsrm_jax.data.sources import open_pictures
from gmsrm_jax.evaluation.batches import EvaluationSet, image_kinds
from gmsrm_jax.evaluation.evaluate import METRICS_FILE, PER_IMAGE_FILE, evaluate
from gmsrm_jax.evaluation.rows import open_judge
from gmsrm_jax.evaluation.worker import Rows
from gmsrm_jax.methods.classical import CLASSICAL, telea
from gmsrm_jax.metrics.perceptual import DEFINITIONS, VGG_HOLE, VGG_HOLE_LAYER, vgg_hole
from gmsrm_jax.nn.vgg import load_vgg19
from gmsrm_jax.report.paper_report import write_outputs

SIZE = 32


@pytest.fixture(scope="module")
def weights():
    return load_vgg19("bundled", (VGG_HOLE_LAYER,))


@pytest.fixture(scope="module")
def filled():
    """(prediction, target, mask): two facades, holes that cover few cells wholly, filled wrong."""
    target = pictures(2, SIZE)
    mask = np.zeros((2, SIZE, SIZE, 1), np.uint8)
    mask[0, 5:23, 9:30] = 1
    mask[1] = np.random.default_rng(0).random((SIZE, SIZE, 1)) < np.linspace(0, 1, SIZE)[:, None]
    noise = np.random.default_rng(1).integers(0, 256, target.shape, np.uint8)
    return np.where(mask == 1, noise, target), target, mask


def test_is_the_weighted_mean_of_a_float64_loop(weights, filled):
    found = vgg_hole(weights, *filled)
    expected = [reference_vgg_hole(weights.params, *row) for row in zip(*filled, strict=True)]
    assert found.dtype == np.float32 and found.shape == (2,)
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    # The weighting matters: a plain mean over the picture is another number.
    everywhere = np.ones_like(filled[2])
    assert (np.abs(vgg_hole(weights, *filled[:2], everywhere) - found) > 0.1 * found).all()


def test_pixels_beside_the_last_whole_cell_do_not_count(weights, filled):
    odd = [x[1, :30, :27] for x in filled]
    assert odd[2][28:].any() and odd[2][:, 24:].any()
    expected = reference_vgg_hole(weights.params, odd[0], odd[1], odd[2][:28, :24])
    assert vgg_hole(weights, *odd) == pytest.approx(expected, rel=2e-6)


def test_pictures_are_measured_one_by_one_whatever_their_shape_and_type(weights, filled):
    whole = vgg_hole(weights, *filled)
    grid = vgg_hole(weights, *(x[:, None].astype(np.float32) for x in filled))
    single = vgg_hole(weights, *(x[1] for x in filled))
    assert grid.shape == (2, 1) and single.shape == ()
    np.testing.assert_allclose(grid[:, 0], whole, rtol=1e-6)
    np.testing.assert_allclose(single, whole[1], rtol=1e-6)
    swapped = vgg_hole(weights, filled[1], filled[0], filled[2])
    np.testing.assert_allclose(swapped, whole, rtol=1e-6)


def test_equal_pictures_are_at_0_and_no_hole_is_undefined(weights, filled):
    prediction, target, mask = filled
    np.testing.assert_array_equal(vgg_hole(weights, target, target, mask), 0.0)
    one = mask * np.array([0, 1], np.uint8)[:, None, None, None]
    assert np.isnan(vgg_hole(weights, prediction, target, one)).tolist() == [True, False]


def test_known_pixels_count_as_far_as_a_position_of_the_hole_sees(weights):
    """relu3_1 sees 24 pixels, 10 beyond its cell on each side: 2 + 2 · 2 + 1 · 4."""
    target = pictures(1, SIZE)[0]
    mask = np.zeros((SIZE, SIZE, 1), np.uint8)
    mask[13, 14] = 1  # in the cell of rows and columns 12 to 15
    for row, seen in ((25, True), (26, False)):
        changed = target.copy()
        changed[row:] ^= 128
        assert (float(vgg_hole(weights, changed, target, mask)) > 0) == seen


def test_arrays_that_do_not_fit_are_refused(weights, filled):
    prediction, target, mask = filled
    with pytest.raises(ValueError, match="differ in shape"):
        vgg_hole(weights, prediction, target[:1], mask)
    with pytest.raises(ValueError, match="mask"):
        vgg_hole(weights, prediction, target, mask[:, :16])
    with pytest.raises(ValueError, match="at least 4"):
        vgg_hole(weights, prediction[:, :3], target[:, :3], mask[:, :3])


def test_accelerators_multiply_in_full_precision(weights, filled):
    program = vgg_hole.lower(weights, *filled).as_text()
    convolutions = [line for line in program.splitlines() if "stablehlo.convolution" in line]
    assert len(convolutions) == 5
    assert all(line.count("precision HIGHEST") == 2 for line in convolutions)


# --- in an evaluation -----------------------------------------------------------------------------


def drawn(image, mask, index):
    """Noise that is a function of the example, and of the sample, alone."""
    rows = [np.random.default_rng(int(i)).uniform(-1, 1, (SIZE, SIZE, 3)) for i in index]
    return np.stack(rows).astype(np.float32)


METHODS = {
    "GM-SRM": drawn,
    CLASSICAL["telea"].title: lambda image, mask, index: telea(image, mask),
}


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """(folder, metrics, facts of the weights, pictures, masks); one of the holes is empty."""
    folder = tmp_path_factory.mktemp("evaluation")
    np.save(folder / "test.npy", pictures(2, SIZE))
    found = open_pictures(str(folder / "test.npy"))
    random = np.random.default_rng(2)
    rows = []
    for _ in range(2):
        masks = np.zeros((len(BIN_NAMES), SIZE, SIZE, 1), np.uint8)
        for mask in masks:
            top, left = random.integers(2, 12, 2)
            mask[top : top + 14, left : left + 17] = 1
        rows.append(list(masks))
    rows[1][0][:] = 0
    mask_list = build_mask_list([found.name(i) for i in range(2)], SIZE, 0, "boxes", iter(rows))
    config = base_config()
    config.evaluation.perceptual = (VGG_HOLE,)
    config.evaluation.weights = str(folder / "absent")  # it needs no file
    judge, hashes, lacking = open_judge(config)
    assert list(hashes) == [VGG_HOLE] and lacking == {}
    result = evaluate(
        Rows(METHODS, {"GM-SRM": 2}),
        EvaluationSet(found, mask_list, SIZE, 1.0, "direct"),
        batch_size=3,
        output_dir=folder,
        judge=judge,
    )
    write_outputs(folder, result.metrics, result.examples, None)
    metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    return folder, metrics, found, mask_list


def test_an_evaluation_states_the_distance_of_its_composites(evaluation, weights):
    folder, metrics, found, mask_list = evaluation
    assert metrics["definitions"][VGG_HOLE] == DEFINITIONS[VGG_HOLE]._asdict()
    assert metrics["definitions"][VGG_HOLE]["better"] == "lower"
    with open(folder / PER_IMAGE_FILE, encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    for method, fill in METHODS.items():
        expected = np.full((2, len(BIN_NAMES)), np.nan)
        for example in range(2 * len(BIN_NAMES)):
            picture, place = divmod(example, len(BIN_NAMES))
            truth, mask = found.image(picture), mask_list.mask(example)
            holed = ((truth / np.float32(127.5) - 1) * (1 - mask)).astype(np.float32)
            raw = fill(holed[None], mask[None].astype(np.float32), np.array([example]))[0]
            if mask.any():
                rounded = image_kinds(truth, mask, raw)[0]
                expected[picture, place] = reference_vgg_hole(weights.params, rounded, truth, mask)
        cells = [line[VGG_HOLE] for line in lines if line["method"] == method]
        written = np.array([float(cell or "nan") for cell in cells]).reshape(expected.shape)
        np.testing.assert_allclose(written, expected, rtol=1e-5)
        means = [
            metrics["methods"][method]["composite"][name][VGG_HOLE]["mean"] for name in BIN_NAMES
        ]
        np.testing.assert_allclose(means, np.nanmean(expected, 0), rtol=1e-5)
        first = metrics["methods"][method]["composite"][BIN_NAMES[0]][VGG_HOLE]
        assert (first["count"], first["undefined"]) == (1, 1)
    assert VGG_HOLE not in metrics["methods"]["GM-SRM"]["raw"][BIN_NAMES[0]]


@pytest.mark.parametrize("name", ["table_1", "table_2", "table_all"])
def test_the_tables_hold_it_in_every_form(evaluation, name):
    folder, metrics, _, _ = evaluation
    bins = {"table_1": BIN_NAMES[2:6], "table_2": BIN_NAMES[6:]}.get(name, BIN_NAMES)
    markdown = read_markdown((folder / f"{name}.md").read_text(encoding="utf-8"))[1]
    latex = read_latex((folder / f"{name}.tex").read_text(encoding="utf-8"))[1]
    html = read_html((folder / f"{name}.html").read_text(encoding="utf-8"))[1]
    html = [[cell["text"] for cell in row] for row in html]
    for method in METHODS:
        means = [metrics["methods"][method]["composite"][b][VGG_HOLE]["mean"] for b in bins]
        shown = [f"{mean:.4f}" for mean in means]
        for form in (markdown, latex, html):
            assert any([plain(cell)[0] for cell in row[-len(shown) :]] == shown for row in form)
    text = (folder / f"{name}.md").read_text(encoding="utf-8")
    assert "VGG distance in the hole ↓" in text
    assert ("VGG distance in the hole of GM-SRM: 1 of" in text) == (name == "table_all")


def test_samples_have_a_mean_a_best_and_a_distance_between_them(evaluation, weights):
    folder, metrics, found, mask_list = evaluation
    place = 3
    scores, apart = [], []
    for picture in range(2):
        example = picture * len(BIN_NAMES) + place
        truth, mask = found.image(picture), mask_list.mask(example)
        index = [example, example + 2 * len(BIN_NAMES)]
        pair = [image_kinds(truth, mask, raw)[0] for raw in drawn(None, None, index)]
        scores.append([reference_vgg_hole(weights.params, x, truth, mask) for x in pair])
        apart.append(reference_vgg_hole(weights.params, *pair, mask))
    expected = {
        "samples_mean": np.mean(scores),
        "samples_best": np.min(scores, 1).mean(),
        "samples_diversity": np.mean(apart),
    }
    parts = metrics["samples"]["GM-SRM"]
    for kind, value in expected.items():
        mean = parts[kind][BIN_NAMES[place]][VGG_HOLE]["mean"]
        assert mean == pytest.approx(value, rel=1e-5)
    table = (folder / "table_samples.md").read_text(encoding="utf-8")
    assert "VGG distance in the hole between samples" in table
