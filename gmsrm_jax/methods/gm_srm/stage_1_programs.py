"""The training programs of stage 1: main, R1 and path length, over networks and optimizers."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Batch, Program, Scalars, TrainState, Variables, apply
from gmsrm_jax.methods.gm_srm import augment
from gmsrm_jax.methods.gm_srm.generator import build_generator, draw_cuts, mix_codes
from gmsrm_jax.methods.gm_srm.memory import NOISE_STRENGTH, code_levels, draw_noise
from gmsrm_jax.methods.gm_srm.memory_discriminator import build_discriminator
from gmsrm_jax.nn import losses
from gmsrm_jax.nn.adversarial import Loss, Played, average_variables, gradient_step
from gmsrm_jax.nn.optimizers import average_weights, ema_decay, lazy_adam
from gmsrm_jax.runtime.pixels import to_signed

SALT = 1  # separates the random numbers of stage 1 from those of other stages
_CODE_AVERAGE_DECAY = 0.995


class MemoryPrograms:
    """Stage 1's networks, their optimizers, and the programs that move a state.

    Attributes:
        generator: with feature maps in `config.compute_dtype`.
        discriminator: likewise.
        exact_generator: the same network in float32, for path length and samples.
        exact_discriminator: the same in float32, for R1.
        programs: by name; a regulariser that is switched off has none.
    """

    def __init__(self, config: ConfigDict):
        """Builds networks and optimizers."""
        settings = self.settings = config.memory
        self.batch_size, self.accumulation = settings.batch_size, config.accumulation
        self.seed = config.seed
        self.code_dim = config.model.code_dim
        self.generator = build_generator(config, config.compute_dtype)
        self.resolutions = sorted(self.generator.channels)
        self.discriminator = build_discriminator(config, config.compute_dtype)
        self.exact_generator = self.generator.clone(dtype=jnp.float32)
        self.exact_discriminator = self.discriminator.clone(dtype=jnp.float32)
        self.r1_gamma = settings.r1_gamma * config.image_size**2 / settings.batch_size
        rates = {
            "synthesis": settings.learning_rate,
            "encoder": settings.encoder_learning_rate,
        }
        self.generator_optimizer = optax.partition(
            {
                "fixed": optax.set_to_zero(),
                **{
                    part: lazy_adam(rate, settings.betas, settings.path_interval)
                    for part, rate in rates.items()
                },
            },
            self._optimizer_parts,
        )
        self.discriminator_optimizer = lazy_adam(
            settings.learning_rate, settings.betas, settings.r1_interval
        )
        self.programs: dict[str, Program] = {}
        if settings.r1_interval:
            self.programs["r1"] = self._r1_step
        if settings.path_interval:
            self.programs["path"] = self._path_step
        self.programs["main"] = self._main_step

    def noise_strengths(self, state: TrainState) -> dict[str, jax.Array]:
        """The learned noise strength of every layer of the memory."""
        layers = state.variables["generator"]["params"]["memory"]
        return {
            f"noise_strength/{name}": layer[NOISE_STRENGTH]
            for name, layer in sorted(layers.items())
            if isinstance(layer, dict) and NOISE_STRENGTH in layer
        }

    def _optimizer_parts(self, params: Any) -> Any:
        """Names the optimizer of every weight of the generator."""
        flat = {}
        for path in traverse_util.flatten_dict(params):
            own = "synthesis" if path[0] in ("memory", "mapping") else "encoder"
            keeps = path[-1] == NOISE_STRENGTH and not self.settings.train_noise_strength
            flat[path] = "fixed" if keeps else own
        return traverse_util.unflatten_dict(flat)

    def draw_inputs(self, key: jax.Array, count: int) -> tuple[jax.Array, list[jax.Array]]:
        """Latents [count, D] and noise maps of the generator for so many examples."""
        key_latent, key_noise = jax.random.split(key)
        latent = jax.random.normal(key_latent, (count, self.code_dim))
        return latent, draw_noise(key_noise, count, self.resolutions)

    def _key(self, state: TrainState, program: int) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(self.seed), SALT)
        return jax.random.fold_in(jax.random.fold_in(key, state.step), program)

    def _draw_view(self, key: jax.Array, count: int, probability: jax.Array) -> Any:
        """What the augmentation draws for so many images; None without one."""
        if self.settings.augment == "none":
            return None
        return augment.draw_ada(key, count, self.resolutions[-1], probability)

    def _view(self, drawn: Any, images: jax.Array) -> jax.Array:
        """Images as the discriminator is shown them."""
        return images if drawn is None else augment.ada_augment(drawn, images)

    def _main_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        """One step of generator and discriminator, both on the same generated images."""
        settings = self.settings
        keys, count = jax.random.split(self._key(state, 0), 5), batch["image"].shape[0]
        latent, noise = self.draw_inputs(keys[0], count)
        probability = state.extra["ada_p"]
        levels = code_levels(self.resolutions[-1])
        parts = {
            "image": batch["image"],
            "mask": batch["mask"],
            "latent": latent,
            "noise": noise,
            "cuts": draw_cuts(keys[1], count, levels, settings.style_mixing),
            "fake_view": self._draw_view(keys[2], count, probability),
            "real_view": self._draw_view(keys[3], count, probability),
        }
        before = state.variables["discriminator"]
        state, made = self._move(
            state,
            "generator",
            lambda variables, part: self._generator_loss(variables, before, part),
            parts,
        )
        # Adding zero makes the discriminator wait for the generator's gradient: side by side, the
        # activations of both would not fit in 24 GiB. XLA drops an optimization barrier on a CPU.
        parts["fake"] = made.rows["fake"] + 0.0 * made.scalars["gradient/generator"]
        state, judged = self._move(state, "discriminator", self._discriminator_loss, parts)
        seen = (state.step + 1) * self.batch_size
        decay = ema_decay(seen, self.batch_size, settings.ema_kimg * 1000, settings.ema_rampup)
        extra = dict(state.extra)
        extra["code_average"] = average_weights(
            extra["code_average"], made.rows["code"].mean(0), _CODE_AVERAGE_DECAY
        )
        extra.update(self._adapt(state, extra, judged.scalars["ada/r_t"]))
        average = average_variables(state.average, state.variables, decay)
        return state.replace(step=state.step + 1, average=average, extra=extra), {
            **made.scalars,
            **judged.scalars,
            "ada/p": extra["ada_p"],
            **self.noise_strengths(state),
        }

    def _generator_loss(
        self, variables: Variables, discriminator: Any, part: Batch
    ) -> tuple[jax.Array, Played]:
        """The loss; its rows are the generated images and their codes."""
        settings, generator, own = self.settings, self.generator, variables["generator"]
        image, mask = to_signed(part["image"]), part["mask"].astype(jnp.float32)
        codes = apply(generator, own, image, mask, part["latent"], method="codes")
        mixed = codes
        if settings.style_mixing:
            # Half a batch away: within a group of the minibatch deviations, pictures that share
            # codes would give fakes away.
            partners = jnp.roll(codes, len(codes) // 2, axis=0)
            mixed = mix_codes(codes, partners, part["cuts"])
        fake = apply(generator, own, mixed, part["noise"], method="synthesise")
        logits = apply(self.discriminator, discriminator, self._view(part["fake_view"], fake))
        scalars = {"loss/generator": losses.logistic_generator_loss(logits)}
        total = scalars["loss/generator"]
        if settings.reconstruction_weight:
            unmixed = jnp.all(mixed == codes, axis=(1, 2)).astype(jnp.float32)
            error = jnp.abs(fake - image).mean((1, 2, 3))
            error = (unmixed * error).sum() / jnp.maximum(unmixed.sum(), 1.0)
            scalars["loss/reconstruction"] = error
            total += settings.reconstruction_weight * error
        return total, Played(scalars, {}, {"fake": fake, "code": codes[:, 0]})

    def _discriminator_loss(self, variables: Variables, part: Batch) -> tuple[jax.Array, Played]:
        """The loss, and ADA's r_t beside it."""
        real, fake = (
            apply(self.discriminator, variables["discriminator"], self._view(view, images))
            for view, images in (
                (part["real_view"], to_signed(part["image"])),
                (part["fake_view"], part["fake"]),
            )
        )
        loss = losses.logistic_discriminator_loss(real, fake)
        scalars = {
            "loss/discriminator": loss,
            "logits/real": real.mean(),
            "logits/fake": fake.mean(),
            "ada/r_t": jnp.sign(real).mean(),
        }
        return loss, Played(scalars, {}, ())

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
        """Lazy R1 on the discriminator in float32, weighted by its interval."""
        weight = self.r1_gamma * self.settings.r1_interval
        count = batch["image"].shape[0]
        view = self._draw_view(self._key(state, 1), count, state.extra["ada_p"])

        def loss(variables: Variables, part: Batch) -> tuple[jax.Array, Played]:
            def logits(images: jax.Array) -> jax.Array:
                shown = self._view(part["view"], images)
                return apply(self.exact_discriminator, variables["discriminator"], shown)

            penalty = losses.r1_penalty(logits, to_signed(part["image"]))
            return weight * penalty, Played({"loss/r1": self.r1_gamma * penalty}, {}, ())

        parts = {"image": batch["image"], "view": view}
        state, told = self._move(state, "discriminator", loss, parts)
        norm = told.scalars["gradient/discriminator"]
        return state, {"loss/r1": told.scalars["loss/r1"], "gradient/r1": norm}

    def _path_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        """Lazy path-length regularisation of the generator in float32, on a part of the batch."""
        settings, generator = self.settings, self.exact_generator
        keys = jax.random.split(self._key(state, 2), 2)
        parts = {name: batch[name][:: settings.path_batch_shrink] for name in ("image", "mask")}
        parts["latent"], parts["noise"] = self.draw_inputs(keys[0], parts["image"].shape[0])
        parts["direction"] = jax.random.normal(keys[1], parts["image"].shape)

        def loss(variables: Variables, part: Batch) -> tuple[jax.Array, Played]:
            own = variables["generator"]
            image, mask = to_signed(part["image"]), part["mask"].astype(jnp.float32)
            codes = apply(generator, own, image, mask, part["latent"], method="codes")

            def synthesise(codes: jax.Array) -> jax.Array:
                return apply(generator, own, codes, part["noise"], method="synthesise")

            lengths = losses.path_lengths(synthesise, codes, part["direction"])
            mean = average_weights(
                state.extra["path_mean"], lengths.mean(), 1.0 - settings.path_decay
            )
            penalty = settings.path_weight * jnp.square(lengths - mean).mean()
            scalars = {"loss/path_length": penalty, "path/mean_length": mean}
            return settings.path_interval * penalty, Played(scalars, {}, ())

        state, told = self._move(state, "generator", loss, parts)
        scalars = dict(told.scalars)
        scalars["gradient/path_length"] = scalars.pop("gradient/generator")
        extra = {**state.extra, "path_mean": scalars["path/mean_length"]}
        return state.replace(extra=extra), scalars

    def _move(
        self, state: TrainState, network: str, loss: Loss, parts: Batch
    ) -> tuple[TrainState, Played]:
        """One step of a network."""
        optimizer = (
            self.generator_optimizer if network == "generator" else self.discriminator_optimizer
        )
        moved, states, told = gradient_step(
            loss,
            optimizer,
            {network: state.variables[network]},
            {network: state.optimizer[network]},
            parts,
            self.accumulation,
        )
        return state.replace(
            variables={**state.variables, **moved}, optimizer={**state.optimizer, **states}
        ), told
