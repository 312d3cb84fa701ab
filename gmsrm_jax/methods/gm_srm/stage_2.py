"""Stage 2: GM-SRM is trained to fill holes, with the generative memory frozen (Eq. 14)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Batch, Context, Method, Scalars, TrainState, apply
from gmsrm_jax.methods.gm_srm.fields import VARIANTS
from gmsrm_jax.methods.gm_srm.memory import draw_noise
from gmsrm_jax.methods.gm_srm.network import (
    Filled,
    asked_resolutions,
    build_network,
    join_frozen,
    split_frozen,
)
from gmsrm_jax.methods.stage import FillingStage, steps_of
from gmsrm_jax.nn import losses
from gmsrm_jax.nn.accumulation import in_micro_batches
from gmsrm_jax.nn.optimizers import average_weights, learning_rate_schedule, slowed
from gmsrm_jax.nn.patch_discriminator import PatchDiscriminator
from gmsrm_jax.nn.vgg import VggWeights, features, load_vgg19
from gmsrm_jax.runtime.pixels import composite, to_signed


class InpaintingStage(FillingStage):
    """Trains encoder, codes, fusions, noise statistics, decoder and the patch discriminator.

    The state's parts: variables {network, discriminator}, whose "batch_stats" are power-iteration
    vectors, average {network}, kept {network} (frozen memory). With
    inpainting.adversarial_weight = 0 the discriminator is there, but neither asked nor moved.
    """

    salt = 2

    def __init__(self, method: Method, config: ConfigDict, context: Context):
        """Prepares the stage.

        Args:
            method: GM-SRM, which says how the state fills.
            config: the run's config.
            context: what the data say.
        """
        settings = config.inpainting
        self.settings = settings
        steps = max(round(settings.epochs * context.num_examples / config.batch_size), 1)
        if settings.length_kimg:
            steps = steps_of(settings.length_kimg, config.batch_size)
        super().__init__(
            "inpainting",
            method,
            config,
            context,
            steps,
            settings.save_every,
            settings.validate_every,
        )
        self.parts = VARIANTS[config.variant]
        self.network = build_network(config, self.dtype)
        self.discriminator = PatchDiscriminator(
            tuple(settings.discriminator_features), dtype=self.dtype
        )
        self.resolutions = asked_resolutions(config)
        self.schedule = learning_rate_schedule(
            settings.schedule, settings.learning_rate, self.total_steps
        )
        b1, b2 = settings.betas
        self.network_optimizer = optax.adam(self.schedule, b1=b1, b2=b2)
        self.discriminator_optimizer = optax.adam(
            learning_rate_schedule(
                settings.schedule, settings.discriminator_learning_rate, self.total_steps
            ),
            b1=b1,
            b2=b2,
        )
        self.layers = tuple(settings.perceptual_layers)
        if settings.perceptual_weight:
            self.constants["vgg"] = load_vgg19(settings.vgg, self.layers)
        self.programs["main"] = self._main_step

    def init(self, key: jax.Array, given: Mapping[str, Any]) -> TrainState:
        """Draws the new weights, and takes memory, encoder and first query from stage 1.

        Args:
            key: random key.
            given: {"memory": {"kept"}} of stage 1's state; {"begin_from"}, all variables of a
                trained network of these shapes, which are taken as they are; {} for the variant
                without a memory.
        """
        size = max(self.network.channels)
        image, mask = jnp.zeros((1, size, size, 3)), jnp.zeros((1, size, size, 1))
        keys = jax.random.split(key, 3)
        drawn = self._method.init(self._config, keys[1])["network"]["params"]
        if "begin_from" in given:
            drawn = given["begin_from"]["network"]["params"]
        elif "memory" in given:
            drawn = self._take_over(drawn, given["memory"]["kept"])
        network, frozen = split_frozen(drawn, self.settings.train_noise_strength)
        judged = mask if self.settings.discriminator_mask else None
        discriminator = self.discriminator.init(keys[2], image, judged, update_stats=False)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            variables={"network": {"params": network}, "discriminator": dict(discriminator)},
            average={"network": {"params": jax.tree.map(jnp.copy, network)}},
            optimizer={
                "network": self.network_optimizer.init(network),
                "discriminator": self.discriminator_optimizer.init(discriminator["params"]),
            },
            kept={"network": {"params": frozen}},
            extra={},
        )

    def _take_over(self, drawn: dict[str, Any], kept: Any) -> dict[str, Any]:
        """Puts stage 1's weights in the places of the drawn ones."""
        source = kept["generator"]["params"]
        joined = {**drawn, "memory": {part: source["memory"][part] for part in drawn["memory"]}}
        if "average_code" in drawn:
            joined["average_code"] = kept["code_average"]
        else:
            joined["encoder"] = source["encoder"]
            joined["query_4"] = source["query_4"]
        shapes, given = jax.tree.map(jnp.shape, drawn), jax.tree.map(jnp.shape, joined)
        if shapes != given:
            raise ValueError("stage 1's weights do not fit the network of stage 2")
        return joined

    def _judge(self, variables: Any, image: jax.Array, mask: jax.Array) -> Any:
        """Logits of the patch discriminator, and its renewed power-iteration vectors."""
        judged = mask if self.settings.discriminator_mask else None
        logits, renewed = self.discriminator.apply(
            variables,
            image,
            judged,
            update_stats=True,
            mutable=["batch_stats"],
        )
        return logits, renewed["batch_stats"]

    def _main_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        """One step of network and discriminator, both on the same fillings."""
        settings, count = self.settings, batch["image"].shape[0]
        key = jax.random.fold_in(jax.random.key(self.seed), self.salt)
        key, _ = jax.random.split(jax.random.fold_in(key, state.step), 2)
        parts = {
            "image": batch["image"],
            "mask": batch["mask"],
            "noise": draw_noise(key, count, self.resolutions),
        }
        params = state.variables["network"]["params"]

        def network_part(part: Batch) -> tuple[Any, jax.Array]:
            gradient, (scalars, judged) = jax.grad(self._network_loss, has_aux=True)(
                params, state, part, batch.get("vgg")
            )
            return (gradient, scalars), judged

        (gradient, scalars), parts["judged"] = in_micro_batches(
            network_part, parts, self.accumulation
        )
        updates, moved = self.network_optimizer.update(gradient, state.optimizer["network"], params)
        updates = slowed(updates, ("query_", "statistics_"), settings.query_rate)
        network = {"params": optax.apply_updates(params, updates)}
        scalars |= {
            "gradient/network": optax.global_norm(gradient),
            "optimizer/learning_rate": jnp.asarray(self.schedule(state.step), jnp.float32),
        }
        if settings.adversarial_weight:
            state, measured = self._move_discriminator(state, parts)
            scalars |= measured
        return (
            state.replace(
                step=state.step + 1,
                variables={**state.variables, "network": network},
                average={
                    "network": average_weights(state.average["network"], network, settings.ema)
                },
                optimizer={**state.optimizer, "network": moved},
            ),
            scalars,
        )

    def _network_loss(
        self, params: Any, state: TrainState, part: Batch, vgg: VggWeights | None
    ) -> tuple[jax.Array, tuple[Scalars, jax.Array]]:
        """Eq. 14, its terms, and what the discriminator is shown; no term of weight 0 is computed.

        Reconstruction is always measured, and the KL divergence wherever noise is conditional.
        """
        settings = self.settings
        image, mask = to_signed(part["image"]), part["mask"].astype(jnp.float32)
        weights = {"params": join_frozen(params, state.kept["network"]["params"])}

        filled: Filled = apply(self.network, weights, image, mask, part["noise"])

        def shown(kind: str) -> jax.Array:
            return filled.image if kind == "raw" else composite(image, filled.image, mask)

        judged = shown(settings.discriminator_image)
        scalars = {
            "loss/reconstruction": losses.reconstruction_loss(
                filled.image, image, mask, settings.hole_weight, settings.reconstruction_norm
            )
        }
        total = settings.reconstruction_weight * scalars["loss/reconstruction"]
        if vgg is not None:
            target, seen = (
                features(vgg, x, self.layers, self.dtype)
                for x in (image, shown(settings.perceptual_image))
            )
            scalars["loss/perceptual"] = losses.perceptual_loss(seen, target)
            total += settings.perceptual_weight * scalars["loss/perceptual"]
        if settings.adversarial_weight:
            logits, _ = self._judge(state.variables["discriminator"], judged, mask)
            scalars["loss/adversarial"] = losses.adversarial_generator_loss(logits)
            total += settings.adversarial_weight * scalars["loss/adversarial"]
        if self.parts.conditional_noise:
            scalars["loss/kl"] = losses.kl_loss(
                filled.mean, filled.log_variance, settings.kl_reduction
            )
            scalars["noise/mean"] = jnp.abs(filled.mean).mean()
            scalars["noise/deviation"] = jnp.exp(0.5 * filled.log_variance).mean()
            total += settings.kl_weight * scalars["loss/kl"]
        scalars["loss/total"] = total
        return total, (scalars, judged)

    def _move_discriminator(self, state: TrainState, parts: Batch) -> tuple[TrainState, Scalars]:
        """The discriminator's step on real pictures and what the network filled."""
        before = state.variables["discriminator"]

        def loss(params: Any, part: Batch) -> tuple[jax.Array, tuple[Scalars, Any]]:
            image, mask = to_signed(part["image"]), part["mask"].astype(jnp.float32)
            variables = {**before, "params": params}
            fake, _ = self._judge(variables, part["judged"], mask)
            real, renewed = self._judge(variables, image, mask)
            value = losses.hinge_discriminator_loss(real, fake)
            scalars = {
                "loss/discriminator": value,
                "logits/real": real.mean(),
                "logits/fake": fake.mean(),
            }
            return value, (scalars, renewed)

        def discriminator_part(part: Batch) -> tuple[Any, None]:
            return jax.grad(loss, has_aux=True)(before["params"], part), None

        # The renewed vectors do not depend on the examples, so their mean is each of them.
        (gradient, (scalars, vectors)), _ = in_micro_batches(
            discriminator_part, parts, self.accumulation
        )
        updates, moved = self.discriminator_optimizer.update(
            gradient, state.optimizer["discriminator"], before["params"]
        )
        after = {"params": optax.apply_updates(before["params"], updates), "batch_stats": vectors}
        state = state.replace(
            variables={**state.variables, "discriminator": after},
            optimizer={**state.optimizer, "discriminator": moved},
        )
        return state, scalars | {"gradient/discriminator": optax.global_norm(gradient)}
