"""A method in one file: a convolution, a batch norm and a noise map, trained by an L1."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import (
    Batch,
    Context,
    Method,
    Noise,
    Scalars,
    StageSpec,
    TrainState,
    Variables,
    apply,
)
from gmsrm_jax.methods.stage import FillingStage, steps_of
from gmsrm_jax.nn.optimizers import average_weights
from gmsrm_jax.runtime.fields import Section, setting
from gmsrm_jax.runtime.pixels import to_signed


class Toy(Section):
    channels: int = setting(16, "width", gt=0, local=4)
    learning_rate: float = setting(0.01, "of Adam", ge=0)
    average: float = setting(0.9, "decay of the averaged weights", ge=0, le=1)
    length_kimg: float = setting(10.0, "length, thousand pictures", gt=0, local=0.064)


class Network(nn.Module):
    channels: int

    @nn.compact
    def __call__(
        self, image: jax.Array, mask: jax.Array, noise: jax.Array, training: bool = False
    ) -> jax.Array:
        """tanh(conv(relu(BN(conv([I·(1 - M), M, ε]))))), [N, S, S, 3]."""
        x = jnp.concatenate([image * (1 - mask), mask, noise], -1)
        x = nn.Conv(self.channels, (3, 3), use_bias=False, name="first")(x)
        x = nn.BatchNorm(use_running_average=not training, momentum=0.9, name="norm")(x)
        return jnp.tanh(nn.Conv(3, (3, 3), name="second")(nn.relu(x)))


def network(config: ConfigDict) -> Network:
    return Network(config.toy.channels)


def noise_shapes(config: ConfigDict) -> dict[str, tuple[int, ...]]:
    return {"epsilon": (config.image_size, config.image_size, 1)}


def init(config: ConfigDict, key: jax.Array) -> Variables:
    size = config.image_size
    inputs = [jnp.zeros((1, size, size, channels)) for channels in (3, 1, 1)]
    return {"painter": dict(network(config).init(key, *inputs))}


def fill(config: ConfigDict, variables: Variables, image: Any, mask: Any, noise: Noise) -> Any:
    return apply(network(config), variables["painter"], image, mask, noise["epsilon"])


class ToyStage(FillingStage):
    """Variables {painter}, with statistics; average {painter}."""

    salt = 1

    def __init__(self, config: ConfigDict, context: Context):
        steps = steps_of(config.toy.length_kimg, config.batch_size)
        super().__init__("painting", TOY, config, context, steps, save_every=3, validate_every=4)
        self.network = network(config)
        self.optimizer = optax.adam(config.toy.learning_rate)
        self.programs["main"] = self._main_step

    def init(self, key: jax.Array, given: Mapping[str, Any]) -> TrainState:
        del given
        variables = init(self.config, key)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            variables=variables,
            average=jax.tree.map(jnp.copy, variables),
            optimizer={"painter": self.optimizer.init(variables["painter"]["params"])},
            kept={},
            extra={},
        )

    def _main_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        image, mask = to_signed(batch["image"]), batch["mask"].astype(jnp.float32)
        before = state.variables["painter"]
        key = jax.random.fold_in(jax.random.key(self.seed), state.step)
        noise = jax.random.normal(key, mask.shape)

        def loss(params: Any) -> tuple[jax.Array, Any]:
            filled, renewed = self.network.apply(
                {**before, "params": params}, image, mask, noise, True, mutable=["batch_stats"]
            )
            return jnp.abs(filled - image).mean(), renewed["batch_stats"]

        (value, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(before["params"])
        updates, moved = self.optimizer.update(gradient, state.optimizer["painter"])
        params = optax.apply_updates(before["params"], updates)
        average = average_weights(
            state.average["painter"]["params"], params, self.config.toy.average
        )
        state = state.replace(
            step=state.step + 1,
            variables={"painter": {"params": params, "batch_stats": statistics}},
            average={"painter": {"params": average, "batch_stats": statistics}},
            optimizer={"painter": moved},
        )
        return state, {"loss/l1": value}


TOY = Method(
    name="toy",
    title="Toy",
    priors="B",
    about="A toy.",
    fill=fill,
    sections={"toy": Toy},
    shared={"batch_size": 4},
    network_fields=("toy.channels",),
    lengths=("toy.length_kimg",),
    stages=lambda config: (StageSpec("painting", lambda context: ToyStage(config, context)),),
    init=init,
    noise_shapes=noise_shapes,
)
