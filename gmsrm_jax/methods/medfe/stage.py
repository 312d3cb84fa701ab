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
from gmsrm_jax.nn.patch_discriminator import PatchDiscriminator
from gmsrm_jax.nn.vgg import BUNDLED, Net, features, load_vgg

_GLOBAL, _LOCAL = "discriminator", "local_discriminator"
_LEAST_SIDE = 32  # px that five halvings need


def falling_rate(peak: float, steps: int, constant_share: float) -> optax.Schedule:
    """Constant for a share of the steps, then linear to 0."""
    constant = round(constant_share * steps)
    falling = optax.linear_schedule(peak, 0.0, max(steps - constant, 1))
    return optax.join_schedules([optax.constant_schedule(peak), falling], [constant])


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
        b1, b2 = fields.betas
        optimizer = optax.adam(
            falling_rate(fields.learning_rate, total, fields.constant_share), b1=b1, b2=b2
        )
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
            net: Net = "vgg19" if fields.vgg == BUNDLED else "vgg16"
            taps = self.perceptual + self.style
            self.constants["vgg"] = load_vgg(fields.vgg, taps, net=net, field="medfe.vgg")

    def init(self, key: jax.Array, given: Mapping[str, Any]) -> TrainState:
        """Draws the three networks."""
        del given
        keys = jax.random.split(key)
        variables = network.init(self.config, keys[0])["network"]
        shown = {_GLOBAL: ((self.config.image_size, 3),), _LOCAL: ((self.crop_side, 3),)}
        return self._begin("network", variables, keys[1], shown)

    def _derived(self, state: TrainState, image: jax.Array, mask: jax.Array) -> dict[str, Any]:
        """Places of local crops, one for each example and step, and the small targets."""
        key = jax.random.fold_in(jax.random.key(self.seed), self.salt)
        key = jax.random.fold_in(key, state.step)
        size = self.config.image_size
        fields, side = self.fields, size // network.MIDDLE
        even = 2.0 * smoothed(0.5 * image + 0.5, fields.smoothing, fields.smoothing_sigma) - 1.0
        return {
            "corner": corners_anywhere(key, len(image), size, self.crop_side),
            "texture": network.resized(image, side),
            "structure": network.resized(even, side),
        }

    def _loss(
        self, state: TrainState, batch: Batch, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Played]:
        """The weighted sum of the terms, each of which is in the log; all of raw, whole pictures.

        L = L1 + 0.2 · perceptual + 250 · style + 0.2 · adversarial + structure + texture
        """
        fields, image = self.fields, part["image"]
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
            real, fake = (
                adversary.judge(state.variables[adversary.name], rows[adversary.name][kind])[0]
                for kind in ("real", "fake")
            )
            terms["adversarial"] += adversary.generator_loss(fake, real)
        if "vgg" in batch:
            taps, count = self.perceptual + self.style, len(self.perceptual)
            fake, real = (features(batch["vgg"], x, taps, self.dtype) for x in (raw, image))
            if self.perceptual:
                terms["perceptual"] = losses.perceptual_loss(fake[:count], real[:count])
            if self.style:
                terms["style"] = losses.style_loss(fake[count:], real[count:])
        total = jnp.zeros(())
        for name, term in terms.items():
            total += fields[f"{name}_weight"] * term
        scalars = {f"loss/{name}": term for name, term in terms.items()}
        return total, Played({**scalars, "loss/total": total}, {}, rows)
