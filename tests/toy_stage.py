"""A stage small enough to follow by hand, and its batches."""

import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np

from gmsrm_jax.methods.base import TrainState

BATCH = 4
GIVEN = {"begin_from": np.ones((3,), np.float32)}


class Data:
    """Batches that are a function of the step; optionally stops the run as a crash would."""

    num_examples = 100
    description = fingerprint = "numbers"
    bad = None

    def __init__(self, crash_at=None, seconds=0.0):
        self.crash_at, self.seconds = crash_at, seconds

    def batches(self, batch_size, start_step, salt, process_index=0, process_count=1):
        for step in itertools.count(start_step):
            if step == self.crash_at:
                raise RuntimeError("crash")
            time.sleep(self.seconds)
            whole = np.random.default_rng((salt, step)).normal(size=(batch_size, 3))
            rows = batch_size // process_count
            yield {"image": whole[process_index * rows : (process_index + 1) * rows]}


def network(weights):
    """A vector as the variables of a network."""
    return {"toy": {"params": {"w": weights}}}


def vector(variables):
    return variables["toy"]["params"]["w"]


@jax.jit
def _keep(state, score):
    return state.replace(kept={"score": score})


class Stage:
    """Moves a vector towards the batches' mean; every third step also runs a second program."""

    name, salt, stream, batch_size, accumulation = "toy", 7, 7, BATCH, 1
    save_every, validate_every = 5, 4

    def __init__(self, total_steps=12, bad_step=None, bad_steps=1):
        self.total_steps, self.bad_step, self.bad_steps = total_steps, bad_step, bad_steps
        self.programs = {"extra": self._extra, "main": self._main}
        self.constants, self.batches = {"shift": jnp.zeros(())}, {"batch_size": BATCH}

    def init(self, key, given):
        weights = jax.random.normal(key, (3,)) + given["begin_from"]
        zero = jnp.zeros((), jnp.int32)
        return TrainState(
            step=zero,
            variables=network(weights),
            average=network(weights * 1.0),
            optimizer={},
            kept={"score": jnp.zeros(())},
            extra={"runs": zero},
        )

    def due(self, step):
        return ("extra", "main") if step % 3 == 0 else ("main",)

    def validate(self, state):
        return {"validation/score": float(vector(state.average).sum())}

    def keep(self, state, scores):
        return _keep(state, np.float32(scores["validation/score"]))

    def panels(self, state):
        return {"square": (np.zeros((4, 2, 2, 3), np.uint8), 2)}

    def _extra(self, state, batch):
        return state.replace(extra={"runs": state.extra["runs"] + 1}), {"loss/extra": jnp.ones(())}

    def _main(self, state, batch):
        key = jax.random.fold_in(jax.random.key(0), state.step)
        target = batch["image"].mean(0) + batch["shift"] + 0.1 * jax.random.normal(key, (3,))
        before = vector(state.variables)
        weights = before + 0.1 * (target - before)
        average = 0.9 * vector(state.average) + 0.1 * weights
        loss = jnp.square(weights).sum()
        if self.bad_step is not None:
            since = state.step + 1 - self.bad_step
            loss = jnp.where((since >= 0) & (since < self.bad_steps), jnp.nan, loss)
        state = state.replace(
            step=state.step + 1, variables=network(weights), average=network(average)
        )
        return state, {"loss/main": loss}
