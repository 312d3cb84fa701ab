"""Stage 2: GM-SRM is trained to fill holes, with the generative memory frozen (Eq. 14)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from gmsrm_jax import metrics
from gmsrm_jax.methods.base import Batch, Program, Scalars, TrainState, apply, to_bytes, to_signed
from gmsrm_jax.methods.gm_srm.memory import draw_noise, indexed_noise, memory_resolutions
from gmsrm_jax.methods.gm_srm.network import Filled, build_network, join_frozen, split_frozen
from gmsrm_jax.methods.gm_srm.variants import VARIANTS
from gmsrm_jax.nn import losses
from gmsrm_jax.nn.accumulation import in_micro_batches
from gmsrm_jax.nn.optimizers import average_weights, learning_rate_schedule, slowed
from gmsrm_jax.nn.patch_discriminator import PatchDiscriminator
from gmsrm_jax.nn.vgg import Vgg19Weights, features
from gmsrm_jax.runtime.image_grid import grid


class InpaintingStage:
    """Trains encoder, codes, fusions, noise statistics, decoder and the patch discriminator.

    The state's parts: params {network, discriminator}, average {network}, kept {network} (frozen
    memory), extra {spectral} (power-iteration vectors). With inpainting.adversarial_weight = 0 the
    discriminator is there, but neither asked nor moved.
    """

    name = "inpainting"
    salt = 2

    def __init__(
        self,
        config: ConfigDict,
        training_pictures: int,
        validation: dict[str, np.ndarray],
        vgg: Vgg19Weights,
    ):
        """Prepares the stage.

        Args:
            config: the run's config.
            training_pictures: pictures in an epoch.
            validation: {"image": uint8 [k, S, S, 3], "mask": uint8 [k, S, S, 1]} kept aside.
            vgg: features of the perceptual loss.
        """
        settings = config.inpainting
        self.settings = settings
        self.batch_size = config.batch_size
        self.total_steps = max(round(settings.epochs * training_pictures / config.batch_size), 1)
        self.save_every, self.validate_every = settings.save_every, settings.validate_every
        self.seed = config.seed
        self.parts = VARIANTS[config.variant]
        self.accumulation, self.dtype = config.accumulation, config.compute_dtype
        self.network, self.exact_network = build_network(config, self.dtype), build_network(config)
        self.discriminator = PatchDiscriminator(
            tuple(settings.discriminator_features), dtype=self.dtype
        )
        self.resolutions = memory_resolutions(config.image_size)
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
        self.constants: dict[str, Any] = {"vgg": vgg} if settings.perceptual_weight else {}
        self.layers = tuple(settings.perceptual_layers)
        self.validation = validation
        self.programs: dict[str, Program] = {"main": self._main_step}
        self._fill = jax.jit(self._fill_batch)

    def init(self, key: jax.Array, pretrained: Any) -> TrainState:
        """Draws the new weights, and takes memory, encoder and first query from stage 1.

        Args:
            key: random key.
            pretrained: `kept` of stage 1's state; {network}, all weights of a trained network of
                these shapes, which are taken as they are; None for the variant without a memory.
        """
        size = max(self.network.channels)
        image, mask = jnp.zeros((1, size, size, 3)), jnp.zeros((1, size, size, 1))
        keys = jax.random.split(key, 3)
        noise = draw_noise(keys[0], 1, self.resolutions)
        drawn = self.network.init(keys[1], image, mask, noise)["params"]
        if pretrained is not None and "network" in pretrained:
            drawn = pretrained["network"]
        elif self.parts.memory:
            drawn = self._take_over(drawn, pretrained)
        network, frozen = split_frozen(drawn, self.settings.train_noise_strength)
        judged = mask if self.settings.discriminator_mask else None
        variables = self.discriminator.init(keys[2], image, judged, update_stats=False)
        discriminator = variables["params"]
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params={"network": network, "discriminator": discriminator},
            average={"network": jax.tree.map(jnp.copy, network)},
            optimizer={
                "network": self.network_optimizer.init(network),
                "discriminator": self.discriminator_optimizer.init(discriminator),
            },
            kept={"network": frozen},
            extra={"spectral": variables["batch_stats"]},
        )

    def due(self, step: int) -> tuple[str, ...]:
        """Every step is the same."""
        del step
        return ("main",)

    def validate(self, state: TrainState) -> tuple[TrainState, dict[str, float]]:
        """PSNR of composites and L1 in the hole, on the pictures kept aside."""
        raw = self.fill(state, self.validation["image"], self.validation["mask"])
        mask = self.validation["mask"].astype(np.float32)
        truth = self.validation["image"].astype(np.float32)
        filled = truth * (1.0 - mask) + to_bytes(raw).astype(np.float32) * mask
        hole = (np.abs(filled - truth) * mask).sum() / max(3.0 * mask.sum(), 1.0)
        return state, {
            "validation/psnr": float(np.mean(np.asarray(metrics.psnr(filled, truth)))),
            "validation/hole_l1": float(hole),
        }

    def panels(self, state: TrainState) -> dict[str, np.ndarray]:
        """One row a picture: input, mask, raw output, composite, truth."""
        count = min(4, len(self.validation["image"]))
        truth, mask = self.validation["image"][:count], self.validation["mask"][:count]
        raw = to_bytes(self.fill(state, truth, mask))
        held = np.where(mask > 0, np.uint8(127), truth)
        shown = np.repeat(mask * np.uint8(255), 3, axis=-1)
        composite = np.where(mask > 0, raw, truth)
        rows = np.stack([held, shown, raw, composite, truth], axis=1)
        return {"fillings": grid(rows.reshape(-1, *truth.shape[1:]), 5)}

    def fill(self, state: TrainState, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Raw outputs of the averaged network for uint8 images and masks, batch by batch."""
        count, size = len(images), self.batch_size
        rows = np.arange(-(-count // size) * size) % count
        params = join_frozen(state.average["network"], state.kept["network"])
        outputs = [
            np.asarray(
                self._fill(params, images[part], masks[part], np.asarray(part, np.int32)),
                np.float32,
            )
            for part in rows.reshape(-1, size)
        ]
        return np.concatenate(outputs)[:count]

    def _fill_batch(
        self, params: Any, images: jax.Array, masks: jax.Array, index: jax.Array
    ) -> jax.Array:
        noise = indexed_noise(self.seed, index, self.resolutions)
        image, mask = to_signed(images), masks.astype(jnp.float32)
        return apply(self.exact_network, params, image, mask, noise).image

    def _take_over(self, drawn: dict[str, Any], kept: Any) -> dict[str, Any]:
        """Puts stage 1's weights in the places of the drawn ones."""
        source = kept["generator"]
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

    def _judge(self, params: Any, spectral: Any, image: jax.Array, mask: jax.Array) -> Any:
        """Logits of the patch discriminator, and its renewed power-iteration vectors."""
        judged = mask if self.settings.discriminator_mask else None
        logits, renewed = self.discriminator.apply(
            {"params": params, "batch_stats": spectral},
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
        keys = jax.random.split(jax.random.fold_in(key, state.step), 2)
        parts = {
            "image": batch["image"],
            "mask": batch["mask"],
            "noise": draw_noise(keys[0], count, self.resolutions),
        }
        if settings.diversity_weight:
            parts["other_noise"] = draw_noise(keys[1], count, self.resolutions)

        def network_part(part: Batch) -> tuple[Any, jax.Array]:
            gradient, (scalars, judged) = jax.grad(self._network_loss, has_aux=True)(
                state.params["network"], state, part, batch.get("vgg")
            )
            return (gradient, scalars), judged

        (gradient, scalars), parts["judged"] = in_micro_batches(
            network_part, parts, self.accumulation
        )
        updates, moved = self.network_optimizer.update(
            gradient, state.optimizer["network"], state.params["network"]
        )
        updates = slowed(updates, ("query_", "statistics_"), settings.query_rate)
        network = optax.apply_updates(state.params["network"], updates)
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
                params={**state.params, "network": network},
                average={
                    "network": average_weights(state.average["network"], network, settings.ema)
                },
                optimizer={**state.optimizer, "network": moved},
            ),
            scalars,
        )

    def _network_loss(
        self, params: Any, state: TrainState, part: Batch, vgg: Vgg19Weights | None
    ) -> tuple[jax.Array, tuple[Scalars, jax.Array]]:
        """Eq. 14, its terms, and what the discriminator is shown; no term of weight 0 is computed.

        Reconstruction is always measured, and the KL divergence wherever noise is conditional.
        """
        settings = self.settings
        image, mask = to_signed(part["image"]), part["mask"].astype(jnp.float32)
        weights = join_frozen(params, state.kept["network"])

        def fill(noise: list[jax.Array], every: int = 1) -> Filled:
            return apply(self.network, weights, image[::every], mask[::every], noise)

        def shown(kind: str) -> jax.Array:
            return filled.image if kind == "raw" else image * (1.0 - mask) + filled.image * mask

        filled = fill(part["noise"])
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
            logits, _ = self._judge(
                state.params["discriminator"], state.extra["spectral"], judged, mask
            )
            scalars["loss/adversarial"] = losses.adversarial_generator_loss(logits)
            total += settings.adversarial_weight * scalars["loss/adversarial"]
        if self.parts.conditional_noise:
            scalars["loss/kl"] = losses.kl_loss(
                filled.mean, filled.log_variance, settings.kl_reduction
            )
            scalars["noise/mean"] = jnp.abs(filled.mean).mean()
            scalars["noise/deviation"] = jnp.exp(0.5 * filled.log_variance).mean()
            total += settings.kl_weight * scalars["loss/kl"]
        if settings.diversity_weight:
            every = settings.diversity_batch_shrink
            other = fill([level[::every] for level in part["other_noise"]], every)
            scalars["loss/diversity"] = losses.diversity_loss(
                filled.image[::every], other.image, mask[::every], settings.diversity_grid
            )
            total += settings.diversity_weight * scalars["loss/diversity"]
        scalars["loss/total"] = total
        return total, (scalars, judged)

    def _move_discriminator(self, state: TrainState, parts: Batch) -> tuple[TrainState, Scalars]:
        """The discriminator's step on real pictures and what the network filled."""

        def loss(params: Any, part: Batch) -> tuple[jax.Array, tuple[Scalars, Any]]:
            image, mask = to_signed(part["image"]), part["mask"].astype(jnp.float32)
            fake, _ = self._judge(params, state.extra["spectral"], part["judged"], mask)
            real, renewed = self._judge(params, state.extra["spectral"], image, mask)
            value = losses.adversarial_discriminator_loss(
                real, fake, self.settings.adversarial_form
            )
            scalars = {
                "loss/discriminator": value,
                "logits/real": real.mean(),
                "logits/fake": fake.mean(),
            }
            return value, (scalars, renewed)

        def discriminator_part(part: Batch) -> tuple[Any, None]:
            return jax.grad(loss, has_aux=True)(state.params["discriminator"], part), None

        # The renewed vectors do not depend on the examples, so their mean is each of them.
        (gradient, (scalars, spectral)), _ = in_micro_batches(
            discriminator_part, parts, self.accumulation
        )
        updates, moved = self.discriminator_optimizer.update(
            gradient, state.optimizer["discriminator"], state.params["discriminator"]
        )
        discriminator = optax.apply_updates(state.params["discriminator"], updates)
        state = state.replace(
            params={**state.params, "discriminator": discriminator},
            optimizer={**state.optimizer, "discriminator": moved},
            extra={"spectral": spectral},
        )
        return state, scalars | {"gradient/discriminator": optax.global_norm(gradient)}
