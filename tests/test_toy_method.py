"""A method that the package does not know is trained, scored, applied, exported and served.

It is one file, toy_method.py, and one entry of METHODS; nothing above `methods/` knows of it.
"""

import json
import re

import jax
import numpy as np
import onnxruntime
import pytest
from jax import export
from scipy.ndimage import correlate
from serving import answering, encoded, fill_by_rest, hole, photo, text
from toy_method import TOY
from toy_runs import by_steps

from gmsrm_jax import Inpainter
from gmsrm_jax.cli import main
from gmsrm_jax.commands.scoring import evaluate_and_report
from gmsrm_jax.config import apply_argument, base_config, check_config
from gmsrm_jax.data.arrays import write_pictures
from gmsrm_jax.data.masks.assignment import make_mask_list
from gmsrm_jax.data.masks.bins import center_mask
from gmsrm_jax.data.masks.files import write_mask_bank
from gmsrm_jax.data.masks.list_file import write_mask_list
from gmsrm_jax.data.sources import open_pictures
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.variables import count_parameters
from gmsrm_jax.networks import load_pretrained
from gmsrm_jax.runtime.errors import Stopped, UserError
from gmsrm_jax.runtime.log import read_log
from gmsrm_jax.serve.limits import Limits
from gmsrm_jax.serve.rest import make_rest_app
from gmsrm_jax.serve.worker import Worker
from gmsrm_jax.training import loop, run
from gmsrm_jax.training.run import train

SIZE, STEPS, STOP = 32, 8, 5


@pytest.fixture(autouse=True, scope="module")
def known():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "toy", TOY)
        yield


@pytest.fixture(scope="module")
def config(known, tmp_path_factory):
    """Forty pictures and nine holes from memory, four test pictures."""
    folder = tmp_path_factory.mktemp("data")
    facades = open_pictures("bundled:facades/train")
    write_pictures(folder / "train.npy", [facades.image(i)[:64, :64] for i in range(40)])
    write_pictures(folder / "test.npy", [facades.image(i)[64:128, :64] for i in range(4)])
    masks = [np.roll(center_mask(SIZE, r), s, 1) for r in (0.1, 0.3, 0.5) for s in (-4, 0, 6)]
    write_mask_bank(folder / "masks.npz", np.stack(masks).astype(np.uint8))
    pictures = open_pictures(str(folder / "test.npy"))
    names = [pictures.name(i) for i in range(len(pictures))]
    write_mask_list(folder / "list.npz", make_mask_list(names, SIZE, 0))
    config = apply_argument(base_config("toy"), "runlocal")
    config.tensorboard = False
    config.data.pipeline, config.masks.bank = "arrays", str(folder / "masks.npz")
    config.data.train, config.data.test = str(folder / "train.npy"), str(folder / "test.npy")
    config.evaluation.masks = str(folder / "list.npz")
    check_config(config)
    return config


def described(config, workdir, capsys, **options):
    """What a dry run says."""
    assert not train(config, workdir, dry_run=True, **options)
    assert not workdir.exists()
    return capsys.readouterr().out


def test_dry_run_prints_config_and_parameters_only_where_details_are_asked_for(
    config, tmp_path, capsys
):
    short = described(config, tmp_path / "run", capsys)
    with_tables = config.copy_and_resolve_references()
    with_tables.tensorboard = True
    long = described(with_tables, tmp_path / "run", capsys, details=True)
    assert re.search(r"painter/first/kernel +\| \(3, 3, 5, 4\)", long)
    fields = json.loads(re.search(r"^\{.*?^\}", long, re.DOTALL | re.MULTILINE)[0])
    assert fields["toy.channels"] == 4
    assert fields["evaluation.baselines"] == list(config.evaluation.baselines)
    for word in ("painter/first/kernel", "toy.channels", "!!python"):
        assert word not in short


def test_days_on_a_cpu_are_said_with_what_to_use_instead(config, tmp_path, capsys):
    endless = config.copy_and_resolve_references()
    endless.toy.length_kimg = 1e9
    output = described(endless, tmp_path / "run", capsys)
    assert "days on a CPU" in output
    assert "configs/finetune.py" in output
    assert "days on a CPU" not in described(config, tmp_path / "run", capsys)


def test_forecast_multiplies_the_operations_of_a_step_by_its_steps(
    config, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(run, "measured_rate", lambda mesh, dtype: 1e6)
    output = described(config, tmp_path / "run", capsys)
    # Two 3×3 convolutions, 5 → 4 → 3 channels, forwards, and backwards to kernels and features.
    least = 2 * 9 * SIZE**2 * (2 * 5 * 4 + 3 * 4 * 3)
    gflop = float(re.search(r"GFLOP per picture: main (\S+),", output)[1])
    assert least <= gflop * 1e9 <= 2 * least
    step, left = re.search(
        r"about (\S+) s a step, (\d+:\d\d) for 8 steps, at 0.001 GFLOP/s", output
    ).groups()
    assert float(step) == pytest.approx(gflop * 1e9 * 8 / 1e6, rel=0.05)
    minutes, seconds = left.split(":")
    assert int(minutes) * 60 + int(seconds) == pytest.approx(8 * float(step), rel=0.05)
    assert f"in all: about {left} of training" in output


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    assert train(config, workdir)
    return workdir


@pytest.fixture(scope="module")
def network(workdir):
    return load_pretrained(workdir)


def by_hand(variables, image, mask, noise):
    """The filled picture in float64; convolutions by SciPy, batch norm with its statistics."""
    params = jax.tree.map(np.float64, variables["painter"]["params"])
    moments = jax.tree.map(np.float64, variables["painter"]["batch_stats"])["norm"]

    def convolved(x, kernel):
        planes = [
            sum(
                correlate(x[n, ..., i], kernel[..., i, o], mode="constant")
                for i in range(x.shape[-1])
            )
            for n in range(len(x))
            for o in range(kernel.shape[-1])
        ]
        return np.moveaxis(np.reshape(planes, (len(x), -1, *x.shape[1:3])), 1, -1)

    x = np.concatenate([image * (1 - mask), mask, noise], -1).astype(np.float64)
    x = convolved(x, params["first"]["kernel"])
    x = (x - moments["mean"]) / np.sqrt(moments["var"] + 1e-5)
    x = np.maximum(x * params["norm"]["scale"] + params["norm"]["bias"], 0)
    raw = np.tanh(convolved(x, params["second"]["kernel"]) + params["second"]["bias"])
    return np.where(mask > 0, raw, image)


def test_its_fields_are_those_of_a_config_like_any_other():
    config = apply_argument(base_config(), "runlocal,toy")
    assert (config.method, config.variant, config.toy.channels) == ("toy", "", 4)
    assert base_config("toy").batch_size == 4  # its own default of a shared field
    assert "inpainting" not in config
    config.toy.learning_rate = -1.0
    with pytest.raises(UserError, match=r"config\.toy\.learning_rate = -1\.0; it must be 0 or"):
        check_config(config)


def test_stopped_run_goes_on_bit_for_bit(config, workdir, network, tmp_path, monkeypatch, capsys):
    asked = iter(range(1, STEPS + 1))
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(loop, "stop_agreed", lambda: next(asked) == STOP)
        train(config, tmp_path / "run")
    assert train(config, tmp_path / "run")
    assert f"painting: resuming at step {STOP} of {STEPS}" in capsys.readouterr().out
    resumed = load_pretrained(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, resumed.variables, network.variables)
    clock = ("seconds", "perf/images_per_second")
    whole, parts = (
        by_steps([{k: v for k, v in line.items() if k not in clock} for line in read_log(file)])
        for file in (folder / "painting" / "log.jsonl" for folder in (workdir, tmp_path / "run"))
    )
    same = whole.keys() & parts.keys()  # where it was stopped the log has a line more
    assert len(same) >= len(whole) - 1
    assert {steps: parts[steps] for steps in same} == {steps: whole[steps] for steps in same}
    losses = [line["loss/l1"] for line in whole.values()]
    assert losses[-1] < losses[0]
    assert list((workdir / "painting" / "panels").glob(f"fillings_{STEPS:08d}.png"))


def test_statistics_come_with_the_weights_and_are_no_parameters(config, network):
    assert network.method is TOY
    moments = network.variables["painter"]["batch_stats"]["norm"]
    assert np.all(moments["var"] != 1) and np.all(moments["mean"] != 0)
    count = 9 * 5 * 4 + 2 * 4 + 9 * 4 * 3 + 3
    assert count_parameters(TOY, config, network.variables) == (count, 0)


def test_evaluation_has_its_row_and_a_report(config, workdir):
    evaluate_and_report(config, workdir, "python -m gmsrm_jax.main --config=…:toy")
    metrics = json.loads((workdir / "evaluation" / "metrics.json").read_text())
    assert metrics["facts"]["method"] == "toy"
    assert metrics["facts"]["checkpoint_step"] == STEPS
    assert list(metrics["methods"]) == ["Toy", "untrained network", "mean colour"]
    assert "Toy" in (workdir / "evaluation" / "table_1.md").read_text()
    page = (workdir / "report.html").read_text()
    assert "Toy" in page and "GM-SRM" not in page


def test_inpainter_fills_from_the_workdir(workdir):
    inpainter = Inpainter.from_pretrained(workdir, device="cpu")
    picture, mask = photo(40, 48), hole(40, 48)
    first, again = (inpainter(picture, mask, num_samples=2, seed=3).images for _ in range(2))
    for image in first:
        np.testing.assert_array_equal(image[~mask], picture[~mask])
        assert np.any(image[mask] != picture[mask])
    np.testing.assert_array_equal(first, again)
    assert np.any(first[0] != first[1])


@pytest.fixture(scope="module")
def exported(workdir, tmp_path_factory):
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("exported") / "toy"
    words = ["export", "--checkpoint", str(workdir), "--output", str(folder)]
    assert main([*words, "--stablehlo", "--onnx"]) == 0
    return folder


def test_exported_folder_is_the_same_network(network, exported):
    read = load_pretrained(exported)
    assert read.sha256 == network.sha256
    jax.tree.map(np.testing.assert_array_equal, read.variables, network.variables)
    document = json.loads((exported / "config.json").read_text())
    assert document["method"] == "toy"
    assert document["fields"] == {"image_size": SIZE, "variant": "", "toy.channels": 4}
    card = (exported / "README.md").read_text()
    assert card.count("Toy") >= 1 and "GM-SRM" not in card


def test_graph_files_are_its_formula(network, exported):
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
    mask = np.stack([center_mask(SIZE, ratio) for ratio in (0.2, 0.5)]).astype(np.float32)
    noise = rng.normal(size=(2, SIZE, SIZE, 1)).astype(np.float32)
    expected = by_hand(network.variables, image, mask, noise)
    graph = export.deserialize(bytearray((exported / "model.stablehlo").read_bytes()))
    np.testing.assert_allclose(graph.call(image, mask, noise), expected, atol=1e-4)
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    (filled,) = session.run(None, {"image": image, "mask": mask, "epsilon": noise})
    np.testing.assert_allclose(filled, expected, atol=1e-4)


def test_rest_call_gives_what_python_gives(exported):
    inpainter = Inpainter.from_pretrained(exported, device="cpu")
    picture, mask = photo(48, 40), hole(48, 40)
    limits = Limits(upload_bytes=100_000, pixels=20_000, queue=3, seconds=60, samples=3)
    worker = Worker(limits.queue, limits.seconds)
    app = make_rest_app(inpainter, worker, limits)
    try:
        with answering(app) as port:
            given = {"image": text(encoded(picture)), "mask": text(encoded(mask)), "seed": 5}
            answer = fill_by_rest(port, **given)
    finally:
        worker.stop()
    np.testing.assert_array_equal(answer.pixels, inpainter(picture, mask, seed=5).images[0])
