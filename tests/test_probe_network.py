"""The tool that says which parts of a trained network are alive, on networks that are known."""

import copy
import dataclasses
import importlib
import pathlib
import re
from typing import Any

import jax
import numpy as np
import pytest
from exported_networks import SIZE, exported, tiny_network
from PIL import Image

from gmsrm_jax.assets import asset_path
from gmsrm_jax.commands.config_files import read_config_file
from gmsrm_jax.data.masks import center_mask
from gmsrm_jax.methods.base import apply
from gmsrm_jax.methods.gm_srm.encoder_decoder import Encoder
from gmsrm_jax.methods.gm_srm.memory import channel_table
from gmsrm_jax.networks import Pretrained
from gmsrm_jax.runtime.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
LEVELS = [4, 8, 16, 32]
COUNT = 10  # more than a batch, and no multiple of one


@pytest.fixture(scope="module")
def tool() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        yield importlib.import_module("probe_network")


@pytest.fixture(scope="module")
def holes(tool) -> Any:
    image = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), np.uint8)
    mask = np.repeat(center_mask(SIZE, 0.4)[None], COUNT, 0).astype(np.uint8)
    return tool.Holes(image, mask)


@pytest.fixture(scope="module")
def probe(tool) -> Any:
    return tool.Probe(tiny_network())


def changed(network: Pretrained, module: str, **values: Any) -> Pretrained:
    """The network with other numbers in the last layer of one of its heads."""
    variables = copy.deepcopy(network.variables)
    dense = variables["network"]["params"][module]["dense"]
    for name, value in values.items():
        dense[name] = np.broadcast_to(np.float32(value), dense[name].shape).copy()
    return dataclasses.replace(network, variables=variables)


def test_features_are_what_the_encoder_gives_at_4(probe, holes):
    seen = probe.watch(holes)

    assert list(seen.features) == list(seen.codes) == LEVELS
    encoder = Encoder(channel_table(SIZE, 128, 8))
    weights = {"params": probe.variables["params"]["encoder"]}
    image = holes.image.astype(np.float32) / 127.5 - 1
    expected = jax.jit(lambda *x: apply(encoder, *x)[4])(weights, image, holes.mask * np.float32(1))
    np.testing.assert_allclose(seen.features[4], np.reshape(expected, (COUNT, -1)), atol=1e-4)


def test_a_pictures_own_codes_change_nothing_and_anothers_do(probe, holes):
    seen = probe.watch(holes)
    first = {level: codes[0] for level, codes in seen.codes.items()}

    held = probe.watch(holes, first)

    apart = np.abs(held.filled.image - seen.filled.image).max((1, 2, 3))
    assert apart[0] < 1e-5 < apart[1:].min()


def test_the_table_tells_sigma_and_that_codes_do_nothing(tool, holes):
    network = changed(tiny_network(), "statistics_8", kernel=0.0, bias=[30.0, -20.0])
    for level in LEVELS:
        network = changed(network, f"query_{level}", kernel=0.0)

    rate = network.config.model.head_rate
    text = tool.table_of(tool.Probe(network), holes, holes)

    row = next(line.split("|") for line in text.splitlines() if line.startswith("| 8 |"))
    mean, log_variance = (4 * np.tanh(rate * b / 4) for b in (30.0, -20.0))
    sigma = f"{np.exp(log_variance / 2):.2f}"
    assert row[3].split() == [sigma, "…", sigma]
    assert float(row[4]) == pytest.approx(mean, abs=0.006)
    memory = network.variables["network"]["params"]["memory"]
    strengths = [float(memory[name]["noise_strength"]) for name in ("up_8", "conv_8")]
    assert row[5].strip() == ", ".join(f"{strength:.3f}" for strength in strengths)
    assert re.search(r"constant codes [\d.]+: [+-]0\.00$", text)


def test_the_probe_finds_what_is_linear_and_nothing_else(tool):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 40))
    colours = features @ rng.normal(size=(40, 3)) + 100
    noise = rng.normal(size=(200, 3))
    fit, held_out = slice(0, 150), slice(150, 200)

    def score(targets: np.ndarray) -> float:
        return tool.probed((features[fit], targets[fit]), (features[held_out], targets[held_out]))

    assert score(colours) > 0.999
    assert score(noise) < 0.1


def test_colours_are_those_of_the_known_pixels(tool, holes):
    known = holes.image[3][holes.mask[3, ..., 0] == 0].astype(np.float64)
    np.testing.assert_allclose(tool.colour_of(holes)[3], known.mean(0))


def test_the_command_prints_a_row_for_each_level(tool, tmp_path, capsys):
    folder = exported(tmp_path / "network")
    config = f"{ROOT / 'configs/demo.py'}:runlocal"

    assert tool.main([config, str(folder), "--pictures=9"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split("|")[1]) for line in lines if re.match(r"\| \d", line)] == LEVELS
    with pytest.raises(SystemExit):
        tool.main([config, str(folder), "--pictures=0"])
    assert "'0' is no whole number from 1" in capsys.readouterr().err
    assert tool.main([config, str(folder), "--config.image_size=64"]) == 2
    assert re.fullmatch(r"probe_network: error: .* 32 px.* 64;.*\n", capsys.readouterr().err)


def test_masks_without_the_holes_it_looks_at_are_refused(tool, tmp_path):
    (tmp_path / "test").mkdir()
    for path in asset_path("facades/test").glob("*.jpg"):
        with Image.open(path) as picture:
            Image.new("L", picture.size, 255).save(tmp_path / "test" / f"{path.stem}.png")
    config = read_config_file(f"{ROOT / 'configs/demo.py'}:runlocal")
    config.evaluation.masks = str(tmp_path)
    with pytest.raises(UserError, match=f"evaluation.masks = '{tmp_path}' has no holes of 30-40%"):
        tool.open_holes(config, 3)


def test_a_network_without_a_memory_is_refused(tool):
    with pytest.raises(UserError, match="base has no query codes"):
        tool.Probe(tiny_network("base"))
