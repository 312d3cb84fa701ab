"""Both stages at 32 px with a few channels, synthetic pictures, and a record of their programs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from small_networks import compiled, filled_by_hand

from gmsrm_jax.config import apply_argument, base_config, check_config
from gmsrm_jax.methods.base import Context, Stage, TrainState
from gmsrm_jax.methods.gm_srm.method import GM_SRM
from gmsrm_jax.methods.gm_srm.stage_1 import MemoryStage
from gmsrm_jax.methods.gm_srm.stage_2 import InpaintingStage
from gmsrm_jax.nn.vgg import load_vgg19

SIZE, BATCH, PICTURES = 32, 4, 32


def small_config(**fields: Any) -> ConfigDict:
    """The local config, smaller still; `memory__augment="ada"` sets memory.augment."""
    config = apply_argument(base_config("gm_srm"), "runlocal")
    config.tensorboard = False
    config.batch_size = config.memory.batch_size = BATCH
    config.model.channel_base, config.model.channel_max = 128, 8
    config.model.code_dim, config.model.code_channels = 8, 4
    config.memory.validation_samples = 6
    config.inpainting.epochs = 1.0
    config.inpainting.discriminator_features = (4, 6, 8, 8)
    with config.unlocked():
        for name, value in fields.items():
            section, _, key = name.rpartition("__")
            (config[section] if section else config)[key] = value
    check_config(config)
    return config


def pictures(seed: int, count: int) -> dict[str, np.ndarray]:
    """Noise over a slope, uint8, with a hole of another place in each."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(40, 200, SIZE)[None, None, :, None] * np.ones((count, SIZE, 1, 3))
    image = np.clip(slope + rng.normal(0, 30, (count, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
    mask = np.zeros((count, SIZE, SIZE, 1), np.uint8)
    for index in range(count):
        row, column = rng.integers(0, SIZE // 2, 2)
        mask[index, row : row + SIZE // 2, column : column + SIZE // 2] = 1
    return {"image": image, "mask": mask}


def vgg(config: ConfigDict) -> Any:
    return load_vgg19("bundled", tuple(config.inpainting.perceptual_layers))


def context() -> Context:
    return Context(PICTURES, pictures(1, 6))


def memory_stage(config: ConfigDict) -> MemoryStage:
    return MemoryStage(config, context())


def inpainting_stage(config: ConfigDict) -> InpaintingStage:
    return InpaintingStage(GM_SRM, config, context())


def abstract_memory(config: ConfigDict) -> TrainState:
    """Shapes of stage 1's state."""
    return jax.eval_shape(memory_stage(config).init, jax.random.key(0), {})


def snapshot(config: ConfigDict) -> dict[str, Any]:
    """What stage 1 hands over, with weights drawn here."""
    kept = abstract_memory(config).kept
    return {
        "generator": filled_by_hand(kept["generator"], seed=5),
        "code_average": jnp.arange(config.model.code_dim, dtype=jnp.float32),
        "distance": jnp.ones(()),
        "step": jnp.asarray(7, jnp.int32),
    }


def initial(stage: Stage, given: dict[str, Any] | None = None) -> TrainState:
    """The first state; the key is of a kind that compiles fast."""
    return compiled(stage.init)(jax.random.key(0, impl="unsafe_rbg"), given or {})


class Call(NamedTuple):
    """One call of a program: the state on both sides, on the host, and what it measured."""

    before: TrainState
    after: TrainState
    scalars: dict[str, np.ndarray]


class Recorder:
    """Runs a stage's programs as the training loop does: compiled, the state's memory reused."""

    def __init__(self, stage: Stage):
        self.stage = stage
        self.programs = {
            name: compiled(program, donate_argnums=0) for name, program in stage.programs.items()
        }

    def call(self, name: str, state: TrainState, batch: dict[str, np.ndarray]) -> Call:
        """Runs one program on a state from the host."""
        batch = {**batch, **self.stage.constants}
        after, scalars = self.programs[name](jax.tree.map(jnp.array, state), batch)
        return Call(state, jax.device_get(after), jax.device_get(scalars))


def assert_slope(
    call: Callable[[TrainState], Call],
    state: TrainState,
    network: str,
    measure: Callable[[dict[str, Any]], float],
    b1: float,
    part: str = "",
) -> None:
    """Compares the gradient that an optimizer was given with the slope of what was measured.

    Args:
        call: runs a program on a state.
        state: a state whose optimizer has made no step yet, so that its first moment tells the
            gradient.
        network: which of the state's networks.
        measure: the scalar that this network minimises, from what the program measures.
        b1: decay of the first moment.
        part: only weights with this in their path. The square of a gradient jumps where a leaky
            ReLU turns, so a lazy program's slope can be had only behind the last of them.
    """
    first = call(state)
    gradient = {
        name.split(".mu")[1]: leaf.astype(np.float64) / (1 - b1)
        for name, leaf in leaves(first.after.optimizer[network]).items()
        if ".mu" in name
    }
    params = state.variables[network]["params"]
    assert gradient.keys() == leaves(params).keys()
    gradient = {name: g if part in name else 0 * g for name, g in gradient.items()}
    norm = np.sqrt(sum(np.square(g).sum() for g in gradient.values()))
    length = 0.002 * abs(measure(first.scalars)) / norm
    ends = []
    for side in (length, -length):

        def move(path: Any, leaf: np.ndarray, side: float = side) -> np.ndarray:
            moved = leaf + side * gradient[jax.tree_util.keystr(path)] / norm
            return moved.astype(np.float32)

        moved = {
            **state.variables[network],
            "params": jax.tree_util.tree_map_with_path(move, params),
        }
        there = call(state.replace(variables={**state.variables, network: moved}))
        ends.append(measure(there.scalars))
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * length), norm, rtol=0.03)


def assert_same(first: Any, second: Any) -> None:
    """Bit for bit the same trees."""
    jax.tree.map(np.testing.assert_array_equal, first, second)


def leaves(tree: Any) -> dict[str, np.ndarray]:
    """Leaves by their path."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in paths}
