"""What holds for every trained method of METHODS, at 32 px with few layers and channels.

Each method is trained once, from arrays, all its stages one after the other; the tests below ask
what that run left, and its compiled programs.
"""

import dataclasses
import functools
import shutil
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict
from small_networks import compiled
from small_stages import leaves

from gmsrm_jax.checkpoints.steps import step_folders
from gmsrm_jax.checkpoints.store import Checkpoints, checkpoint_folder
from gmsrm_jax.config import apply_argument, base_config, check_config
from gmsrm_jax.config.fields import flatten, set_fields
from gmsrm_jax.data.arrays import write_pictures
from gmsrm_jax.data.masks.bins import center_mask
from gmsrm_jax.data.masks.files import write_mask_bank
from gmsrm_jax.data.sources import open_pictures
from gmsrm_jax.export.graphs import make_graphs
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Context, Stage, TrainState
from gmsrm_jax.methods.filler import Filler
from gmsrm_jax.methods.variables import count_parameters
from gmsrm_jax.networks import load_pretrained
from gmsrm_jax.runtime.devices import replicated, to_devices, to_every_device
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.log import read_log
from gmsrm_jax.training import loop, run

SIZE, BATCH, STEPS, SAVED = 32, 4, 4, 3
# Compiling is most of this file's time: fields that a method may have, for few operations.
FEW = {
    "width": 4,
    "levels": 3,
    "residual_blocks": 1,
    "filling_layers": 1,
    "discriminator_features": (4, 8),
}
TRAINED = [name for name, method in METHODS.items() if method.stages is not None]
# Each method to one worker, and those with a memory to the one that trained it.
WORKERS = {name: "memory" if "memory" in base_config(name) else name for name in TRAINED}
PARAMETERS = [
    pytest.param(name, marks=pytest.mark.xdist_group(f"every_method_{WORKERS[name]}"))
    for name in TRAINED
]
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("name", PARAMETERS)]


def one_device() -> Mesh:
    return jax.make_mesh((1,), ("data",), (AxisType.Auto,), devices=jax.devices()[:1])


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Programs run a few times: no slow optimisations, random numbers or devices that wait."""
    usual = {"jax_disable_most_optimizations": False, "jax_default_prng_impl": "threefry2x32"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "data_mesh", one_device)
        jax.config.update("jax_disable_most_optimizations", True)
        jax.config.update("jax_default_prng_impl", "unsafe_rbg")
        yield
    for name, value in usual.items():
        jax.config.update(name, value)
    jax.clear_caches()  # JAX does not tell programs with one generator from those with another


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Forty pictures and nine holes, in files that a config can name."""
    folder = tmp_path_factory.mktemp("data")
    facades = open_pictures("bundled:facades/train")
    write_pictures(folder / "train.npy", [facades.image(i)[:64, :64] for i in range(40)])
    masks = [np.roll(center_mask(SIZE, r), s, 1) for r in (0.1, 0.3, 0.5) for s in (-4, 0, 6)]
    write_mask_bank(folder / "masks.npz", np.stack(masks).astype(np.uint8))
    return folder


def small_config(name: str, folder: Any, **fields: Any) -> ConfigDict:
    """The local config with STEPS steps in every stage that fills, and rates for these."""
    config = apply_argument(base_config(name), "runlocal")
    lengths = METHODS[name].lengths
    own = {length.split(".")[0] for length in lengths}
    known = flatten(config.to_dict())
    known = {key: value for key, value in known.items() if key.split(".")[0] in own}
    rates = [key for key in known if key.endswith("learning_rate") and "discriminator" not in key]
    constant = {key: 1.0 for key in known if key.endswith(".constant_share")}
    few = {
        key: value[:1]
        for key, value in known.items()
        if key.endswith("_layers") and isinstance(value, list)
    }
    few |= {key: FEW[name] for key in known if (name := key.split(".")[-1]) in FEW}
    small = {
        "tensorboard": False,
        "batch_size": BATCH,
        "xla_optimization_level": 0,
        "log_every": 1,
        "data.pipeline": "arrays",
        "data.train": str(folder / "train.npy"),
        "data.validation_bounds": [4, 4],
        "masks.bank": str(folder / "masks.npz"),
        **dict.fromkeys(lengths, STEPS * BATCH / 1000),
        **dict.fromkeys(rates, 1e-3),
        **constant,  # or the rate is 0 after STEPS steps
        **few,
        **{f"{section}.save_every": SAVED for section in own},
        **{f"{section}.validate_every": STEPS for section in own},
    }
    if "memory" in config:
        small |= {
            "model.channel_base": 128,
            "model.channel_max": 8,
            "model.code_dim": 8,
            "model.code_channels": 4,
            "memory.code_source": "mapping",
            "memory.length_kimg": 0.008,
            "memory.batch_size": BATCH,
            "memory.r1_interval": 0,  # stage 1 has tests of its own
            "memory.path_interval": 0,
            "memory.validation_samples": BATCH,
        }
    set_fields(config, small | fields)
    check_config(config)
    return config


@dataclasses.dataclass
class Trained:
    """A run: its config and folder, and by stage what the loop compiled and began with."""

    config: ConfigDict
    workdir: Any
    stages: dict[str, Stage]
    programs: dict[str, Any]
    states: dict[str, TrainState]

    def step(self, stage: str, state: TrainState, batch: dict[str, np.ndarray], at: int = 0) -> Any:
        """One step on a state from the host, as the loop makes it; back on the host."""
        mesh, scalars = one_device(), {}
        on_devices = to_devices(batch, mesh) | to_every_device(self.stages[stage].constants, mesh)
        state = to_every_device(state, mesh)
        for name in self.stages[stage].due(at):
            state, measured = self.programs[stage][name](state, on_devices)
            scalars |= jax.device_get(measured)
        return jax.device_get(state), scalars

    @property
    def own(self) -> list[str]:
        """The stages that no other method shares."""
        specs = METHODS[self.config.method].stages_of(self.config)
        return [spec.name for spec in specs if not spec.shared]


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    shared = {}  # where the stages were trained that methods have in common

    @functools.cache
    def of(name: str) -> Trained:
        config, workdir = small_config(name, pictures), tmp_path_factory.mktemp("run") / name
        found = Trained(config, workdir, {}, {}, {})

        def compile_programs(stage, *arguments):
            found.stages[stage.name] = stage
            found.programs[stage.name] = compile_programs_of_loop(stage, *arguments)
            return found.programs[stage.name]

        def initial_state(stage, *arguments):
            state = initial_state_of_loop(stage, *arguments)
            found.states[stage.name] = jax.device_get(state)
            return state

        compile_programs_of_loop, initial_state_of_loop = loop.compile_programs, loop.initial_state
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "compile_programs", compile_programs)
            patch.setattr(loop, "initial_state", initial_state)
            specs = METHODS[name].stages_of(config)
            known = {spec.name: shared[spec.name] for spec in specs if spec.name in shared}
            assert run.train(config, workdir, earlier=known)
        shared.update({spec.name: workdir for spec in specs if spec.shared} | known)
        return found

    return of


def batch_of(count: int = BATCH, hole: int | None = None, seed: int = 0) -> dict[str, np.ndarray]:
    """Pictures that the training has not seen, with a hole of another place in each."""
    facades, rng = open_pictures("bundled:facades/train"), np.random.default_rng(seed)
    image = np.stack([facades.image(50 + i)[:SIZE, :SIZE] for i in range(count)])
    mask = np.zeros((count, SIZE, SIZE, 1), np.uint8)
    for index in range(count):
        row, column = rng.integers(0, SIZE // 2, 2)
        mask[index, row : row + SIZE // 2, column : column + SIZE // 2] = 1
    return {"image": image, "mask": mask if hole is None else np.full_like(mask, hole)}


def test_a_run_leaves_a_network_that_fills(name, trained):
    found = trained(name)
    network = load_pretrained(found.workdir)
    assert network.method is METHODS[name]
    assert set(found.own) <= set(found.stages)
    for stage in found.own:
        lines = read_log(found.workdir / stage / "log.jsonl")
        assert lines[-1]["step"] == STEPS
        assert any(key.startswith("validation/") for key in lines[-1])
    for value in jax.tree.leaves(network.variables):
        assert np.isfinite(value).all()
    moved = [tree["params"] for tree in found.states[found.own[-1]].average.values()]
    count = sum(leaf.size for leaf in jax.tree.leaves(moved))
    assert count_parameters(network.method, found.config, network.variables)[0] == count


@pytest.fixture(scope="module")
def fillings(trained):
    """Fills two pictures at once with the trained network: float32 [2, S, S, 3]."""

    @functools.cache
    def of(name: str) -> Any:
        found = trained(name)
        variables = load_pretrained(found.workdir).variables
        filler = Filler(METHODS[name], found.config, variables, optimization_level=0)

        def fill(image: np.ndarray, mask: np.ndarray, places: tuple[int, int] = (0, 1)) -> Any:
            places = np.array(places)
            signed = image[places].astype(np.float32) / 127.5 - 1
            hole, numbers = mask[places].astype(np.float32), np.zeros(2, np.uint32)
            return filler.raw(signed, hole, numbers, numbers, mean=True)

        return fill

    return of


def test_a_filling_depends_on_known_pixels_and_not_on_the_hole(name, fillings):
    given, other = batch_of(2), batch_of(2)
    first = fillings(name)(**given)
    assert first.min() >= -1 and first.max() <= 1
    other["image"] = np.where(given["mask"] > 0, 255 - given["image"], given["image"])
    np.testing.assert_array_equal(fillings(name)(**other), first)
    other["image"] = np.where(given["mask"] > 0, given["image"], 255 - given["image"])
    assert np.abs(fillings(name)(**other) - first).max() > 1e-3


def test_a_picture_is_filled_alike_in_any_company(name, fillings):
    given = batch_of(2)
    both = fillings(name)(**given)
    assert np.abs(both[0] - both[1]).max() > 1e-3
    for place in (0, 1):
        alone = fillings(name)(**given, places=(place, place))
        np.testing.assert_allclose(alone[0], both[place], atol=1e-5)
        np.testing.assert_array_equal(alone[0], alone[1])


@pytest.mark.parametrize("hole", [0, 1])
def test_nothing_and_everything_to_fill_is_finite(name, hole, trained, fillings):
    assert np.isfinite(fillings(name)(**batch_of(2, hole))).all()
    found = trained(name)
    for stage in found.own:
        for at in (0, found.stages[stage].total_steps - 1):
            after, scalars = found.step(stage, found.states[stage], batch_of(hole=hole), at)
            assert all(np.isfinite(value) for value in scalars.values()), (stage, scalars)
            for tree in (after.variables, after.average):
                assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)), stage


def terms(scalars: dict[str, Any]) -> dict[str, float]:
    """Those of a loss that tell of the picture, not of a game against a discriminator."""
    return {
        key: float(value)
        for key, value in scalars.items()
        if key.startswith("loss/")
        and key != "loss/total"
        and not any(word in key for word in ("adversarial", "discriminator", "kl"))
    }


def test_steps_on_one_batch_lower_the_loss(name, trained):
    found, batch = trained(name), batch_of()
    for stage in found.own:
        state, seen = found.states[stage], []
        for _ in range(8):
            state, scalars = found.step(stage, state, batch)
            seen.append(terms(scalars))
        ratios = {key: seen[-1][key] / value for key, value in seen[0].items() if value}
        assert np.exp(np.mean(np.log(list(ratios.values())))) < 0.98, (stage, ratios)
        assert int(state.step) == 8


def test_micro_batches_make_the_same_step(name, trained, pictures):
    """Of the last stage, on pictures that are there twice, so that norms of a batch agree, too."""
    found, half = trained(name), batch_of(BATCH // 2)
    batch = {key: np.repeat(array, 2, axis=0) for key, array in half.items()}
    last = found.own[-1]
    whole, scalars = found.step(last, found.states[last], batch)
    config = small_config(name, pictures, accumulation=2)
    (spec,) = (s for s in METHODS[name].stages_of(config) if s.name == last)
    stage = spec.build(Context(40, found.stages[last].validation))
    (due,) = stage.due(0)
    parts, others = compiled(stage.programs[due])(found.states[last], batch | stage.constants)
    for key, value in scalars.items():
        np.testing.assert_allclose(others[key], value, rtol=5e-3, atol=1e-6, err_msg=key)
    for network, tree in whole.variables.items():
        there = leaves(parts.variables[network].get("batch_stats", {}))
        for path, one in leaves(tree.get("batch_stats", {})).items():
            np.testing.assert_allclose(there[path], one, rtol=1e-3, atol=1e-4, err_msg=path)
    for network, moments in whole.optimizer.items():
        first = {path: x for path, x in leaves(moments).items() if ".mu" in path}
        scale = max(np.abs(x).max() for x in first.values())
        for path, other in leaves(parts.optimizer[network]).items():
            if path in first:
                np.testing.assert_allclose(other, first[path], atol=5e-3 * scale, err_msg=path)


def last_state(workdir: Any, found: Trained, stage: str) -> TrainState:
    checkpoints = Checkpoints(checkpoint_folder(workdir, stage), read_only=True)
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), found.states[stage])
    state = checkpoints.restore(STEPS, target, replicated(one_device()))
    checkpoints.finish()
    return jax.device_get(state)


def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(name, trained, tmp_path, monkeypatch):
    """With the programs that the whole run compiled: to trace them again takes far longer."""
    found, parts = trained(name), tmp_path / "parts"
    last = found.own[-1]
    monkeypatch.setattr(run.Run, "describe", lambda *_: None)  # traces them, too
    monkeypatch.setattr(loop, "lower_programs", lambda *_: {})
    monkeypatch.setattr(loop, "compile_programs", lambda stage, *_: found.programs[stage.name])
    shutil.copytree(found.workdir, parts)
    shutil.rmtree(step_folders(checkpoint_folder(parts, last))[STEPS])
    shared = {spec.name: tmp_path for spec in METHODS[name].stages_of(found.config) if spec.shared}
    assert run.train(found.config, parts, earlier=shared)  # of which no more is asked
    whole, resumed = (last_state(workdir, found, last) for workdir in (found.workdir, parts))
    assert int(whole.step) == STEPS
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)


def test_graph_files_fill_as_the_network(name, trained):
    """The note of a file is written once its fillings are those of the network."""
    network = load_pretrained(trained(name).workdir)
    try:
        _, notes = make_graphs(network, True, True, None, lambda note: None)
        assert ["StableHLO" in note for note in notes] == [True, False]
    except UserError as error:
        assert "ONNX" in str(error) and "--stablehlo" in str(error)
        assert make_graphs(network, True, False, None, lambda note: None)[1]
