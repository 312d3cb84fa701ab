"""What the training loop asks of a stage, and the state that every stage evolves."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

Batch = Mapping[str, Any]
Scalars = dict[str, jax.Array]


class TrainState(flax.struct.PyTreeNode):
    """Everything that changes during a stage; a checkpoint holds all of it.

    Attributes:
        step: int32 scalar, completed steps.
        params: optimised weights by network.
        average: moving averages of weights, for evaluation and inference.
        optimizer: optimizer states by network.
        kept: weights that no optimizer moves: stage 1's best snapshot, stage 2's frozen memory.
        extra: the rest, such as power-iteration vectors or the path-length mean.
    """

    step: jax.Array
    params: dict[str, Any]
    average: dict[str, Any]
    optimizer: dict[str, Any]
    kept: dict[str, Any]
    extra: dict[str, Any]


Program = Callable[[TrainState, Batch], tuple[TrainState, Scalars]]


class Stage(Protocol):
    """A stage of training.

    Attributes:
        name: folder of its checkpoints and logs in the workdir.
        salt: separates its random numbers from those of other stages.
        batch_size: pictures in one step, over all devices.
        accumulation: micro-batches in one step.
        total_steps: length.
        save_every: steps between two checkpoints.
        validate_every: steps between two validations.
        constants: what every batch carries besides pictures and masks, such as VGG-19's weights.
        programs: the training programs by name; pure functions of (state, batch). Exactly one of
            those that a step runs, the last, increments the step.
    """

    name: str
    salt: int
    batch_size: int
    accumulation: int
    total_steps: int
    save_every: int
    validate_every: int
    constants: dict[str, Any]
    programs: dict[str, Program]

    def init(self, key: jax.Array, pretrained: Any) -> TrainState:
        """The state before the first step; pure, run under jit.

        Args:
            key: random key.
            pretrained: what an earlier stage hands over, as arrays; None if there is none.
        """
        ...

    def due(self, step: int) -> tuple[str, ...]:
        """Names of the programs that the step after `step` completed ones runs, in order."""
        ...

    def validate(self, state: TrainState) -> tuple[TrainState, dict[str, float]]:
        """Scores the averaged weights on the pictures kept aside; may keep a snapshot."""
        ...

    def panels(self, state: TrainState) -> dict[str, np.ndarray]:
        """Pictures to look at: name to uint8 [H, W, 3]."""
        ...


def apply(module: nn.Module, params: Any, *inputs: Any, method: str | None = None) -> Any:
    """Runs a module, or one of its methods, that has parameters and no other variables."""
    return module.apply({"params": params}, *inputs, method=method)


def to_signed(image: jax.Array | np.ndarray) -> jax.Array:
    """uint8 images 0 … 255 to float32 [-1, 1]."""
    return jnp.asarray(image, jnp.float32) / 127.5 - 1.0


def to_bytes(image: jax.Array | np.ndarray) -> np.ndarray:
    """Images [-1, 1] to uint8, rounded to the nearest and clipped."""
    scaled = (np.asarray(image, np.float32) + 1.0) * 127.5
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
