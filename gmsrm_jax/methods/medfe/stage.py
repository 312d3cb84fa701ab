"""MEDFE's one stage: the generator against a global and a local relativistic discriminator."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gmsrm_jax.methods.adversarial_stage import AdversarialStage
from gmsrm_jax.methods.base import Batch, Context, Method, TrainState, Variables, apply
from gmsrm_jax.methods.medfe import network
from gmsrm_jax.methods.medfe.equalisation import INIT
from gmsrm_jax.methods.medfe.smoothing import smoothed
from gmsrm_jax.methods.stage import steps_of
from gmsrm_jax.nn import losses
from gmsrm_jax.nn.adversarial import Adversary, Played
from gmsrm_jax.nn.crops import corners_anywhere, crop
from gmsrm_jax.nn.optimizers import falling_rate
from gmsrm_jax.nn.patch_discriminator import PatchDiscriminator
from gmsrm_jax.nn.vgg import features, load_vgg
from gmsrm_jax.runtime.pixels import to_unit

_GLOBAL, _LOCAL = "discriminator", "local_discriminator"
_LEAST_SIDE = 32  # px that five halvings need


class MedfeStage(AdversarialStage):
    """Trains by the program "main"; see `base.Stage`."""

    salt = 1

    def __init__(self, method: Method, config: ConfigDict, context: Context):
        """Prepares the stage; reads the VGG.

        Args:
            method: how the averages fill.
            config: the run's config.
            context: what the data say.

        Raises:
            UserError: medfe.vgg cannot be used.
        """
        fields = config.medfe
        total = steps_of(fields.length_kimg, config.batch_size)
        rate = falling_rate(fields.learning_rate, total, round(fields.constant_share * total))
        optimizer = optax.adam(rate, *fields.betas)
        judge = PatchDiscriminator(
            tuple(fields.discriminator_features), config.compute_dtype, kernel_init=INIT, flat=0
        )
        adversaries = tuple(
            Adversary(name, judge, "relativistic", optimizer) for name in (_GLOBAL, _LOCAL)
        )
        super().__init__(
            "inpainting", method, config, context, total, fields, optimizer, adversaries
        )
        self.crop_side = max(config.image_size // 4, _LEAST_SIDE)
        self.perceptual = tuple(fields.perceptual_layers) if fields.perceptual_weight else ()
        self.style = tuple(fields.style_layers) if fields.style_weight else ()
        if self.perceptual or self.style:
            taps = self.perceptual + self.style
            self.constants["vgg"] = load_vgg(fields.vgg, taps, net="vgg16", field="medfe.vgg")

    def init(self, key: jax.Array, given: Mapping[str, Any]) -> TrainState:
        """Draws the three networks."""
        del given
        keys = jax.random.split(key)
        shown = {_GLOBAL: ((self.config.image_size, 3),), _LOCAL: ((self.crop_side, 3),)}
        return self._begin_drawn(network.init(self.config, keys[0]), keys[1], shown)

    def _derived(self, state: TrainState, image: jax.Array, mask: jax.Array) -> dict[str, Any]:
        """Places of local crops, one for each example and step, and the small targets."""
        size, fields = self.config.image_size, self.fields
        side = size // network.MIDDLE
        even = 2.0 * smoothed(to_unit(image), fields.smoothing, fields.smoothing_sigma) - 1.0
        return {
            "corner": corners_anywhere(self._key(state), len(image), size, self.crop_side),
            "texture": network.resized(image, side),
            "structure": network.resized(even, side),
        }

    def _loss(
        self, state: TrainState, batch: Batch, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Played]:
        """The weighted sum of the terms, each of which is in the log; all of raw, whole pictures.

        L = L1 + 0.2 · perceptual + 250 · style + 0.2 · adversarial + structure + texture
        """
        image = part["image"]
        module = network.generator(self.config, self.dtype)
        shown = network.inputs(self.config, image, part["mask"])
        raw, texture, structure = apply(module, variables["network"], *shown)
        local = {
            kind: (crop(x, part["corner"], self.crop_side),)
            for kind, x in (("real", image), ("fake", raw))
        }
        rows = {_GLOBAL: {"real": (image,), "fake": (raw,)}, _LOCAL: local}
        terms = {
            "l1": jnp.abs(raw - image).mean(),
            "structure": jnp.abs(structure - part["structure"]).mean(),
            "texture": jnp.abs(texture - part["texture"]).mean(),
            "adversarial": jnp.zeros(()),
        }
        for adversary in self.adversaries:
            terms["adversarial"] += adversary.fooling_loss(state.variables, rows[adversary.name])
        if "vgg" in batch:
            taps, count = self.perceptual + self.style, len(self.perceptual)
            fake, real = (features(batch["vgg"], x, taps, self.dtype) for x in (raw, image))
            if self.perceptual:
                terms["perceptual"] = losses.perceptual_loss(fake[:count], real[:count])
            if self.style:
                terms["style"] = losses.style_loss(fake[count:], real[count:])
        return self._played(terms, rows)
