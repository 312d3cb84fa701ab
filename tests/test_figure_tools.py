"""The tools behind a model card: make_teaser, memory_figure, validation_figure, distance_scale."""

import importlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exported_networks import exported, tiny_config, tiny_network, tiny_variables
from ml_collections import ConfigDict
from PIL import Image
from scipy import ndimage
from small_stages import abstract_memory, small_config, snapshot
from vgg_references import pictures as facades
from vgg_references import reference_vgg_hole

from gmsrm_jax.assets import asset_path
from gmsrm_jax.checkpoints.store import Checkpoints, checkpoint_folder
from gmsrm_jax.config.of_run import remember_config
from gmsrm_jax.data.decoding import resize_for_test
from gmsrm_jax.data.masks.bins import BIN_NAMES, center_mask
from gmsrm_jax.data.masks.files import write_mask_bank
from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.methods.base import TrainState
from gmsrm_jax.methods.gm_srm.method import NETWORK
from gmsrm_jax.methods.gm_srm.network import is_frozen
from gmsrm_jax.methods.variables import parted
from gmsrm_jax.nn.vgg import load_vgg19
from gmsrm_jax.report.charts import Line
from gmsrm_jax.runtime.image_grid import to_png
from gmsrm_jax.runtime.log import RunLog

TOOLS = pathlib.Path(__file__).parent.parent / "tools"
SIZE, CELL, GAP = 32, 96, 4
FIRST, SECOND = "facade_0004.jpg", "facade_0007.jpg"
BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)

Tool = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """Calls a tool: exit status, standard output, standard error."""
    monkeypatch.syspath_prepend(str(TOOLS))

    def call(name: str, *arguments: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        status = importlib.import_module(name).main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return call


def pixels(path: pathlib.Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


def cell(sheet: np.ndarray, row: int, column: int, gap: int = GAP) -> np.ndarray:
    """A picture of a sheet at 32 px, each of its pixels having been enlarged to 3 x 3."""
    top, left = row * (CELL + gap), column * (CELL + gap)
    part = sheet[top : top + CELL, left : left + CELL]
    small = part[::3, ::3]
    np.testing.assert_array_equal(part, small.repeat(3, 0).repeat(3, 1))
    return small


def only_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


# --- the teaser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return exported(tmp_path_factory.mktemp("weights") / "tiny")


def bundled(name: str) -> np.ndarray:
    with Image.open(asset_path(f"facades/test/{name}")) as picture:
        return np.asarray(picture.convert("RGB"))


def test_teaser_shows_hole_mask_fillings_of_the_seeds_and_truth(tool, network, tmp_path):
    output = tmp_path / "new" / "teaser.png"
    rows = [(SECOND, "centre 50%", 0.5), (FIRST, "centre 25%", 0.25)]
    options = ["--checkpoint", network, "--samples", 2, "--seed", 5, "--output", output]
    names = ["--pictures", SECOND, FIRST, "--ratios", "centre 50%", "centre 25%"]

    status, said, _ = tool("make_teaser", *options, *names)

    sheet, inpainter = pixels(output), Inpainter(tiny_network())
    assert sheet.shape[1] == 5 * CELL + 4 * GAP
    for row, (name, _, ratio) in enumerate(rows):
        truth = resize_for_test(bundled(name), SIZE, 1.25, "shorter_side")
        hole = center_mask(SIZE, ratio)[..., 0] > 0
        held, mask, *filled, last = (cell(sheet, row, column) for column in range(5))
        np.testing.assert_array_equal(last, truth)
        np.testing.assert_array_equal(held, np.where(hole[..., None], 127, truth))
        np.testing.assert_array_equal(mask, np.where(hole[..., None], 255, 0) + np.zeros(3))
        expected = inpainter(truth, hole, num_samples=2, seed=5).images
        np.testing.assert_array_equal(filled, expected)
        assert (filled[0] != filled[1])[hole].any()
    headings = sheet[2 * (CELL + GAP) :]
    assert all((headings[:, k * 100 : k * 100 + CELL] < 128).any() for k in range(5))
    assert status == 0
    for part in (str(output), *(f"{name} ({ratio})" for name, ratio, _ in rows)):
        assert part in only_line(said)
    assert f"sha256 {inpainter.sha256[:12]}" in said
    assert sorted(path.name for path in output.parent.iterdir()) == ["teaser.png"]


def test_teaser_draws_pictures_and_masks_by_the_seed(tool, network, tmp_path):
    def made(seed: int, name: str) -> pathlib.Path:
        options = ["--checkpoint", network, "--samples", 2, "--seed", seed]
        assert tool("make_teaser", *options, "--output", tmp_path / name)[0] == 0
        return tmp_path / name

    first, again, other = made(0, "a.png"), made(0, "b.png"), made(1, "c.png")

    assert first.read_bytes() == again.read_bytes()
    sheets = pixels(first), pixels(other)
    for row, (low, high) in enumerate([(0.2, 0.3), (0.4, 0.5), (0.24, 0.26)]):
        masks = [cell(sheet, row, 1) > 0 for sheet in sheets]
        assert all(low < mask.mean() <= high for mask in masks)
        assert (masks[0] == masks[1]).all() == (row == 2)
    assert any((cell(sheets[0], k, 3) != cell(sheets[1], k, 3)).any() for k in range(3))


def bars(*heights: int) -> np.ndarray:
    """Masks whose first rows are the hole."""
    masks = np.zeros((len(heights), SIZE, SIZE, 1), np.uint8)
    for mask, height in zip(masks, heights, strict=True):
        mask[:height] = 1
    return masks


def test_teaser_deals_the_masks_of_a_bin(tool, network, tmp_path):
    masks = bars(4, 8, 9, 20)  # 12.5, 25, 28 and 62.5 %
    folder = tmp_path / "masks"
    folder.mkdir()
    for number, mask in enumerate(masks):
        large = mask.repeat(2, 0).repeat(2, 1)
        (folder / f"{number}.png").write_bytes(to_png(large * np.uint8(255)))
    write_mask_bank(tmp_path / "bank.npz", masks)
    ratios = ["20-30%", "centre 25%", "20-30%", "10-20%", "20-30%"]
    options = ["--checkpoint", network, "--samples", 2, "--ratios", *ratios]

    def heights(masks: pathlib.Path) -> list[int]:
        output = tmp_path / "teaser.png"
        assert tool("make_teaser", *options, "--masks", masks, "--output", output)[0] == 0
        return [int((cell(pixels(output), row, 1)[:, 0, 0] > 0).sum()) for row in range(5)]

    found = heights(folder)

    assert sorted([found[0], found[2]]) == [8, 9]
    assert (found[1], found[3], found[4]) == (0, 4, found[0])
    assert heights(tmp_path / "bank.npz") == found


def test_teaser_of_a_workdir_has_the_test_rule_of_its_config(tool, tmp_path):
    config = tiny_config()
    config.data.test_resize = "direct"
    parts = parted(tiny_variables()[NETWORK]["params"], lambda p: is_frozen(p, False))
    trained, frozen = ({NETWORK: {"params": part}} for part in parts)
    save(tmp_path / "run", "inpainting", average=trained, kept=frozen)
    remember_config(config, tmp_path / "run", "fingerprint")
    output = tmp_path / "teaser.png"
    options = ["--samples", 2, "--pictures", FIRST, "--ratios", "centre 25%", "--output", output]

    status, *_ = tool("make_teaser", "--checkpoint", tmp_path / "run", *options)

    assert status == 0
    expected = resize_for_test(bundled(FIRST), SIZE, 1.25, "direct")
    np.testing.assert_array_equal(cell(pixels(output), 0, 4), expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ratios", "20-30"], "--ratios: '20-30' is none of 0-10%, 10-20%"),
        (["--pictures", FIRST], "--pictures names 1, --ratios 3"),
        (["--pictures", "a", "b", "c"], "--pictures: a is not among the 60 pictures of"),
        (["--ratios", *["centre 25%"] * 61], "61 rows, but"),
        (["--images", "none"], "none"),
        (["--samples", "0"], "--samples=0; use 1 or more"),
        (["--seed", "-1"], "--seed=-1; use 0 to 4294967295"),
        (["--size", "31"], "--size=31; use 32 or more pixels"),
        (["--checkpoint", "./none"], "none: there is no such folder"),
        (["--masks", "none"], "--masks: none does not exist"),
        (["--masks", "bank.npz"], "--masks: those of bank.npz have 32 px and the pictures 64 px"),
        (["--masks", "bank.npz", "--size", "32"], "none of the 1 masks of bank.npz has a hole of"),
        (["--output", "teaser.jpg"], "--output=teaser.jpg: its name must end in .png"),
        (["--output", "file/a.png", "--size", "32"], "file/a.png: cannot be written"),
    ],
)
def test_teaser_refuses_in_one_line(tool, network, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    write_mask_bank("bank.npz", bars(1))
    pathlib.Path("file").touch()
    defaults = ["--checkpoint", network, "--size", 64, "--samples", 1]

    status, said, error = tool("make_teaser", *defaults, *options)

    assert (status, said) == (2, "")
    assert only_line(error).startswith("make_teaser: error: ")
    assert words in error
    assert not list(tmp_path.glob("*.png"))


# --- the memory ---------------------------------------------------------------------------------


def save(workdir: pathlib.Path, stage: str, **parts: Any) -> None:
    """Saves a checkpoint of step 7 that holds only some parts of the state."""
    empty: dict[str, Any] = {
        part: {} for part in ("variables", "average", "optimizer", "kept", "extra")
    }
    checkpoints = Checkpoints(checkpoint_folder(workdir, stage))
    checkpoints.save(TrainState(step=jnp.asarray(7, jnp.int32), **{**empty, **parts}))
    checkpoints.finish()


def memory_config(size: int = SIZE, **fields: Any) -> ConfigDict:
    return small_config(image_size=size, **{"memory__code_source": "mapping", **fields})


def log(workdir: pathlib.Path, distances: dict[int, float]) -> None:
    """Writes a log with a distance after so many pictures, and one line without after each."""
    (workdir / "memory").mkdir(parents=True, exist_ok=True)
    opened = RunLog(workdir / "memory", 0, tensorboard=False)
    for seen, distance in distances.items():
        opened.scalars(seen // 4, seen, {"validation/vgg_distance": distance})
        opened.scalars(seen // 4 + 1, seen + 4, {"loss/generator": 1.0})
    opened.close()


def made(
    workdir: pathlib.Path,
    config: ConfigDict,
    kept: dict[str, Any] | None = None,
    distances: dict[int, float] | None = None,
) -> pathlib.Path:
    """A workdir with a snapshot, its average far from it, and a log."""
    kept = kept or snapshot(config)
    average = jax.tree.map(lambda leaf: leaf + 1.0, kept["generator"])
    save(workdir, "memory", kept=kept, average={"generator": average})
    log(workdir, distances or {4000: 2.0, 8000: 0.5})
    remember_config(config, workdir, "fingerprint")
    return workdir


def of_one_colour(config: ConfigDict) -> dict[str, Any]:
    """A snapshot whose samples have 0.5 of [-1, 1] everywhere."""
    shapes = abstract_memory(config).kept["generator"]
    generator = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    generator["params"]["memory"]["rgb_32"]["bias"] = jnp.full((3,), 0.5)
    return {**snapshot(config), "generator": generator}


def test_samples_are_those_of_the_kept_snapshot(tool, tmp_path):
    config = memory_config()
    workdir = made(tmp_path / "run", config, of_one_colour(config))

    status, said, _ = tool("memory_figure", workdir, "--samples", 8, "--output", tmp_path / "out")

    sheet = pixels(tmp_path / "out" / "memory_samples.png")
    assert sheet.shape == (2 * CELL + 2, 6 * CELL + 5 * 2, 3)
    for number in range(8):
        assert (cell(sheet, number // 6, number % 6, gap=2) == 191).all()
    assert status == 0
    assert only_line(said) == (
        f"{tmp_path / 'out'}: memory_samples.png, 8 of the snapshot of step 7 (distance 1.000), "
        "and memory_distance.png; last distance: 32 px 0.500"
    )


def test_a_sample_depends_on_the_seed_and_its_number_alone(tool, tmp_path):
    workdir = made(tmp_path / "run", memory_config())

    def samples(count: int, seed: int) -> list[np.ndarray]:
        options = ["--samples", count, "--seed", seed, "--output", tmp_path]
        assert tool("memory_figure", workdir, *options)[0] == 0
        sheet = pixels(tmp_path / "memory_samples.png")
        return [cell(sheet, k // 6, k % 6, gap=2) for k in range(count)]

    few, many, others = samples(3, 0), samples(18, 0), samples(3, 1)

    np.testing.assert_array_equal(few, many[:3])
    assert len({sample.tobytes() for sample in [*many, *others]}) == 21


def test_memory_with_an_encoder_is_asked_with_the_pictures_kept_aside(tool, tmp_path):
    config = memory_config(memory__code_source="encoder", data__validation_bounds=(2, 2))
    kept = snapshot(config)
    for name, layer in kept["generator"]["params"]["memory"].items():
        if name.startswith(("up_", "conv_")):  # no noise, so that the pictures alone tell samples
            layer["noise_strength"] = jnp.zeros(())
    workdir = made(tmp_path / "run", config, kept)

    status, *_ = tool("memory_figure", workdir, "--samples", 4, "--output", tmp_path)

    sheet = pixels(tmp_path / "memory_samples.png")
    first, second, third, fourth = (cell(sheet, 0, k, gap=2) for k in range(4))
    assert status == 0
    np.testing.assert_array_equal(first, third)
    np.testing.assert_array_equal(second, fourth)
    assert (first != second).any()


def where(chart: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns of a line's pixels, the legend left out."""
    found = np.argwhere((chart == colour).all(-1))
    return found[found[:, 0] > 40]


def test_chart_goes_through_all_sizes_that_the_memory_grew_from(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    smaller = pathlib.Path("runs/small")
    remember_config(memory_config(), smaller, "fingerprint")
    log(smaller, {4000: 2.0, 8000: 1.0})
    config = memory_config(64, memory__grow_from=str(smaller))
    made(pathlib.Path("runs/large"), config, distances={4000: 0.5, 8000: float("nan"), 12000: 0.25})

    status, said, _ = tool("memory_figure", "runs/large", "--samples", 2, "--output", "out")

    assert status == 0
    assert only_line(said).endswith("last distance: 32 px 1.000, 64 px 0.250")
    chart = pixels(pathlib.Path("out/memory_distance.png"))
    blue, orange = where(chart, BLUE), where(chart, ORANGE)
    # The larger size begins where the smaller one's pictures end.
    assert blue[:, 1].max() < orange[:, 1].min()
    assert blue[:, 0].max() < orange[:, 0].min()
    # Dots at 4, 8, 12 and 20 thousand, of nearly equal size, so that their edges are as far apart.
    left = blue[:, 1].min(), orange[:, 1].min()
    right = blue[:, 1].max(), orange[:, 1].max()
    assert (right[1] - right[0]) / (left[1] - left[0]) == pytest.approx(12 / 8, abs=0.02)
    bottom = blue[:, 0].max(), orange[:, 0].max()
    top = blue[:, 0].min(), orange[:, 0].min()
    assert (bottom[1] - bottom[0]) / (top[1] - top[0]) == pytest.approx(0.75 / 1.5, abs=0.02)


def without_checkpoint(workdir: pathlib.Path) -> None:
    remember_config(memory_config(), workdir, "fingerprint")
    log(workdir, {4000: 2.0})


def without_log(workdir: pathlib.Path) -> None:
    made(workdir, memory_config())
    (workdir / "memory" / "log.jsonl").unlink()


def without_snapshot(workdir: pathlib.Path) -> None:
    config = memory_config()
    made(workdir, config, {**snapshot(config), "distance": jnp.asarray(jnp.inf)})


def without_smaller(workdir: pathlib.Path) -> None:
    remember_config(memory_config(64, memory__grow_from="runs/none"), workdir, "fingerprint")


def of_its_own(workdir: pathlib.Path) -> None:
    remember_config(memory_config(memory__grow_from=str(workdir)), workdir, "fingerprint")


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda workdir: None, [], "run/config.json: cannot be read"),
        (without_checkpoint, [], "no checkpoint in run/memory/checkpoints; train it with"),
        (without_log, [], "run/memory/log.jsonl: holds no validation/vgg_distance; train it"),
        (without_snapshot, [], "run/memory/checkpoints/7 was saved before the first validation"),
        (without_smaller, [], "run: config.memory.grow_from = 'runs/none' does not exist; call"),
        (of_its_own, [], "grow_from: run has image_size 32, and this config 32; name one of fewer"),
        (without_log, ["--samples", 0], "--samples=0; use 1 or more"),
        (without_log, ["--seed", 2**32], "--seed=4294967296; use 0 to 4294967295"),
    ],
)
def test_memory_figure_refuses_in_one_line(tool, tmp_path, monkeypatch, make, options, words):
    monkeypatch.chdir(tmp_path)
    make(pathlib.Path("run"))

    status, said, error = tool("memory_figure", "run", *options, "--output", "out")

    assert (status, said) == (2, "")
    assert only_line(error).startswith("memory_figure: error: ")
    assert words in error
    assert not pathlib.Path("out").exists()


# --- the validation -----------------------------------------------------------------------------


def validated(workdir: pathlib.Path, scores: dict[int, float]) -> None:
    remember_config(tiny_config(), workdir, "fingerprint")
    (workdir / "inpainting").mkdir()
    opened = RunLog(workdir / "inpainting", 0, tensorboard=False)
    for seen, score in scores.items():
        opened.scalars(
            seen // 4, seen, {"validation/psnr": score, "validation/hole_l1": 40 - score}
        )
        opened.scalars(seen // 4 + 1, seen + 4, {"loss/total": 1.0})
    opened.close()


def test_validation_figure_draws_a_line_for_each_run(tool, tmp_path):
    validated(tmp_path / "one", {4000: 20.0, 8000: 24.0, 16000: 26.0})
    validated(tmp_path / "two", {4000: 21.0, 8000: float("nan"), 16000: 25.0})
    runs = [f"all losses={tmp_path / 'one'}", f"L1 alone={tmp_path / 'two'}"]

    status, said, _ = tool("validation_figure", *runs, "--output", tmp_path / "psnr.png")

    assert status == 0
    assert only_line(said) == (
        f"{tmp_path / 'psnr.png'}: psnr, last: all losses 26.00, L1 alone 25.00"
    )
    chart = pixels(tmp_path / "psnr.png")
    blue, orange = where(chart, BLUE), where(chart, ORANGE)
    # From 20 to 26 dB and from 21 to 25: a higher value is higher up, and both are as wide.
    height = blue[:, 0].max() - blue[:, 0].min(), orange[:, 0].max() - orange[:, 0].min()
    assert height[1] / height[0] == pytest.approx(4 / 6, abs=0.02)
    assert blue[:, 0].min() < orange[:, 0].min()
    assert blue[:, 0].max() > orange[:, 0].max()
    # A circle and a square differ by a pixel.
    assert blue[:, 1].min() == pytest.approx(orange[:, 1].min(), abs=1)
    assert blue[:, 1].max() == pytest.approx(orange[:, 1].max(), abs=1)
    options = ["--quantity", "hole_l1", "--output", tmp_path / "l1.png"]
    assert only_line(tool("validation_figure", *runs, *options)[1]).endswith(
        "14.00, L1 alone 15.00"
    )


def test_long_numbers_at_the_axis_leave_room_for_its_label(tool, tmp_path):
    validated(tmp_path / "run", {4000: 27.321, 8000: 27.378, 16000: 27.409})

    tool("validation_figure", f"run={tmp_path / 'run'}", "--output", tmp_path / "psnr.png")

    # Down the left edge: paper, the label that is read from below, paper again, then the numbers.
    inked = (pixels(tmp_path / "psnr.png")[60:360, :70] < 200).any(axis=(0, 2))
    changes = np.flatnonzero(np.diff(inked.astype(int)))
    assert changes[0] < 10
    assert changes[2] - changes[1] >= 5


@pytest.mark.parametrize(
    ("run", "output", "words"),
    [
        ("runs/x", "out.png", "runs/x: has no label or no workdir; write LABEL=WORKDIR"),
        ("x=runs/none", "out.png", "runs/none/config.json: cannot be read"),
        (
            "x=runs/empty",
            "out.png",
            "runs/empty/inpainting/log.jsonl: holds no validation/psnr; train it with "
            "--stage=inpainting to its first validation",
        ),
        ("x=runs/x", "out.svg", "--output=out.svg: its name must end in .png"),
    ],
)
def test_validation_figure_refuses_in_one_line(tool, tmp_path, monkeypatch, run, output, words):
    monkeypatch.chdir(tmp_path)
    validated(pathlib.Path("runs/x"), {4000: 20.0})
    validated(pathlib.Path("runs/empty"), {})

    status, said, error = tool("validation_figure", run, "--output", output)

    assert (status, said) == (2, "")
    assert only_line(error).startswith("validation_figure: error: ")
    assert words in error
    assert not pathlib.Path(output).exists()


# --- what a distance is worth -------------------------------------------------------------------


@pytest.fixture
def two_pictures(tmp_path: pathlib.Path) -> tuple[np.ndarray, list[str]]:
    """Two facades, and a call that scores them in rectangular and centre holes."""
    truths = facades(2, SIZE)
    for name, truth in zip("ab", truths, strict=True):
        (tmp_path / f"{name}.png").write_bytes(to_png(truth))
    fields = [
        f"image_size={SIZE}",
        f"data.test={tmp_path}",
        "data.test_resize=direct",
        "evaluation.masks=generated",
    ]
    return truths, [str(TOOLS.parent / "configs/demo.py"), *(f"--config.{x}" for x in fields)]


def test_distance_scale_is_that_of_the_truth_moved_or_blurred(tool, two_pictures):
    truths, call = two_pictures

    status, said, _ = tool("distance_scale", *call)

    rows = [[part.strip() for part in line.strip("|").split("|")] for line in said.splitlines()]
    assert status == 0
    assert rows[0] == ["the truth", *BIN_NAMES]
    found = {row[0]: dict(zip(BIN_NAMES, row[1:], strict=True)) for row in rows[2:]}
    params = load_vgg19("bundled", ("relu3_1",)).params

    def expected(change: Callable[[np.ndarray], np.ndarray], ratio: float) -> np.ndarray:
        """Distance in the hole and PSNR, means over both pictures."""
        hole = center_mask(SIZE, ratio)
        scores = []
        for truth in truths:
            filled = np.where(hole > 0, change(truth), truth)
            errors = np.mean((filled.astype(np.float64) - truth) ** 2, axis=(0, 1))
            distance = reference_vgg_hole(params, filled, truth, hole)
            scores.append((distance, np.mean(10 * np.log10(255**2 / errors))))  # of each channel
        return np.mean(scores, axis=0)

    def moved(pixels: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda truth: truth[:, np.maximum(np.arange(SIZE) - pixels, 0)]

    def blurred(deviation: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda truth: ndimage.gaussian_filter(
            truth.astype(np.float64), (deviation, deviation, 0), mode="nearest"
        )

    def numbers(text: str) -> list[float]:
        return [float(part) for part in text.split("/")]

    for ratio in (0.25, 0.5):
        column = f"centre {ratio:.0%}"
        for pixels in (1, 2, 4):
            score = numbers(found[f"moved by {pixels} px"][column])
            assert (np.abs(score - expected(moved(pixels), ratio)) <= [0.0051, 0.051]).all()
        for deviation in (1.0, 2.0):  # a fast approximation of the Gaussian
            score = numbers(found[f"blurred, σ = {deviation} px"][column])
            np.testing.assert_allclose(score, expected(blurred(deviation), ratio), rtol=0.06)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["none.py"], "none.py"),
        (["--config.data.test=none"], "none"),
        (["--config.data.tset=x"], "tset"),
    ],
)
def test_distance_scale_refuses_in_one_line(tool, two_pictures, options, words):
    call = options if options[0].endswith(".py") else [*two_pictures[1], *options]

    status, said, error = tool("distance_scale", *call)

    assert (status, said) == (2, "")
    assert only_line(error).startswith("distance_scale: error: ")
    assert words in error


def test_a_picture_of_lines_has_its_size_and_begins_at_zero(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    lines_picture = importlib.import_module("line_picture").lines_picture
    line = Line("a", (1.0, 2.0), (2.0, 4.0))
    picture = lines_picture([line], "x", "y")
    assert picture.shape == (420, 720, 3)
    assert picture.dtype == np.uint8
    rows = drawn_rows(picture)
    # From zero, 2 stands half as high as 4: the lower half of the axes is empty.
    assert rows.max() < 0.6 * 420
    assert np.ptp(rows) < np.ptp(drawn_rows(lines_picture([line], "x", "y", from_zero=False)))


def drawn_rows(picture):
    rows = np.argwhere((picture == (0x00, 0x72, 0xB2)).all(-1))[:, 0]
    return rows[rows > 40]  # without the legend
