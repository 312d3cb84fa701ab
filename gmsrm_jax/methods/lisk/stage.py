"""LISK's one stage: the generator against a hinge discriminator, with structure at three scales."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gmsrm_jax.methods.adversarial_stage import AdversarialStage
from gmsrm_jax.methods.base import Batch, Context, Method, TrainState, Variables, apply
from gmsrm_jax.methods.lisk import network, structure
from gmsrm_jax.methods.stage import steps_of
from gmsrm_jax.nn import losses
from gmsrm_jax.nn.adversarial import Adversary, Played
from gmsrm_jax.nn.optimizers import learning_rate_schedule
from gmsrm_jax.nn.patch_discriminator import PatchDiscriminator
from gmsrm_jax.nn.vgg import features, load_vgg
from gmsrm_jax.runtime.pixels import composite

_JUDGE = "discriminator"
_LAYER_WEIGHT = 0.2  # of each VGG layer, in content and style


class LiskStage(AdversarialStage):
    """Trains by the program "main"; see `base.Stage`."""

    salt = 1

    def __init__(self, method: Method, config: ConfigDict, context: Context):
        """Prepares the stage; reads VGG-19.

        Args:
            method: how the averages fill.
            config: the run's config.
            context: what the data say.

        Raises:
            UserError: lisk.vgg cannot be used.
        """
        fields = config.lisk
        total = steps_of(fields.length_kimg, config.batch_size)
        rate = learning_rate_schedule(fields.schedule, fields.learning_rate, total)
        optimizer = optax.adam(rate, *fields.betas)
        self.adversary = Adversary(
            _JUDGE,
            PatchDiscriminator(
                tuple(fields.discriminator_features),
                config.compute_dtype,
                kernel_init=network.SMALL,
            ),
            "hinge",
            optimizer,
        )
        super().__init__(
            "inpainting", method, config, context, total, fields, optimizer, (self.adversary,)
        )
        self.layers = tuple(fields.vgg_layers)
        if fields.content_weight or fields.style_weight:
            self.constants["vgg"] = load_vgg(fields.vgg, self.layers, field="lisk.vgg")

    def init(self, key: jax.Array, given: Mapping[str, Any]) -> TrainState:
        """Draws both networks."""
        del given
        keys, side = jax.random.split(key), self.config.image_size
        return self._begin_drawn(
            network.init(self.config, keys[0]), keys[1], {_JUDGE: ((side, 3),)}
        )

    def _derived(self, state: TrainState, image: jax.Array, mask: jax.Array) -> dict[str, Any]:
        del state
        return {
            "seen": structure.seen(self.config, image, mask),
            "targets": structure.targets(self.config, image),
        }

    def _loss(
        self, state: TrainState, batch: Batch, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Played]:
        """The weighted sum of the terms, each of which is in the log.

        L = 12 · (L1 in the hole + L1 of the known) + structure + 0.4 · adversarial
            + 0.1 · content + 250 · style

        Content and style compare raw output and composite with the picture; the discriminator sees
        composites.
        """
        image, mask = part["image"], part["mask"]
        module = network.generator(self.config, self.dtype)
        predicted = apply(module, variables["network"], part["seen"])
        raw = predicted.pictures["whole"]
        filled = composite(image, raw, mask)
        rows = {"real": (image,), "fake": (filled,)}
        terms = {
            "l1": _sum(
                losses.reconstruction_loss(
                    small,
                    structure.smaller(image, structure.SCALES[scale]),
                    structure.smaller(mask, structure.SCALES[scale]),
                    1.0,
                    "region",
                )
                for scale, small in predicted.pictures.items()
            ),
            "structure": _sum(
                structure.structure_loss(predicted.gradients[scale], target)
                for scale, target in part["targets"].items()
            ),
            "adversarial": self.adversary.fooling_loss(state.variables, rows),
        }
        if "vgg" in batch:
            target, *compared = (
                features(batch["vgg"], x, self.layers, self.dtype) for x in (image, raw, filled)
            )
            terms["content"] = _LAYER_WEIGHT * _sum(
                losses.content_loss(maps, target) for maps in compared
            )
            terms["style"] = _LAYER_WEIGHT * _sum(
                losses.squared_style_loss(maps, target) for maps in compared
            )
        return self._played(terms, {_JUDGE: rows})


def _sum(terms: Iterable[jax.Array]) -> jax.Array:
    return jnp.stack(list(terms)).sum()
