"""A second phase of training, for pictures that are looked at; no paper's, and off by default.

With the losses of a reconstruction phase a filling is the median of what could be there: soft. Here
every method goes on from its last stage, with

- the hole's L1 no heavier than that of the known pixels;
- distance and Gram matrices of VGG features on maps that are computed once;
- a discriminator that sees composite and mask, learns at a rate of its own and some steps ahead;
- its weight set in every step from the gradients at the filling Î: λ = ratio · ‖∇(L1 + VGG)‖ /
  ‖∇adversarial‖, both norms over the hole, as VQGAN does at its last layer (arXiv 2012.09841).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gmsrm_jax.methods.adversarial_stage import AdversarialStage
from gmsrm_jax.methods.base import (
    Batch,
    Context,
    Method,
    Scalars,
    StageSpec,
    TrainState,
    Variables,
)
from gmsrm_jax.methods.stage import steps_of
from gmsrm_jax.methods.variables import joined, parted
from gmsrm_jax.nn import losses
from gmsrm_jax.nn.accumulation import in_micro_batches
from gmsrm_jax.nn.adversarial import Adversary, Played, gradient_step
from gmsrm_jax.nn.crops import corners_on_hole, crop
from gmsrm_jax.nn.feature_discriminator import FeatureDiscriminator
from gmsrm_jax.nn.patch_discriminator import PatchDiscriminator
from gmsrm_jax.nn.vgg import VggWeights, features, load_vgg
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.fields import Betas, Channels, Layers, Section, setting
from gmsrm_jax.runtime.pixels import composite

STAGE = "sharpening"
_CRITIC = "discriminator"


class Sharpening(Section):
    """The second phase of any method."""

    length_kimg: float = setting(0.0, "length, thousand pictures; 0: no second phase", ge=0)
    begin_from: str = setting(
        "",
        "a trained network of the method (a name, an exported folder, a workdir), for which the "
        "stages before are not run; '': the run's own",
        local="",
    )
    learning_rate: float = setting(2e-4, "of what the method trains", ge=0)
    betas: Betas = setting((0.5, 0.999), "of both Adams")
    ema: float = setting(0.998, "of the weights that fill", ge=0, le=1)
    hole_weight: float = setting(1.0, "of the hole's L1; the known pixels' has 1", ge=0)
    perceptual_weight: float = setting(1.5, "of the L1 of VGG features", ge=0)
    style_weight: float = setting(100.0, "of the L1 of their Gram matrices", ge=0)
    vgg_layers: Layers = setting(("relu1_1", "relu2_1", "relu3_1"), "of both")
    vgg: str = setting("bundled", "VGG-19's weights, as inpainting.vgg")
    crop: int = setting(
        0,
        "VGG and the discriminator see a square of this side that meets the hole; 0: all",
        ge=0,
        local=0,
    )
    adversarial_ratio: float = setting(
        0.7, "norm of the adversarial gradient over that of the others, at the filling", ge=0
    )
    matching_weight: float = setting(
        10.0, "of the discriminator's features, times the adversarial weight", ge=0
    )
    discriminator: Literal["features", "patch"] = setting(
        "features", "heads on the VGG maps; patch: a PatchGAN of its own"
    )
    discriminator_features: Channels = setting(
        (64, 128, 256, 512), "channels of its hidden convolutions, or of the heads (the first)"
    )
    discriminator_learning_rate: float = setting(4e-4, "of the discriminator", ge=0)
    head_start: int = setting(500, "steps in which the discriminator alone learns", ge=0)
    save_every: int = setting(2000, "steps between two checkpoints", gt=0)
    validate_every: int = setting(2000, "steps between two validations", gt=0)


def sharpened(method: Method, keeps: tuple[str, ...] = ()) -> Method:
    """The method with a second phase behind its last stage, where the config asks for one.

    Args:
        method: how holes are filled and what is trained before.
        keeps: beginnings of the names of modules that the second phase leaves as they are.
    """
    stages = method.stages
    if stages is None:
        return method

    def with_phase(config: ConfigDict) -> tuple[StageSpec, ...]:
        specs, begin_from = stages(config), config.sharpening.begin_from
        if not config.sharpening.length_kimg:
            return specs
        spec = StageSpec(
            STAGE,
            lambda context: SharpeningStage(method, keeps, config, context),
            after={} if begin_from else {specs[-1].name: ("average", "kept")},
            begin_from=begin_from,
            begin_from_field="config.sharpening.begin_from",
        )
        return (spec,) if begin_from else (*specs, spec)

    def finish(config: ConfigDict, average: Variables, kept: dict[str, Any]) -> Variables:
        if not config.sharpening.length_kimg:
            return method.finish(config, average, kept)
        return joined(average, kept)

    def check(config: ConfigDict) -> None:
        method.check(config)
        settings, crop_side = config.sharpening, config.sharpening.crop
        if settings.begin_from and not settings.length_kimg:
            raise UserError(
                f"config.sharpening.begin_from = {settings.begin_from!r} begins a second phase "
                "of config.sharpening.length_kimg = 0; set its length, or begin_from to ''"
            )
        other = next((spec for spec in stages(config) if spec.begin_from), None)
        if settings.begin_from and other:
            raise UserError(
                f"config.sharpening.begin_from = {settings.begin_from!r} and "
                f"{other.begin_from_field} = {other.begin_from!r}; set one of them to ''"
            )
        if settings.length_kimg and config.compute_dtype != "float32" and not method.takes_dtype:
            raise UserError(
                f"config.compute_dtype = {config.compute_dtype!r}: {method.title} has a second "
                "phase in float32 alone; use that"
            )
        if crop_side > config.image_size:
            raise UserError(
                f"config.sharpening.crop = {crop_side} is above config.image_size = "
                f"{config.image_size}; use at most that, or 0 for the whole picture"
            )

    return dataclasses.replace(
        method,
        stages=with_phase,
        finish=finish,
        check=check,
        sections={**method.sections, STAGE: Sharpening},
    )


class SharpeningStage(AdversarialStage):
    """Trains what a method's last stage trained, against a new discriminator.

    The state's parts: variables (trained weights by network, and the discriminator), average (of
    the trained weights), kept (all other variables that fill: frozen weights, statistics).
    """

    salt = stream = 7

    def __init__(
        self, method: Method, keeps: tuple[str, ...], config: ConfigDict, context: Context
    ):
        """Prepares the stage.

        Args:
            method: as it fills before this phase.
            keeps: see `sharpened`.
            config: the run's config.
            context: what the data say.
        """
        settings = config.sharpening
        channels = tuple(settings.discriminator_features)
        module = (
            PatchDiscriminator(channels, config.compute_dtype)
            if settings.discriminator == "patch"
            else FeatureDiscriminator(channels[0], config.compute_dtype)
        )
        self.adversary = Adversary(
            _CRITIC,
            module,
            "hinge",
            optax.adam(settings.discriminator_learning_rate, *settings.betas),
        )
        super().__init__(
            STAGE,
            method,
            config,
            context,
            steps_of(settings.length_kimg, config.batch_size) + settings.head_start,
            settings,
            optax.adam(settings.learning_rate, *settings.betas),
            (self.adversary,),
        )
        self._keeps = keeps
        self.layers = tuple(settings.vgg_layers)
        self.constants["vgg"] = load_vgg(settings.vgg, self.layers, field="sharpening.vgg")
        if settings.head_start:
            self.programs["head_start"] = self._head_start

    def init(self, key: jax.Array, given: Mapping[str, Any]) -> TrainState:
        """Begins with what the stage before gives; only the discriminator is drawn.

        Args:
            key: random key.
            given: {stage before: {"average", "kept"}}, or {"begin_from"}, all variables.
        """
        (before,) = given.values()
        if "begin_from" not in given:
            before = self._method.finish(self.config, before["average"], before["kept"])
        trained, kept = parted(before, self._stays)
        side = self.fields.crop or self.config.image_size
        image, mask = jnp.zeros((1, side, side, 3)), jnp.zeros((1, side, side, 1))
        maps = self._features(self.constants["vgg"], image)
        critic = dict(
            self.adversary.module.init(key, *self._shown(image, mask, maps), update_stats=False)
        )
        return self.begin(trained, {_CRITIC: critic}, kept=kept)

    def due(self, step: int) -> tuple[str, ...]:
        """The discriminator alone first, then both."""
        return ("head_start",) if step < self.fields.head_start else ("main",)

    def variables_of(self, state: TrainState) -> Variables:
        """What fills: averaged weights, and what is kept."""
        return joined(state.average, state.kept)

    def _stays(self, path: tuple[str, ...]) -> bool:
        """Whether a leaf of the variables is none of those that move."""
        return (
            path[1] != "params"
            or self._method.frozen(self.config, path)
            or path[2].startswith(self._keeps)
        )

    def _derived(self, state: TrainState, image: jax.Array, mask: jax.Array) -> dict[str, Any]:
        """Everything random of this step, with a row for each example."""
        keys, count = jax.random.split(self._key(state)), len(image)
        shapes = self._method.noise_shapes(self.config)
        drawn = jax.random.split(keys[0], max(len(shapes), 1))
        noise = {
            name: jax.random.normal(k, (count, *shape))
            for k, (name, shape) in zip(drawn, shapes.items(), strict=False)
        }
        side = self.fields.crop
        corners = {"corner": corners_on_hole(keys[1], mask, side)} if side else {}
        return {"noise": noise, **corners}

    def _fill(self, trained: Variables, kept: Variables, part: Batch) -> jax.Array:
        short = {"dtype": self.dtype} if self._method.takes_dtype else {}
        weights, noise = joined(trained, kept), part["noise"]
        filled: jax.Array = self._method.fill(
            self.config, weights, part["image"], part["mask"], noise, **short
        )
        return filled

    def _features(self, vgg: VggWeights, x: jax.Array) -> tuple[jax.Array, ...]:
        return features(vgg, x, self.layers, self.dtype)

    def _seen(self, part: Batch, x: jax.Array) -> jax.Array:
        """What VGG and the discriminator see of pictures or masks."""
        return crop(x, part["corner"], self.fields.crop) if self.fields.crop else x

    def _shown(self, image: jax.Array, mask: jax.Array, maps: tuple[jax.Array, ...]) -> Any:
        """What the discriminator is given of a picture, its mask and its VGG maps."""
        return (image, mask) if self.fields.discriminator == "patch" else (maps, mask)

    def _real(self, vgg: VggWeights, part: Batch) -> Any:
        image, mask = self._seen(part, part["image"]), self._seen(part, part["mask"])
        return self._shown(image, mask, self._features(vgg, image))

    def _head_start(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        """A step of the discriminator on what is filled as yet."""
        vgg, parts = batch["vgg"], self._parts(state, batch)
        trained = {name: state.variables[name] for name in state.average}

        def shown(part: Batch) -> tuple[tuple[()], Any]:
            raw, mask = self._fill(trained, state.kept, part), part["mask"]
            filled = composite(part["image"], raw, mask)
            seen, hole = self._seen(part, filled), self._seen(part, mask)
            fake = self._shown(seen, hole, self._features(vgg, seen))
            return (), {"real": self._real(vgg, part), "fake": fake}

        _, rows = in_micro_batches(shown, parts, self.accumulation)
        moved, states, told = gradient_step(
            self.adversary.loss,
            self.adversary.optimizer,
            {_CRITIC: state.variables[_CRITIC]},
            {_CRITIC: state.optimizer[_CRITIC]},
            rows,
            self.accumulation,
        )
        return state.replace(
            step=state.step + 1,
            variables={**state.variables, **moved},
            optimizer={**state.optimizer, **states},
        ), told.scalars

    def _loss(
        self, state: TrainState, batch: Batch, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Played]:
        """A scalar whose gradient is that of `_at_filling`, pulled back: Σ gradient · Î."""
        filled = self._fill(variables, state.kept, part)
        gradient, scalars, rows = self._at_filling(
            state, batch["vgg"], part, jax.lax.stop_gradient(filled)
        )
        return (jax.lax.stop_gradient(gradient) * filled).sum(), Played(
            scalars, {}, {_CRITIC: rows}
        )

    def _at_filling(
        self, state: TrainState, vgg: VggWeights, part: Batch, filled: jax.Array
    ) -> tuple[jax.Array, Scalars, Any]:
        """The gradient of the whole objective at Î, with its parts' norms in the hole."""
        settings, critic = self.fields, state.variables[_CRITIC]
        image, mask = part["image"], part["mask"]
        seen, hole = self._seen(part, image), self._seen(part, mask)
        target = self._features(vgg, seen)
        real = self._shown(seen, hole, target)
        real_outputs = self._outputs(critic, real)

        def pixels(x: jax.Array) -> jax.Array:
            return losses.reconstruction_loss(x, image, mask, settings.hole_weight, "all")

        def judged(x: jax.Array) -> tuple[jax.Array, tuple[Scalars, Any]]:
            """VGG's part, and the adversarial one beside it: each is pulled back alone."""
            shown = self._seen(part, composite(image, x, mask))
            maps = self._features(vgg, shown)
            fake = self._shown(shown, hole, maps)
            outputs = self._outputs(critic, fake)
            scalars = {
                "loss/perceptual": losses.perceptual_loss(maps, target),
                "loss/style": losses.style_loss(maps, target),
                "loss/adversarial": self.adversary.generator_loss(outputs[-1]),
                "loss/matching": losses.feature_matching_loss(outputs[:-1], real_outputs[:-1]),
            }
            vgg_part = (
                settings.perceptual_weight * scalars["loss/perceptual"]
                + settings.style_weight * scalars["loss/style"]
            )
            adversarial = (
                scalars["loss/adversarial"] + settings.matching_weight * scalars["loss/matching"]
            )
            return jnp.stack([vgg_part, adversarial]), (scalars, fake)

        reconstruction, of_pixels = jax.value_and_grad(pixels)(filled)
        _, pull, (scalars, fake) = jax.vjp(judged, filled, has_aux=True)
        (of_vgg,), (of_critic,) = pull(jnp.asarray([1.0, 0.0])), pull(jnp.asarray([0.0, 1.0]))

        def norm(gradient: jax.Array) -> jax.Array:
            return jnp.sqrt(jnp.square(gradient * mask).sum())

        weight = settings.adversarial_ratio * norm(of_pixels + of_vgg) / (norm(of_critic) + 1e-12)
        scalars |= {
            "loss/reconstruction": reconstruction,
            "gradient/filling_reconstruction": norm(of_pixels),
            "gradient/filling_vgg": norm(of_vgg),
            "gradient/filling_adversarial": weight * norm(of_critic),
            "adversarial/weight": weight,
        }
        return of_pixels + of_vgg + weight * of_critic, scalars, {"real": real, "fake": fake}

    def _outputs(self, critic: dict[str, Any], shown: Any) -> tuple[jax.Array, ...]:
        """The discriminator's hidden outputs and logits."""
        outputs, _ = self.adversary.judge(critic, shown, method="outputs")
        return outputs
