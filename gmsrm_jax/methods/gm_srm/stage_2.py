"""Stage 2: GM-SRM is trained to fill holes, with the generative memory frozen (Eq. 14)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gmsrm_jax.methods.adversarial_stage import AdversarialStage
from gmsrm_jax.methods.base import Batch, Context, Method, TrainState, Variables, apply
from gmsrm_jax.methods.gm_srm.fields import VARIANTS
from gmsrm_jax.methods.gm_srm.growth import grow
from gmsrm_jax.methods.gm_srm.memory import draw_noise
from gmsrm_jax.methods.gm_srm.network import (
    Filled,
    asked_resolutions,
    build_network,
    is_frozen,
)
from gmsrm_jax.methods.stage import steps_of
from gmsrm_jax.methods.variables import parted
from gmsrm_jax.nn import losses
from gmsrm_jax.nn.adversarial import Adversary, Played
from gmsrm_jax.nn.crops import corners_on_hole, crop
from gmsrm_jax.nn.optimizers import learning_rate_schedule, slowed
from gmsrm_jax.nn.patch_discriminator import PatchDiscriminator
from gmsrm_jax.nn.vgg import features, load_vgg19
from gmsrm_jax.runtime.pixels import composite


class InpaintingStage(AdversarialStage):
    """Trains encoder, codes, fusions, noise statistics, decoder and the patch discriminator.

    The state's parts: variables {network, discriminator}, whose "batch_stats" are power-iteration
    vectors, average {network}, kept {network} (frozen memory). With
    inpainting.adversarial_weight = 0 there is no discriminator.
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
        total = max(round(settings.epochs * context.num_examples / config.batch_size), 1)
        if settings.length_kimg:
            total = steps_of(settings.length_kimg, config.batch_size)
        self.schedule, of_discriminator = (
            learning_rate_schedule(settings.schedule, rate, total)
            for rate in (settings.learning_rate, settings.discriminator_learning_rate)
        )
        self.adversary = Adversary(
            "discriminator",
            PatchDiscriminator(tuple(settings.discriminator_features), dtype=config.compute_dtype),
            "hinge",
            optax.adam(of_discriminator, *settings.betas),
        )
        super().__init__(
            "inpainting",
            method,
            config,
            context,
            total,
            settings,
            optax.chain(
                optax.adam(self.schedule, *settings.betas),
                slowed(("query_", "statistics_"), settings.query_rate),
            ),
            (self.adversary,) if settings.adversarial_weight else (),
        )
        self.parts = VARIANTS[config.variant]
        self.network = build_network(config, self.dtype)
        self.resolutions = asked_resolutions(config)
        self.layers = tuple(settings.perceptual_layers)
        if settings.perceptual_weight:
            self.constants["vgg"] = load_vgg19(settings.vgg, self.layers)

    def init(self, key: jax.Array, given: Mapping[str, Any]) -> TrainState:
        """Draws the new weights, and takes memory, encoder and first query from stage 1.

        Args:
            key: random key.
            given: {"memory": {"kept"}} of stage 1's state; {"begin_from"}, all variables of a
                trained network of these shapes, which are taken as they are; {"grow_from":
                {"variables", "average", "kept"}} of a smaller stage 2's state, whose weights are
                taken wherever there are such, the memory's too, with which it was trained; {} for
                the variant without a memory.
        """
        size = max(self.network.channels)
        image, mask = jnp.zeros((1, size, size, 3)), jnp.zeros((1, size, size, 1))
        keys = jax.random.split(key, 3)
        drawn = self._method.init(self.config, keys[1])["network"]["params"]
        if "begin_from" in given:
            drawn = given["begin_from"]["network"]["params"]
        elif "memory" in given:
            drawn = self._take_over(drawn, given["memory"]["kept"])
        judges: Variables = {}
        for adversary in self.adversaries:
            shown = self._shown(image, mask)
            judges[adversary.name] = dict(
                adversary.module.init(keys[2], *shown, update_stats=False)
            )
        average = drawn
        if "grow_from" in given:
            smaller = given["grow_from"]
            judges = {
                name: jax.tree.map(jnp.copy, smaller["variables"].get(name, tree))
                for name, tree in judges.items()
            }
            whole = (
                self._method.finish(self.config, smaller[item], smaller["kept"])["network"]
                for item in ("variables", "average")
            )
            drawn, average = (grow(drawn, network["params"]) for network in whole)
        strength = self.fields.train_noise_strength

        def frozen(path: tuple[str, ...]) -> bool:
            return is_frozen(path, strength)

        network, kept = parted(drawn, frozen)
        state = self.begin(
            {"network": {"params": network}}, judges, kept={"network": {"params": kept}}
        )
        average = jax.tree.map(jnp.copy, parted(average, frozen)[0])
        return state.replace(average={"network": {"params": average}})

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

    def _shown(self, image: jax.Array, mask: jax.Array) -> tuple[jax.Array, ...]:
        """What the discriminator is given of pictures."""
        return (image, mask) if self.fields.discriminator_mask else (image,)

    def _derived(self, state: TrainState, image: jax.Array, mask: jax.Array) -> dict[str, Any]:
        """ε of Eq. 8, and the corners [N, 2] of what Eq. 11 sees."""
        keys, side = jax.random.split(self._key(state)), self.fields.perceptual_crop
        corners = {"corner": corners_on_hole(keys[1], mask, side)} if side else {}
        return {"noise": draw_noise(keys[0], len(image), self.resolutions), **corners}

    def _loss(
        self, state: TrainState, batch: Batch, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Played]:
        """Eq. 14, its terms, and what the discriminator is shown; no term of weight 0 is computed.

            L = λ1 · L_rec + λ2 · L_perc + λ3 · L_adv + λ4 · L_KL

        Reconstruction is always measured, and the KL divergence wherever noise is conditional.
        """
        settings = self.fields
        image, mask = part["image"], part["mask"]
        weights = self._method.finish(self.config, variables, state.kept)["network"]
        filled: Filled = apply(self.network, weights, image, mask, part["noise"])

        def shown(kind: str) -> jax.Array:
            return filled.image if kind == "raw" else composite(image, filled.image, mask)

        fake = self._shown(shown(settings.discriminator_image), mask)
        rows = {"real": self._shown(image, mask), "fake": fake}
        terms = {
            "reconstruction": losses.reconstruction_loss(  # Eq. 10
                filled.image, image, mask, settings.hole_weight, settings.reconstruction_norm
            ),
        }
        if settings.perceptual_weight:
            side = settings.perceptual_crop
            target, seen = (
                features(
                    batch["vgg"],
                    crop(x, part["corner"], side) if side else x,
                    self.layers,
                    self.dtype,
                )
                for x in (image, shown(settings.perceptual_image))
            )
            terms["perceptual"] = losses.perceptual_loss(seen, target)  # Eq. 11
        if settings.adversarial_weight:
            terms["adversarial"] = self.adversary.fooling_loss(state.variables, rows)  # Eq. 12
        told = {"optimizer/learning_rate": self.schedule(state.step)}
        if self.parts.conditional_noise:  # Eq. 9
            terms["kl"] = losses.kl_loss(filled.mean, filled.log_variance, settings.kl_reduction)
            told["noise/mean"] = jnp.abs(filled.mean).mean()
            told["noise/deviation"] = jnp.exp(0.5 * filled.log_variance).mean()
        return self._played(terms, {self.adversary.name: rows}, told=told)
