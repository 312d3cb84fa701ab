"""The training loop, on a stage small enough to follow by hand."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gmsrm_jax.checkpoints import Checkpoints, checkpoint_folder
from gmsrm_jax.devices import data_mesh, replicated
from gmsrm_jax.errors import UserError
from gmsrm_jax.run_log import format_seconds, read_log
from gmsrm_jax.stages.base import TrainState
from gmsrm_jax.train import abstract_state, train_stage

BATCH = 4


class Data:
    """Batches that are a function of the step; optionally stops the run as a crash would."""

    num_examples = 100
    description = "numbers"

    def __init__(self, crash_at=None):
        self.crash_at = crash_at

    def batches(self, batch_size, start_step, salt, process_index=0, process_count=1):
        for step in itertools.count(start_step):
            if step == self.crash_at:
                raise RuntimeError("crash")
            yield {"image": np.random.default_rng((salt, step)).normal(size=(batch_size, 3))}


class Stage:
    """Moves a vector towards the batches' mean; every third step also runs a second program."""

    name, salt, batch_size = "toy", 7, BATCH
    save_every, validate_every = 5, 4

    def __init__(self, total_steps=12, bad_step=None):
        self.total_steps, self.bad_step = total_steps, bad_step
        self.programs = {"extra": self._extra, "main": self._main}
        self.constants = {"shift": jnp.zeros(())}

    def init(self, key, pretrained):
        weights = jax.random.normal(key, (3,)) + pretrained
        zero = jnp.zeros((), jnp.int32)
        return TrainState(zero, {"w": weights}, {"w": weights * 1.0}, {}, {}, {"runs": zero})

    def due(self, step):
        return ("extra", "main") if step % 3 == 0 else ("main",)

    def validate(self, state):
        return state, {"validation/score": float(state.average["w"].sum())}

    def panels(self, state):
        return {"square": np.zeros((4, 4, 3), np.uint8)}

    def _extra(self, state, batch):
        return state.replace(extra={"runs": state.extra["runs"] + 1}), {"loss/extra": jnp.ones(())}

    def _main(self, state, batch):
        key = jax.random.fold_in(jax.random.key(0), state.step)
        target = batch["image"].mean(0) + batch["shift"] + 0.1 * jax.random.normal(key, (3,))
        weights = state.params["w"] + 0.1 * (target - state.params["w"])
        average = 0.9 * state.average["w"] + 0.1 * weights
        loss = jnp.square(weights).sum()
        if self.bad_step is not None:
            loss = jnp.where(state.step + 1 == self.bad_step, jnp.nan, loss)
        state = state.replace(step=state.step + 1, params={"w": weights}, average={"w": average})
        return state, {"loss/main": loss}


def run(workdir, stage, data=None):
    train_stage(
        stage,
        data=data or Data(),
        workdir=workdir,
        mesh=data_mesh(),
        seed=3,
        pretrained=jnp.ones((3,)),
        log_every=2,
        optimization_level=1,
        tensorboard=False,
    )
    checkpoints = Checkpoints(checkpoint_folder(workdir, stage.name), read_only=True)
    target = abstract_state(stage, 3, jnp.ones((3,)))
    return checkpoints.restore(stage.total_steps, target, replicated(data_mesh()))


def lines(workdir):
    clock = ("seconds", "perf/images_per_second")
    log = read_log(workdir / "toy" / "log.jsonl")
    return [{k: v for k, v in line.items() if k not in clock} for line in log]


def test_runs_programs_when_due_and_logs_means_since_the_last_line(tmp_path):
    state = run(tmp_path, Stage())
    log = lines(tmp_path)
    assert int(state.step) == 12
    assert int(state.extra["runs"]) == 4
    assert [line["step"] for line in log] == [2, 4, 5, 6, 8, 10, 12]
    assert [line["images"] for line in log] == [BATCH * line["step"] for line in log]
    assert ["validation/score" in line for line in log] == [
        line["step"] in (4, 8, 12) for line in log
    ]
    assert sorted(p.name for p in (tmp_path / "toy" / "panels").iterdir()) == [
        f"square_{step:08d}.png" for step in (4, 8, 12)
    ]


@pytest.mark.parametrize("crash_at", [3, 6, 11])
def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, crash_at):
    whole = run(tmp_path / "whole", Stage())
    with pytest.raises(RuntimeError, match="crash"):
        run(tmp_path / "parts", Stage(), Data(crash_at))
    resumed = run(tmp_path / "parts", Stage())
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")


def test_finished_stage_is_not_run_again(tmp_path):
    first = run(tmp_path, Stage())
    again = run(tmp_path, Stage(), Data(crash_at=0))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_loss_that_is_not_finite_names_itself_its_step_and_the_last_good_checkpoint(tmp_path):
    with pytest.raises(UserError) as error:
        run(tmp_path, Stage(bad_step=10))
    assert "toy: loss/main is nan at step 10" in str(error.value)
    assert f"step 5 in {checkpoint_folder(tmp_path, 'toy')}" in str(error.value)
    assert "\n" not in str(error.value)
    checkpoints = Checkpoints(checkpoint_folder(tmp_path, "toy"))
    assert checkpoints.latest() == 5
    checkpoints.finish()


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    run(tmp_path, Stage(total_steps=22))
    steps = sorted(int(p.name) for p in checkpoint_folder(tmp_path, "toy").iterdir())
    assert steps == [20, 22]


def test_checkpoint_of_another_network_is_refused_by_folder_and_cure(tmp_path):
    run(tmp_path, Stage())
    stage = Stage(total_steps=20)
    stage.init = lambda key, pretrained: TrainState(
        jnp.zeros((), jnp.int32), {"v": jnp.zeros(5)}, {"w": jnp.zeros(3)}, {}, {}, {"runs": 0}
    )
    with pytest.raises(UserError, match=r"checkpoints/12 cannot be restored with this config"):
        run(tmp_path, stage)


def test_log_line_cut_off_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "lo')
    assert read_log(path) == [{"step": 1}]
    assert read_log(tmp_path / "missing.jsonl") == []


def test_seconds_are_shown_as_a_clock():
    assert format_seconds(42.4) == "0:42"
    assert format_seconds(725) == "12:05"
    assert format_seconds(11229) == "3:07:09"
    assert format_seconds(float("nan")) == "?"
