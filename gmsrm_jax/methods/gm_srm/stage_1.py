"""Stage 1: pre-training of the generative memory in StyleGAN2's way (arXiv 1912.04958)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Batch, Context, StageSpec, TrainState, apply
from gmsrm_jax.methods.gm_srm.distance import DISTANCE_LAYERS, FeatureDistance
from gmsrm_jax.methods.gm_srm.fields import MEMORY_FIELDS
from gmsrm_jax.methods.gm_srm.growth import grow, growth
from gmsrm_jax.methods.gm_srm.memory import draw_noise
from gmsrm_jax.methods.gm_srm.stage_1_programs import SALT, MemoryPrograms
from gmsrm_jax.methods.stage import steps_of
from gmsrm_jax.nn.vgg import load_vgg19
from gmsrm_jax.runtime.image_grid import holed
from gmsrm_jax.runtime.pixels import to_bytes, to_signed

_DISTANCE = "validation/vgg_distance"


class MemoryStage:
    """Trains code source, memory and discriminator; keeps the snapshot nearest to other pictures.

    The state's parts: variables {generator, discriminator}, average {generator}, kept {generator,
    code_average, distance, step} (the snapshot), extra {path_mean, code_average, ada_p, ada_sign,
    ada_count}.
    """

    name = "memory"
    salt = stream = SALT

    def __init__(self, config: ConfigDict, context: Context):
        """Prepares the stage.

        Args:
            config: the run's config.
            context: what the data say.
        """
        settings = config.memory
        self.settings = settings
        self.batch_size, self.accumulation = settings.batch_size, config.accumulation
        self.total_steps = steps_of(settings.length_kimg, settings.batch_size)
        self.save_every, self.validate_every = settings.save_every, settings.validate_every
        self.batches = {"memory.batch_size": int(settings.batch_size)}
        if settings.path_interval and self.accumulation > 1:
            shrunk = settings.batch_size // settings.path_batch_shrink
            self.batches["memory.batch_size / memory.path_batch_shrink"] = shrunk
        self.seed, self.code_dim = config.seed, config.model.code_dim
        self.trained = MemoryPrograms(config)
        self.generator, self.discriminator = self.trained.generator, self.trained.discriminator
        self.programs = self.trained.programs
        self.constants: dict[str, Any] = {}
        self.validation = context.validation
        # Whatever VGG the losses of a later stage need: one memory serves several methods.
        vgg = load_vgg19("bundled", DISTANCE_LAYERS)
        self.distance = FeatureDistance(vgg, self.validation["image"])
        self._sample = jax.jit(self._sample_batch)
        self._keep = jax.jit(self._keep_snapshot)

    def init(self, key: jax.Array, given: Mapping[str, Any]) -> TrainState:
        """Draws every weight, or begins with those of a smaller stage 1.

        Args:
            key: random key.
            given: {"grow_from": {"variables", "average", "extra"}} of the smaller one's state; {}
                for a start from nothing.
        """
        keys = jax.random.split(key, 3)
        trained = self.trained
        size = trained.resolutions[-1]
        image, mask = jnp.zeros((1, size, size, 3)), jnp.zeros((1, size, size, 1))
        latent, noise = jnp.zeros((1, self.code_dim)), draw_noise(keys[0], 1, trained.resolutions)
        generator = self.generator.init(keys[1], image, mask, latent, noise)["params"]
        discriminator = self.discriminator.init(keys[2], image)["params"]
        average = jax.tree.map(jnp.copy, generator)
        code_average = jnp.zeros((self.code_dim,))
        if "grow_from" in given:
            smaller = given["grow_from"]
            average = grow(generator, smaller["average"]["generator"]["params"])
            generator = grow(generator, smaller["variables"]["generator"]["params"])
            discriminator = grow(discriminator, smaller["variables"]["discriminator"]["params"])
            code_average = jnp.copy(smaller["extra"]["code_average"])
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            variables={
                "generator": {"params": generator},
                "discriminator": {"params": discriminator},
            },
            average={"generator": {"params": average}},
            optimizer={
                "generator": trained.generator_optimizer.init(generator),
                "discriminator": trained.discriminator_optimizer.init(discriminator),
            },
            kept={
                "generator": {"params": jax.tree.map(jnp.copy, generator)},
                "code_average": jnp.zeros((self.code_dim,)),
                "distance": jnp.asarray(jnp.inf),
                "step": jnp.zeros((), jnp.int32),
            },
            extra={
                "code_average": code_average,
                **{n: jnp.zeros(()) for n in ("path_mean", "ada_p", "ada_sign", "ada_count")},
            },
        )

    def due(self, step: int) -> tuple[str, ...]:
        """The lazy regularisers on their intervals, then the main step."""
        settings = self.settings
        names = []
        if settings.r1_interval and step % settings.r1_interval == 0:
            names.append("r1")
        if settings.path_interval and step % settings.path_interval == 0:
            names.append("path")
        return (*names, "main")

    def validate(self, state: TrainState) -> dict[str, float]:
        """Distance of the averaged generator to the pictures kept aside."""
        count = self.settings.validation_samples
        size = self.batch_size
        batches = [self._samples(state, index) for index in range(-(-count // size))]
        distance = float(self.distance(np.concatenate(batches)[:count]))
        return {
            _DISTANCE: distance,
            # As float32, in which it is kept; a distance that is not a number is never the best.
            "validation/best_vgg_distance": float(
                np.fmin(np.float32(distance), np.float32(state.kept["distance"]))
            ),
        }

    def keep(self, state: TrainState, scores: Mapping[str, float]) -> TrainState:
        """Keeps the averaged generator if it is the nearest so far."""
        if scores[_DISTANCE] < float(state.kept["distance"]):
            return self._keep(state, np.float32(scores[_DISTANCE]))
        return state

    def panels(self, state: TrainState) -> dict[str, tuple[np.ndarray, int]]:
        """Samples of the averaged generator; with the encoder source, what each was asked with."""
        samples = to_bytes(self._samples(state, 0)[:16])
        panels = {"samples": (samples, 8)}
        if self.settings.code_source == "encoder":
            given = self._inputs(0)
            panels["asked_with"] = (holed(given["image"], given["mask"])[:16], 8)
        return panels

    def _inputs(self, index: int) -> dict[str, np.ndarray]:
        """Batch `index` of the pictures kept aside, in turn."""
        count = len(self.validation["image"])
        rows = (index * self.batch_size + np.arange(self.batch_size)) % count
        return {name: values[rows] for name, values in self.validation.items()}

    def _samples(self, state: TrainState, index: int) -> np.ndarray:
        inputs = self._inputs(index)
        return np.asarray(
            self._sample(state.average["generator"], inputs, np.int32(index)), np.float32
        )

    def _sample_batch(self, variables: Any, inputs: Batch, index: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(self.seed), index)
        image, mask = to_signed(inputs["image"]), inputs["mask"].astype(jnp.float32)
        latent, noise = self.trained.draw_inputs(key, image.shape[0])
        return apply(self.trained.exact_generator, variables, image, mask, latent, noise)

    def _keep_snapshot(self, state: TrainState, distance: jax.Array) -> TrainState:
        kept = {
            "generator": state.average["generator"],
            "code_average": state.extra["code_average"],
            "distance": distance,
            "step": state.step,
        }
        return state.replace(kept=kept)


def memory_spec(config: ConfigDict) -> StageSpec:
    """Stage 1 as a method has it among its stages."""
    return StageSpec(
        MemoryStage.name,
        lambda context: MemoryStage(config, context),
        grow_from=growth(config, "memory", "variables", "average", "extra"),
        shared=MEMORY_FIELDS,
    )
