"""Rows that are trained alike, from the first picture to the report, by two toy methods."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from toy_method import TOY, ToyStage
from toy_runs import end, wait_for

from gmsrm_jax.commands.comparison import Row, check_rows, compare, compare_seeds, set_length
from gmsrm_jax.config import apply_argument, base_config, check_config
from gmsrm_jax.data.arrays import write_pictures
from gmsrm_jax.data.loading import open_data
from gmsrm_jax.data.masks.assignment import make_mask_list
from gmsrm_jax.data.masks.bins import center_mask
from gmsrm_jax.data.masks.files import write_mask_bank
from gmsrm_jax.data.masks.list_file import write_mask_list
from gmsrm_jax.data.sources import open_pictures
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import StageSpec
from gmsrm_jax.methods.stage import FillingStage
from gmsrm_jax.runtime.errors import UserError

SIZE = 32
COMMAND = "gmsrm compare --config toy.py --rows toy,twin --kimg 0.016"


class First(ToyStage):
    """A stage that both methods have; what follows asks nothing of it."""

    def __init__(self, config, context):
        super().__init__(config, context)
        self.name, self.total_steps, self.stream = "first", 2, 1


def with_first(name: str, title: str, note: str = ""):
    def stages(config):
        first = StageSpec("first", lambda context: First(config, context), shared=("toy.channels",))
        return (first, *TOY.stages(config))

    return dataclasses.replace(TOY, name=name, title=title, note=note, stages=stages)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    facades = open_pictures("bundled:facades/train")
    write_pictures(folder / "train.npy", [facades.image(i)[:64, :64] for i in range(40)])
    write_pictures(folder / "test.npy", [facades.image(i)[64:128, :64] for i in range(2)])
    masks = [np.roll(center_mask(SIZE, r), s, 1) for r in (0.1, 0.3, 0.5) for s in (-4, 0, 6)]
    write_mask_bank(folder / "masks.npz", np.stack(masks).astype(np.uint8))
    pictures = open_pictures(str(folder / "test.npy"))
    names = [pictures.name(i) for i in range(len(pictures))]
    write_mask_list(folder / "list.npz", make_mask_list(names, SIZE, 0))

    def row(name: str, batch_size: int) -> Row:
        config = apply_argument(base_config(name), "runlocal")
        config.tensorboard, config.batch_size = False, batch_size
        config.data.pipeline, config.masks.bank = "arrays", str(folder / "masks.npz")
        config.data.train, config.data.test = str(folder / "train.npy"), str(folder / "test.npy")
        config.evaluation.masks = str(folder / "list.npz")
        set_length(config, 0.016)
        check_config(config)
        return Row(name, config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "toy", with_first("toy", "Toy"))
        patch.setitem(METHODS, "twin", with_first("twin", "Twin", "Twin is a stand-in."))
        yield [row("toy", 4), row("twin", 8)]


@pytest.fixture(scope="module")
def workdir(rows, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("comparison")
    compare(rows, workdir, COMMAND)
    return workdir


def times(workdir):
    return {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}


def test_rows_have_one_length_one_first_stage_and_the_same_masks(workdir):
    facts = json.loads((workdir / "comparison.json").read_text())
    assert facts["rows"] == {"toy": "Toy", "twin": "Twin"}
    assert facts["command"] == COMMAND
    assert {cost["pictures"] for cost in facts["costs"].values()} == {16}
    assert len(list((workdir / "shared").iterdir())) == 1
    assert len(list(workdir.rglob("first/checkpoints"))) == 1
    metrics = [
        json.loads((workdir / name / "evaluation" / "metrics.json").read_text())
        for name in ("toy", "twin")
    ]
    assert len({each["mask_list"]["sha256"] for each in metrics}) == 1


def test_tables_and_figures_show_the_rows_side_by_side(workdir):
    metrics = json.loads((workdir / "twin" / "evaluation" / "metrics.json").read_text())
    psnr = metrics["methods"]["Twin"]["composite"]["centre 50%"]["psnr"]["mean"]
    text = (workdir / "table_comparison.md").read_text()
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    assert {"Toy", "Twin", "mean colour"} <= lines.keys()
    assert "untrained network" not in text
    assert f"{psnr:.2f}" in lines["Twin"]
    count = 9 * 5 * 4 + 2 * 4 + 9 * 4 * 3 + 3  # convolutions and a batch norm
    assert f"| 16 | {count} | 0 |" in lines["Toy"]
    assert "beside the stage first of" in text and "of Toy, Twin" in text
    for name in ("table_1.md", "table_2.md", "table_comparison.md"):
        table = (workdir / name).read_text()
        assert "| Toy" in table and "| Twin" in table, name
        assert "- Twin is a stand-in." in table, name
    assert (workdir / "figures" / "figure_6.png").stat().st_size > 1000
    page = (workdir / "report.html").read_text()
    assert "Twin is a stand-in." in page and "toy.batch_size" in page


def test_operations_are_those_of_the_two_convolutions(workdir):
    facts = json.loads((workdir / "comparison.json").read_text())
    # A product and a sum for each of 9 · (5 · 4 + 4 · 3) weights at every pixel, less at edges.
    least = 0.85 * 2 * 9 * (5 * 4 + 4 * 3) * SIZE**2 / 1e9
    for cost in facts["costs"].values():
        assert least < cost["gflop"] < 1.3 * least / 0.85
        assert 0 < cost["seconds"] < 60


def test_what_is_done_is_not_done_again(rows, workdir):
    before = times(workdir)
    shutil.rmtree(workdir / "twin" / "evaluation")
    compare(rows, workdir, COMMAND)
    kept = [path for path in before if not {"evaluation", "figures"} & set(path.parts)]
    after = times(workdir)
    trained = {path for path in kept if "checkpoints" in path.parts or path.suffix == ".jsonl"}
    assert trained and all(after[path] == before[path] for path in trained)
    scores = workdir / "toy" / "evaluation" / "metrics.json"
    assert after[scores] == before[scores]
    assert (workdir / "twin" / "evaluation" / "metrics.json").exists()


def test_methods_see_the_same_pictures_in_the_same_order(rows):
    """Whatever their batch sizes: an example is a function of its number."""
    seen = []
    for row in rows:
        batches = open_data(row.config).batches(row.config.batch_size, 0, FillingStage.stream)
        given = [next(batches) for _ in range(16 // row.config.batch_size)]
        seen.append({key: np.concatenate([b[key] for b in given]) for key in ("image", "mask")})
    for key, values in seen[0].items():
        np.testing.assert_array_equal(values, seen[1][key])


PROGRAM = """
from gmsrm_jax.runtime.signals import hold_signals
hold_signals()
from toy_method import TOY
from gmsrm_jax.methods import METHODS
METHODS["toy"] = TOY
from gmsrm_jax.cli import entry_point
entry_point()
"""
FILE = """
import json
from gmsrm_jax.commands.config_files import change_fields
from gmsrm_jax.config import apply_argument, base_config
def get_config(argument=None):
    config = apply_argument(base_config("toy"), "runlocal")
    change_fields(config, {changes})
    return apply_argument(config, argument)
"""


@pytest.mark.slow
def test_a_signal_to_a_comparison_is_answered_by_a_step_which_saves(rows, tmp_path):
    data, folder = rows[0].config.data, pathlib.Path(__file__).parent
    fields = ["data.pipeline=arrays", f"data.train={data.train}", f"data.test={data.test}"]
    fields += [f"masks.bank={rows[0].config.masks.bank}", "tensorboard=False", "log_every=1"]
    (tmp_path / "toy.py").write_text(FILE.format(changes=fields))
    words = ["--config", tmp_path / "toy.py", "--rows", "toy", "--kimg", 400, "--workdir", tmp_path]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "compare", *map(str, words)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(folder.parent)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(process, " images/s")
    process.send_signal(signal.SIGTERM)
    status, _, errors = end(process)
    assert status == 75 and "stops after the running step, and saves" in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "toy").rglob("checkpoints/*/manifest.json")) != []


def test_one_and_several_seeds_are_not_mixed_in_a_folder(rows, workdir, tmp_path):
    with pytest.raises(UserError, match="a comparison of one seed"):
        compare_seeds(rows, workdir, (0, 1), COMMAND)
    (tmp_path / "seed_0" / "toy").mkdir(parents=True)
    with pytest.raises(UserError, match="a comparison of several seeds"):
        compare(rows, tmp_path, COMMAND)


def test_rows_on_other_pictures_are_refused(rows):
    config = rows[1].config.copy_and_resolve_references()
    config.data.flip = not config.data.flip
    with pytest.raises(UserError, match=r"config\.data\.flip is .* for toy and .* for twin"):
        check_rows([rows[0], Row("twin", config)])
