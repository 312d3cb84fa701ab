"""Stage 1: pre-training of the generative memory in StyleGAN2's way (arXiv 1912.04958)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from gmsrm_jax import augment, losses
from gmsrm_jax.models.discriminators import MemoryDiscriminator
from gmsrm_jax.models.memory import NOISE_STRENGTH, channel_table, draw_noise
from gmsrm_jax.models.pretraining import MemoryGenerator, mix_codes
from gmsrm_jax.models.vgg import Vgg19Weights
from gmsrm_jax.optimizers import average_weights, ema_decay, lazy_adam
from gmsrm_jax.panels import grid
from gmsrm_jax.stages.base import Batch, Program, Scalars, TrainState, apply, to_bytes, to_signed
from gmsrm_jax.stages.distance import FeatureDistance

_CODE_AVERAGE_DECAY = 0.995


class MemoryStage:
    """Trains code source, memory and discriminator; keeps the snapshot nearest to other pictures.

    The state's parts: params {generator, discriminator}, average {generator}, kept {generator,
    code_average, distance, step} (the snapshot), extra {path_mean, code_average, ada_p, ada_sign,
    ada_count}.
    """

    name = "memory"
    salt = 1

    def __init__(self, config: ConfigDict, validation: dict[str, np.ndarray], vgg: Vgg19Weights):
        """Prepares the stage.

        Args:
            config: the run's config.
            validation: {"image": uint8 [k, S, S, 3], "mask": uint8 [k, S, S, 1]} kept aside.
            vgg: features of the distance that chooses the snapshot.
        """
        settings = config.memory
        self.settings = settings
        self.batch_size = settings.batch_size
        self.total_steps = max(round(settings.length_kimg * 1000 / settings.batch_size), 1)
        self.save_every, self.validate_every = settings.save_every, settings.validate_every
        self.seed = config.seed
        channels = channel_table(
            config.image_size, config.model.channel_base, config.model.channel_max
        )
        self.resolutions = sorted(channels)
        self.code_dim = config.model.code_dim
        self.generator = MemoryGenerator(
            channels,
            settings.code_source,
            config.model.code_dim,
            config.model.code_channels,
            settings.mapping_layers,
            settings.noise_strength_init,
        )
        self.discriminator = MemoryDiscriminator(channels)
        self.r1_gamma = settings.r1_gamma * config.image_size**2 / settings.batch_size
        self.generator_optimizer = optax.partition(
            {
                "synthesis": lazy_adam(
                    settings.learning_rate, settings.betas, settings.path_interval
                ),
                "encoder": lazy_adam(
                    settings.encoder_learning_rate, settings.betas, settings.path_interval
                ),
            },
            lambda params: {
                part: "synthesis" if part in ("memory", "mapping") else "encoder" for part in params
            },
        )
        self.discriminator_optimizer = lazy_adam(
            settings.learning_rate, settings.betas, settings.r1_interval
        )
        self.constants: dict[str, Any] = {}
        self.programs: dict[str, Program] = {
            "r1": self._r1_step,
            "path": self._path_step,
            "main": self._main_step,
        }
        self.validation = validation
        self.distance = FeatureDistance(vgg, validation["image"])
        self._sample = jax.jit(self._sample_batch)
        self._keep = jax.jit(self._keep_snapshot)

    def init(self, key: jax.Array, pretrained: Any = None) -> TrainState:
        """Draws every weight; nothing comes from an earlier stage."""
        del pretrained
        keys = jax.random.split(key, 3)
        size = self.resolutions[-1]
        image, mask = jnp.zeros((1, size, size, 3)), jnp.zeros((1, size, size, 1))
        latent, noise = jnp.zeros((1, self.code_dim)), draw_noise(keys[0], 1, self.resolutions)
        generator = self.generator.init(keys[1], image, mask, latent, noise)["params"]
        discriminator = self.discriminator.init(keys[2], image)["params"]
        params = {"generator": generator, "discriminator": discriminator}
        zero = jnp.zeros(())
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            average={"generator": jax.tree.map(jnp.copy, generator)},
            optimizer={
                "generator": self.generator_optimizer.init(generator),
                "discriminator": self.discriminator_optimizer.init(discriminator),
            },
            kept={
                "generator": jax.tree.map(jnp.copy, generator),
                "code_average": jnp.zeros((self.code_dim,)),
                "distance": jnp.asarray(jnp.inf),
                "step": jnp.zeros((), jnp.int32),
            },
            extra={
                "path_mean": zero,
                "code_average": jnp.zeros((self.code_dim,)),
                "ada_p": jnp.zeros(()),
                "ada_sign": jnp.zeros(()),
                "ada_count": jnp.zeros(()),
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

    def validate(self, state: TrainState) -> tuple[TrainState, dict[str, float]]:
        """Distance of the averaged generator to the pictures kept aside; keeps the nearest."""
        count = self.settings.validation_samples
        size = self.batch_size
        batches = [self._samples(state, index) for index in range(-(-count // size))]
        distance = self.distance(np.concatenate(batches)[:count])
        best = distance < float(state.kept["distance"])
        if best:
            state = self._keep(state, np.float32(distance))
        return state, {
            "validation/vgg_distance": distance,
            "validation/best_vgg_distance": float(state.kept["distance"]),
        }

    def panels(self, state: TrainState) -> dict[str, np.ndarray]:
        """Samples of the averaged generator; with the encoder source, what each was asked with."""
        samples = to_bytes(self._samples(state, 0))[:16]
        panels = {"samples": grid(samples, 8)}
        if self.settings.code_source == "encoder":
            given = self._inputs(0)
            held = np.where(given["mask"] > 0, 127, given["image"])[:16]
            panels["asked_with"] = grid(held.astype(np.uint8), 8)
        return panels

    def noise_strengths(self, state: TrainState) -> dict[str, jax.Array]:
        """The learned noise strength of every layer of the memory."""
        layers = state.params["generator"]["memory"]
        return {
            f"noise_strength/{name}": layer[NOISE_STRENGTH]
            for name, layer in sorted(layers.items())
            if isinstance(layer, dict) and NOISE_STRENGTH in layer
        }

    def _inputs(self, index: int) -> dict[str, np.ndarray]:
        """Batch `index` of the pictures kept aside, in turn."""
        rows = (index * self.batch_size + np.arange(self.batch_size)) % len(
            self.validation["image"]
        )
        return {name: values[rows] for name, values in self.validation.items()}

    def _samples(self, state: TrainState, index: int) -> np.ndarray:
        inputs = self._inputs(index)
        return np.asarray(
            self._sample(state.average["generator"], inputs, np.int32(index)), np.float32
        )

    def _sample_batch(self, params: Any, inputs: Batch, index: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(self.seed), index)
        image, mask, latent, noise = self._generator_inputs(key, inputs)
        return apply(self.generator, params, image, mask, latent, noise)

    def _keep_snapshot(self, state: TrainState, distance: jax.Array) -> TrainState:
        kept = {
            "generator": state.average["generator"],
            "code_average": state.extra["code_average"],
            "distance": distance,
            "step": state.step,
        }
        return state.replace(kept=kept)

    def _generator_inputs(
        self, key: jax.Array, batch: Batch
    ) -> tuple[jax.Array, jax.Array, jax.Array, list[jax.Array]]:
        image, mask = to_signed(batch["image"]), batch["mask"].astype(jnp.float32)
        key_latent, key_noise = jax.random.split(key)
        count = image.shape[0]
        latent = jax.random.normal(key_latent, (count, self.code_dim))
        return image, mask, latent, draw_noise(key_noise, count, self.resolutions)

    def _key(self, state: TrainState, program: int) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(self.seed), self.salt)
        return jax.random.fold_in(jax.random.fold_in(key, state.step), program)

    def _augment(self, key: jax.Array, images: jax.Array, probability: jax.Array) -> jax.Array:
        kind = self.settings.augment
        if kind == "diffaug":
            return augment.diff_augment(key, images)
        if kind == "ada":
            return augment.ada_augment(key, images, probability)
        return images

    def _logits(self, params: Any, images: jax.Array) -> jax.Array:
        return apply(self.discriminator, params, images)

    def _main_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        """One step of generator and discriminator, both on the same generated images."""
        settings, generator = self.settings, self.generator
        keys = jax.random.split(self._key(state, 0), 5)
        image, mask, latent, noise = self._generator_inputs(keys[0], batch)
        probability = state.extra["ada_p"]
        discriminator = state.params["discriminator"]

        def generator_loss(params: Any) -> tuple[jax.Array, tuple[Scalars, jax.Array, jax.Array]]:
            codes = apply(generator, params, image, mask, latent, method="codes")
            mixed = codes
            if settings.style_mixing:
                others = jnp.roll(codes, 1, axis=0)
                mixed = mix_codes(keys[1], codes, others, settings.style_mixing)
            fake = apply(generator, params, mixed, noise, method="synthesise")
            logits = self._logits(discriminator, self._augment(keys[2], fake, probability))
            scalars = {"loss/generator": losses.logistic_generator_loss(logits)}
            total = scalars["loss/generator"]
            if settings.reconstruction_weight:
                own = jnp.all(mixed == codes, axis=(1, 2)).astype(jnp.float32)
                error = jnp.abs(fake - image).mean((1, 2, 3))
                scalars["loss/reconstruction"] = (own * error).sum() / jnp.maximum(own.sum(), 1.0)
                total += settings.reconstruction_weight * scalars["loss/reconstruction"]
            return total, (scalars, fake, codes)

        def discriminator_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            real_logits = self._logits(params, self._augment(keys[3], image, probability))
            fake_logits = self._logits(params, self._augment(keys[2], fake, probability))
            loss = losses.logistic_discriminator_loss(real_logits, fake_logits)
            return loss, (real_logits, fake_logits)

        (_, (scalars, fake, codes)), gradient = jax.value_and_grad(generator_loss, has_aux=True)(
            state.params["generator"]
        )
        # Adding zero makes the discriminator wait for the generator's gradient: side by side, the
        # activations of both would not fit in 24 GiB. XLA drops an optimization barrier on a CPU.
        generator_norm = optax.global_norm(gradient)
        fake = jax.lax.stop_gradient(fake) + 0.0 * generator_norm
        (loss, (real, fake_logits)), discriminator_gradient = jax.value_and_grad(
            discriminator_loss, has_aux=True
        )(discriminator)
        state = self._move(state, "generator", gradient)
        state = self._move(state, "discriminator", discriminator_gradient)
        seen = (state.step + 1) * self.batch_size
        decay = ema_decay(seen, self.batch_size, settings.ema_kimg * 1000, settings.ema_rampup)
        average = {
            "generator": average_weights(
                state.average["generator"], state.params["generator"], decay
            )
        }
        extra = dict(state.extra)
        extra["code_average"] = average_weights(
            extra["code_average"], codes[:, 0].mean(0), _CODE_AVERAGE_DECAY
        )
        sign = jnp.sign(real).mean()
        extra.update(self._adapt(state, extra, sign))
        scalars |= {
            "loss/discriminator": loss,
            "logits/real": real.mean(),
            "logits/fake": fake_logits.mean(),
            "gradient/generator": generator_norm,
            "gradient/discriminator": optax.global_norm(discriminator_gradient),
            "ada/r_t": sign,
            "ada/p": extra["ada_p"],
            **self.noise_strengths(state),
        }
        return state.replace(step=state.step + 1, average=average, extra=extra), scalars

    def _adapt(self, state: TrainState, extra: Scalars, sign: jax.Array) -> Scalars:
        """ADA's p, moved every `ada_interval` steps by the mean sign since it was last moved."""
        settings = self.settings
        total, count = extra["ada_sign"] + sign, extra["ada_count"] + 1.0
        due = (state.step + 1) % settings.ada_interval == 0
        moved = augment.adapt_probability(
            extra["ada_p"],
            total / count,
            settings.ada_target,
            settings.ada_interval * self.batch_size,
            settings.ada_kimg,
        )
        moves = due & (settings.augment == "ada")
        return {
            "ada_p": jnp.where(moves, moved, extra["ada_p"]),
            "ada_sign": jnp.where(due, 0.0, total),
            "ada_count": jnp.where(due, 0.0, count),
        }

    def _r1_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        """Lazy R1 on the discriminator, weighted by its interval."""
        settings = self.settings
        key = self._key(state, 1)
        image = to_signed(batch["image"])

        def loss(params: Any) -> tuple[jax.Array, jax.Array]:
            def logits(images: jax.Array) -> jax.Array:
                return self._logits(params, self._augment(key, images, state.extra["ada_p"]))

            penalty = losses.r1_penalty(logits, image)
            return self.r1_gamma * settings.r1_interval * penalty, penalty

        gradient, penalty = jax.grad(loss, has_aux=True)(state.params["discriminator"])
        scalars = {
            "loss/r1": self.r1_gamma * penalty,
            "gradient/r1": optax.global_norm(gradient),
        }
        return self._move(state, "discriminator", gradient), scalars

    def _path_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        """Lazy path-length regularisation of the generator, on a part of the batch."""
        settings, generator = self.settings, self.generator
        keys = jax.random.split(self._key(state, 2), 2)
        part = {name: batch[name][:: settings.path_batch_shrink] for name in ("image", "mask")}
        image, mask, latent, noise = self._generator_inputs(keys[0], part)

        def loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            codes = apply(generator, params, image, mask, latent, method="codes")

            def synthesise(codes: jax.Array) -> jax.Array:
                return apply(generator, params, codes, noise, method="synthesise")

            lengths = losses.path_lengths(synthesise, codes, keys[1])
            mean = average_weights(
                state.extra["path_mean"], lengths.mean(), 1.0 - settings.path_decay
            )
            penalty = jnp.square(lengths - mean).mean()
            return settings.path_weight * settings.path_interval * penalty, (penalty, mean)

        gradient, (penalty, mean) = jax.grad(loss, has_aux=True)(state.params["generator"])
        state = self._move(state, "generator", gradient)
        extra = {**state.extra, "path_mean": jax.lax.stop_gradient(mean)}
        return state.replace(extra=extra), {
            "loss/path_length": settings.path_weight * penalty,
            "path/mean_length": mean,
            "gradient/path_length": optax.global_norm(gradient),
        }

    def _move(self, state: TrainState, network: str, gradient: Any) -> TrainState:
        """Applies one optimizer step to a network."""
        optimizer = (
            self.generator_optimizer if network == "generator" else self.discriminator_optimizer
        )
        params = state.params[network]
        updates, moved = optimizer.update(gradient, state.optimizer[network], params)
        return state.replace(
            params={**state.params, network: optax.apply_updates(params, updates)},
            optimizer={**state.optimizer, network: moved},
        )
