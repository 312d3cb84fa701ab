"""`python -m benchmarks.bench`: its arithmetic, its output, and what it does about failures."""

import argparse
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gmsrm_jax.config import base_config
from gmsrm_jax.methods.gm_srm.encoder_decoder import Encoder
from gmsrm_jax.methods.gm_srm.memory import GenerativeMemory, draw_noise
from gmsrm_jax.methods.gm_srm.method import GM_SRM
from gmsrm_jax.nn.vgg import load_vgg19
from gmsrm_jax.runtime.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of benchmarks/, which is no part of the installed package."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


def machine(kind: str, platform: str) -> dict[str, Any]:
    return {
        "hardware": {"device_kind": kind, "platform": platform},
        "matrix_rate": {"flops_per_second": 1e11},
    }


def row(**fields: Any) -> dict[str, Any]:
    return {"section": "training", "flops": 6e10, "seconds_median": 2.0, "devices": 1, **fields}


def test_share_of_the_peak_by_hand(module):
    share = module("hardware").peak_share
    assert share(2e12, 0.5, 8e12) == pytest.approx(0.5)
    assert share(2e12, 0.5, 8e12, devices=4) == pytest.approx(0.125)
    assert share(2e12, 0.5, None) is None


@pytest.mark.parametrize(
    ("kind", "nominal", "matrix"),
    [
        ("NVIDIA H200", 989e12, 790e12),
        ("NVIDIA H100 80GB HBM3", 989e12, 790e12),
        ("NVIDIA A100-SXM4-40GB", 312e12, None),
        ("Tesla V100-SXM2-16GB", 125e12, None),
        ("TPU v4", 275e12, None),
        ("TPU v5 lite", 197e12, None),
        ("TPU v5p", 459e12, None),
        ("TPU v6 lite", 918e12, None),
    ],
)
def test_known_peaks(module, kind, nominal, matrix):
    assert module("hardware").known_peak(kind) == (nominal, matrix)


def test_virtual_devices_share_the_cpu(module):
    (shared,) = module("tables").add_shares([row(devices=4)], machine("cpu", "cpu"))
    assert shared["share_of_matrix_rate"] == pytest.approx(0.3)  # 30 of 100 GFLOP/s
    assert shared["share_of_nominal"] is None


def test_known_rates_stand_before_the_measured_one(module):
    given = row(flops=1106e12, seconds_median=1.0, devices=4)
    (shared,) = module("tables").add_shares([given], machine("NVIDIA H200", "gpu"))
    assert shared["share_of_matrix_rate"] == pytest.approx(0.35)
    assert shared["share_of_nominal"] == pytest.approx(1106 / 989 / 4)


def test_summary_of_repetitions(module):
    found = module("hardware").summary([3.0, 1.0, 2.0, 4.0])
    assert found == pytest.approx(
        {"seconds_median": 2.5, "seconds_min": 1.0, "seconds_p95": 3.85, "n": 4}
    )


def test_kinds_of_operations(module):
    kind_of = module("profiles").kind_of
    assert kind_of("cudnn$convBiasFwd.3") == kind_of("sm90_xmma_gemm_bf16") != "other"
    assert kind_of("loop_add_fusion.7") == kind_of("wrapped_multiply") == "fused elementwise"
    assert kind_of("ynn_fusion.80").startswith("library")
    assert kind_of("all-reduce.1") == "collective"
    assert kind_of("custom-call") == "other"


def test_table_leaves_out_empty_columns_and_marks_disagreement(module):
    common = {"section": "twin", "batch": 2, "threads": 2, "seconds_median": 0.002}
    rows = [
        {**common, "program": "a", "torch_seconds": 0.004, "ratio": 0.5, "agrees": True},
        {**common, "program": "b", "torch_seconds": 0.001, "ratio": 2.0, "agrees": False},
    ]
    hardware = {"devices": 1, "device_kind": "cpu", "platform": "cpu", "cpu": "x", "cores": 2}
    result = {
        "command": "c",
        "date": "d",
        "seconds": 1.0,
        "hardware": {**hardware, "memory_gib": 4.0, "device_memory_gib": None},
        "versions": {"jax": "1", "torch": None},
        "matrix_rate": {"side": 8, "dtype": "float32", "flops_per_second": 1e12},
        "rows": rows,
        "not_measured": [{"what": "w", "why": "y"}],
    }
    lines = module("tables").markdown(result).splitlines()
    assert "| block | batch | threads | JAX [ms] | PyTorch [ms] | JAX / PyTorch | agrees |" in lines
    assert "| a | 2 | 2 | 2 | 4 | 0.50 | yes |" in lines
    assert "| b | 2 | 2 | 2 | 1 | 2.00 | NO |" in lines
    assert "- w: y" in lines


def test_failures_are_listed_and_rows_before_them_kept(module, tmp_path, monkeypatch):
    bench, presets = module("bench"), module("presets")
    args = argparse.Namespace(budget=60.0, cache="", preset="tiny", method="gm_srm", set=[])
    running = bench.Bench(args, presets.PRESETS["tiny"], ["inpainting"], tmp_path)
    job = tmp_path / "job.py"
    job.write_text(
        "import sys\n"
        'open(sys.argv[2], \'w\').write(\'{"section": "training"}\\n{"sec\')\n'
        "sys.exit('RESOURCE_EXHAUSTED: too large')\n"
    )
    start = subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        return start([command[0], str(job), *command[3:]], **options)

    monkeypatch.setattr(bench.subprocess, "Popen", popen)
    assert running.run("a step", {"job": "training"}) == [{"section": "training"}]
    assert running.rows == [{"section": "training"}]
    assert running.not_measured == [
        {"what": "a step", "why": "ended with status 1: RESOURCE_EXHAUSTED: too large"}
    ]
    assert running.failed
    args = argparse.Namespace(budget=1.0)
    spent = bench.Bench(args, presets.PRESETS["tiny"], [], tmp_path)
    assert spent.run("more", {"job": "training"}) == []
    assert spent.not_measured == [{"what": "more", "why": "the budget is used up"}]
    assert spent.failed


def test_what_the_machine_has_not_is_listed_and_is_no_failure(module, tmp_path):
    bench, presets = module("bench"), module("presets")
    args = argparse.Namespace(budget=60.0, cache="", preset="h200", method="gm_srm", set=[])
    running = bench.Bench(args, presets.PRESETS["h200"], ["memory"], tmp_path)
    running.section("scaling", {"platform": "gpu", "devices": 1})
    assert running.not_measured == [{"what": "scaling", "why": "there is 1 device"}]
    assert not running.failed


def test_every_stage_is_timed_with_each_batch_and_lazy_programs_with_the_first(module, tmp_path):
    bench, presets = module("bench"), module("presets")
    args = argparse.Namespace(budget=60.0, profile=None)
    running = bench.Bench(args, presets.PRESETS["h200"], ["one", "two"], tmp_path)
    jobs: list[dict[str, Any]] = []
    running.run = lambda what, job, environment=None: jobs.append(job)
    running.section("training", {})
    assert [(job["batch"], job["stage"]) for job in jobs[:3]] == [
        (32, "one"),
        (32, "two"),
        (8, "one"),
    ]
    assert [job["all_programs"] for job in jobs] == [True, True] + [False] * 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--stages=first"], "--stages=first; gm_srm has memory, inpainting"),
        (["--config.model.fusion_kernel=2"], "config.model.fusion_kernel = 2; use one of: 1, 3"),
        (["--config.tset=2"], "--config.tset=2: no field of this name"),
    ],
)
def test_what_cannot_be_measured_is_refused(module, options, words):
    with pytest.raises(UserError, match=re.escape(words)):
        module("bench").main(["--preset=tiny", *options])


def test_a_stage_says_which_field_its_batch_is(module):
    stages, presets = module("stages"), module("presets")
    config = presets.make_config(presets.PRESETS["tiny"], "gm_srm")
    built = [stages.build_stage(config, spec) for spec in GM_SRM.stages_of(config)]
    assert [stages.batch_field(stage) for stage in built] == ["memory.batch_size", "batch_size"]


def test_a_whole_vgg19_is_made_up_where_one_is_asked_for(module, tmp_path):
    stages = module("stages")
    config = base_config("gm_srm")
    file = str(tmp_path / "vgg19.safetensors")
    assert stages.with_random_vgg19(config, tmp_path).inpainting.vgg == file
    params = load_vgg19(config.inpainting.vgg).params
    assert params["conv5_1"]["kernel"].shape == (3, 3, 512, 512)
    presets = module("presets")
    bundled = presets.make_config(presets.PRESETS["cpu"], "gm_srm")
    before = bundled.to_dict()
    assert stages.with_random_vgg19(bundled, tmp_path / "none").to_dict() == before


def test_no_torch_is_said(module, tmp_path):
    assert not module("twin").has_torch(str(tmp_path / "python"))


def test_blocks_are_those_of_the_networks(module):
    blocks = module("blocks")
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    channels = {4: 6, 8: 4}
    encoder = Encoder(channels)
    image, mask = drawn(2, 8, 8, 3), jnp.zeros((2, 8, 8, 1))
    params = encoder.init(jax.random.key(0), image, mask)["params"]
    features = encoder.apply({"params": params}, image, mask)
    parts = {"down": params["down_4"], "block": params["block_4"]}
    (found,) = blocks.EncoderBlock(6).apply({"params": parts}, features[8])
    np.testing.assert_allclose(found, features[4], atol=1e-5)

    memory = GenerativeMemory(channels, noise_strength_init=0.3)
    codes, noise = drawn(2, 2, 5), draw_noise(jax.random.key(1), 2, [4, 8])
    params = memory.init(jax.random.key(2), codes, noise)["params"]

    def level_4(memory: GenerativeMemory) -> tuple[jax.Array, jax.Array]:
        x = memory.second(memory.start(2), codes[:, 0], noise[0])
        return x, memory.rgb_layers[4](x, codes[:, 0])

    x, rgb = memory.apply({"params": params}, method=level_4)
    parts = {"up": params["up_8"], "conv": params["conv_8"], "rgb": params["rgb_8"]}
    _, found = blocks.MemoryBlock(4).apply({"params": parts}, x, rgb, codes[:, 1], *noise[1:])
    wanted = memory.apply({"params": params}, codes, noise)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


SMALL = ("image_size=32", "pconv.width=4", "batch_size=2", "xla_optimization_level=0")


@pytest.mark.slow
def test_steps_of_several_configs_in_turns(module, monkeypatch, capsys):
    more = " ".join(SMALL)
    config = f"{ROOT / 'configs' / 'paris.py'}:pconv,runlocal"
    rows = ["--row", f"one: {more}", "--row", f"two: {more} log_every=7"]
    monkeypatch.setattr(sys, "argv", ["turns", "--config", config, *rows, "--rounds", "2"])
    module("turns").main()
    table = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()]
    assert [cells[0].strip() for cells in table] == ["", "---", "one", "two"]
    assert float(table[2][2]) == 1 and all(float(cells[1]) > 0 for cells in table[2:])
    monkeypatch.setattr(sys, "argv", ["turns", "--config", config, "--row", "image_size=32"])
    with pytest.raises(SystemExit):
        module("turns").main()
    assert "use 'NAME: FIELD=VALUE" in capsys.readouterr().err


@pytest.mark.slow
def test_steps_under_way_in_turns(module, monkeypatch, capsys):
    flight = module("in_flight")
    monkeypatch.setattr(flight, "_STEPS", 3)
    fields = [f"--config.{field}" for field in SMALL]
    monkeypatch.setattr(sys, "argv", ["in_flight", "--rounds", "2", *fields])
    flight.main()
    *_, each, two, any_number = capsys.readouterr().out.splitlines()
    assert each.startswith("| each waited for |") and two.startswith("| two under way |")
    assert any_number.startswith("| any number |") and any_number.endswith(" 1.00 |")


@pytest.mark.slow
def test_whole_program_at_32_px(tmp_path):
    outputs = {"json": tmp_path / "bench.json", "markdown": tmp_path / "bench.md"}
    command = [sys.executable, "-m", "benchmarks.bench", "--preset=tiny", "--stages=inpainting"]
    command += ["--sections=training,inference,use"]
    command += [f"--{name}={path}" for name, path in outputs.items()]
    cache = os.environ["JAX_COMPILATION_CACHE_DIR"]
    done = subprocess.run(
        [*command, f"--cache={cache}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(outputs["json"].read_text())
    assert result["schema"] == 1
    assert {item["what"] for item in result["not_measured"]} <= {"big-LaMa's network"}
    assert result["preset"] == "tiny" and result["config"]["image_size"] == 32
    assert result["versions"]["jax"] == jax.__version__
    assert {"cpu", "cores", "memory_gib", "platform", "device_kind"} <= set(result["hardware"])
    measured, *filling, small, photograph = result["rows"][:6]
    assert (small["pixels"], photograph["pixels"]) == ("128 x 128", "512 x 910")
    assert photograph["program"] == "photos-128, detail"
    assert 0 < small["seconds_min"] < photograph["seconds_min"]
    assert "| photos-128, detail | 512 x 910 |" in outputs["markdown"].read_text()
    assert [row["program"] for row in filling] == ["bare network", "Inpainter", "Inpainter.batch"]
    assert all(row["size"] == 32 and row["images_per_second"] > 0 for row in filling)
    assert (measured["stage"], measured["program"]) == ("inpainting", "main")
    assert (measured["size"], measured["batch"], measured["devices"]) == (32, 2, 1)
    assert measured["images_per_second"] == pytest.approx(2 / measured["seconds_median"])
    rate = measured["flops"] / measured["seconds_median"]
    assert measured["share_of_matrix_rate"] == pytest.approx(
        rate / result["matrix_rate"]["flops_per_second"]
    )
    assert measured["flops"] > 0 and measured["program_gib"] > 0
    assert "| inpainting/main | 32 | 2 | float32 |" in outputs["markdown"].read_text()
    assert outputs["markdown"].read_text().strip() == done.stdout.strip()
