"""The training loop, on a stage small enough to follow by hand."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_stage import BATCH, GIVEN, Data, Stage, vector

from gmsrm_jax.checkpoints.store import Checkpoints, checkpoint_folder
from gmsrm_jax.methods.base import TrainState
from gmsrm_jax.runtime.devices import data_mesh, replicated
from gmsrm_jax.runtime.errors import NotFinite, Stopped, UserError
from gmsrm_jax.runtime.log import format_seconds, read_log
from gmsrm_jax.training import loop
from gmsrm_jax.training.loop import abstract_state, train_stage


def run(workdir, stage, data=None, max_skipped_updates=0, log_every=2):
    train_stage(
        stage,
        data=data or Data(),
        workdir=workdir,
        mesh=data_mesh(),
        seed=3,
        given=GIVEN,
        log_every=log_every,
        optimization_level=1,
        tensorboard=False,
        max_skipped_updates=max_skipped_updates,
    )
    checkpoints = Checkpoints(checkpoint_folder(workdir, stage.name), read_only=True)
    target = abstract_state(stage, 3, GIVEN)
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
    scores = {line["step"]: line.get("validation/score") for line in log}
    assert [step for step, score in scores.items() if score is not None] == [4, 8, 12]
    assert float(state.kept["score"]) == pytest.approx(scores[12])
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


def test_stop_does_not_wait_for_a_validation_that_is_due_and_the_next_start_makes_it_up(
    tmp_path, monkeypatch
):
    whole = run(tmp_path / "whole", Stage())
    steps = itertools.count(1)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "stop_agreed", lambda: next(steps) == 8)
        with pytest.raises(Stopped):
            run(tmp_path / "parts", Stage())
    assert "validation/score" not in lines(tmp_path / "parts")[-1]
    resumed = run(tmp_path / "parts", Stage())
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")


class HeavyStage(Stage):
    """Its steps take so long that the host could start many of them ahead."""

    def _main(self, state, batch):
        state, scalars = super()._main(state, batch)
        square = jnp.full((300, 300), scalars["loss/main"])
        busy = jax.lax.fori_loop(0, 20, lambda _, x: jnp.tanh(x @ x), square)
        return state, {**scalars, "loss/busy": busy.sum()}


@pytest.mark.parametrize(("long_step", "ahead"), [(60.0, 1), (0.0, 0)])
def test_a_signal_finds_at_most_two_short_steps_or_one_long_one_in_flight(
    tmp_path, monkeypatch, long_step, ahead
):
    compile_programs, started, unfinished = loop.compile_programs, [], []

    def watched(stage, *arguments):
        programs = compile_programs(stage, *arguments)

        def main(state, batch):
            unfinished.append(sum(not loss.is_ready() for loss in started))
            state, scalars = programs["main"](state, batch)
            started.append(scalars["loss/busy"])
            return state, scalars

        return {**programs, "main": main}

    monkeypatch.setattr(loop, "compile_programs", watched)
    monkeypatch.setattr(loop, "_LONG_STEP_SECONDS", long_step)
    stage = HeavyStage(total_steps=10)
    stage.save_every = stage.validate_every = 100
    run(tmp_path, stage, log_every=100)
    assert len(started) == 10
    assert max(unfinished) <= ahead


def test_finished_stage_is_not_run_again(tmp_path):
    first = run(tmp_path, Stage())
    again = run(tmp_path, Stage(), Data(crash_at=0))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_loss_that_is_not_finite_names_itself_its_step_and_the_last_good_checkpoint(tmp_path):
    with pytest.raises(NotFinite) as error:
        run(tmp_path, Stage(bad_step=10))
    assert error.value.exit_status == 3
    assert "toy: loss/main is nan at step 10" in str(error.value)
    assert f"step 5 in {checkpoint_folder(tmp_path, 'toy')}" in str(error.value)
    assert "\n" not in str(error.value)
    checkpoints = Checkpoints(checkpoint_folder(tmp_path, "toy"))
    assert checkpoints.latest() == 5
    checkpoints.finish()


def test_update_that_is_not_finite_can_be_left_out(tmp_path):
    before = run(tmp_path / "before", Stage(total_steps=9), max_skipped_updates=1)
    after = run(tmp_path / "after", Stage(total_steps=10, bad_step=10), max_skipped_updates=1)
    for name in ("variables", "average"):
        np.testing.assert_array_equal(vector(getattr(before, name)), vector(getattr(after, name)))
    assert int(after.step) == 10
    assert int(after.extra["runs"]) == 4  # the other program of the step was finite
    log = lines(tmp_path / "after")
    assert [line["guard/skipped"] for line in log] == [0, 0, 0, 0, 0, 1]
    assert np.isfinite(log[-1]["loss/main"])  # of step 9, in the same line


@pytest.mark.parametrize("bad_steps", [2, 3])
def test_more_updates_in_a_row_than_allowed_end_the_run(tmp_path, bad_steps):
    stage = Stage(bad_step=7, bad_steps=bad_steps)
    if bad_steps == 2:
        assert int(run(tmp_path, stage, max_skipped_updates=2).step) == 12
        assert sum(line["guard/skipped"] for line in lines(tmp_path)) == 2
        return
    with pytest.raises(NotFinite, match="loss/main is nan at step 9; after 2 left out"):
        run(tmp_path, stage, max_skipped_updates=2)


def test_run_is_the_same_when_nothing_has_to_be_left_out(tmp_path):
    plain = run(tmp_path / "plain", Stage())
    allowed = run(tmp_path / "allowed", Stage(), max_skipped_updates=3)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(allowed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_checkpoint_beyond_the_last_step_is_refused(tmp_path):
    run(tmp_path, Stage())
    with pytest.raises(UserError, match="stands at step 12, but the stage has only 8"):
        run(tmp_path, Stage(total_steps=8))


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    run(tmp_path, Stage(total_steps=22))
    steps = sorted(int(p.name) for p in checkpoint_folder(tmp_path, "toy").iterdir())
    assert steps == [20, 22]


def test_checkpoint_of_another_network_is_refused_by_folder_and_cure(tmp_path):
    run(tmp_path, Stage())
    stage = Stage(total_steps=20)
    stage.init = lambda key, given: TrainState(
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
