"""EdgeConnect's stages: G1 with D1, G2 with D2 on true edges, then G2 with D2 on G1's edges."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from gmsrm_jax.methods.adversarial_stage import AdversarialStage
from gmsrm_jax.methods.base import Batch, Context, Method, TrainState, Variables, apply
from gmsrm_jax.methods.edgeconnect import network
from gmsrm_jax.methods.stage import steps_of
from gmsrm_jax.nn import losses
from gmsrm_jax.nn.adversarial import Adversary, Played
from gmsrm_jax.nn.canny import grey
from gmsrm_jax.nn.patch_discriminator import PatchDiscriminator
from gmsrm_jax.nn.spectral import baked, drawn
from gmsrm_jax.nn.vgg import features, load_vgg
from gmsrm_jax.runtime.pixels import to_signed, to_unit

Given = Mapping[str, Any]


class AgainstPatches(AdversarialStage):
    """A generator and its patch discriminator."""

    judged: str  # name of the discriminator among the state's networks

    def __init__(
        self,
        name: str,
        method: Method,
        config: ConfigDict,
        context: Context,
        length_kimg: float,
        learning_rate: float,
    ):
        """Prepares the stage; see `AdversarialStage`.

        Args:
            name: of the stage.
            method: how its averages fill.
            config: the run's config.
            context: what the data say.
            length_kimg: thousand pictures.
            learning_rate: of the generator.
        """
        fields = config.edgeconnect
        self.adversary = Adversary(
            self.judged,
            PatchDiscriminator(
                tuple(fields.discriminator_features), config.compute_dtype, False, network.INIT
            ),
            fields.adversarial_form,
            optax.adam(learning_rate * fields.discriminator_rate, *fields.betas),
        )
        super().__init__(
            name,
            method,
            config,
            context,
            steps_of(length_kimg, config.batch_size),
            fields,
            optax.adam(learning_rate, *fields.betas),
            (self.adversary,),
        )


class EdgeStage(AgainstPatches):
    """G1 learns to complete edge maps; its "fillings" are edge maps."""

    salt = 1
    judged = "edge_discriminator"

    def __init__(self, *arguments: Any):
        """Prepares the stage; see `AgainstPatches`."""
        super().__init__(*arguments)
        self._edges_of = jax.jit(lambda x: network.true_edges(self.config, to_signed(x)))

    def init(self, key: jax.Array, given: Given) -> TrainState:
        """Draws G1 and D1."""
        del given
        keys, side = jax.random.split(key), self.config.image_size
        module = network.edge_network(self.config, spectral=True)
        variables = {"edge": drawn(module, keys[0], jnp.zeros((1, side, side, 3)))}
        return self._begin_drawn(variables, keys[1], {self.judged: ((side, 1), (side, 1))})

    def validate(self, state: TrainState) -> dict[str, float]:
        """Precision and recall of the edge pixels in the holes, an edge being 0.5 and above."""
        images, masks = self.validation["image"], self.validation["mask"]
        hole = masks[..., 0] > 0
        found = (self.fill(state, images, masks)[..., 0] >= 128) & hole
        true = (self._true(images)[..., 0] > 0) & hole
        both = (found & true).sum()
        return {
            "validation/edge_precision": float(both / max(found.sum(), 1)),
            "validation/edge_recall": float(both / max(true.sum(), 1)),
        }

    def panels(self, state: TrainState) -> dict[str, tuple[np.ndarray, int]]:
        """One row a picture: picture with a white hole, known edges, completed edges, true ones."""
        count = min(4, len(self.validation["image"]))
        images, masks = self.validation["image"][:count], self.validation["mask"][:count]
        completed, true = self.fill(state, images, masks), self._true(images)
        held = np.where(masks > 0, np.uint8(255), images)
        rows = np.stack([held, np.where(masks > 0, 0, completed), completed, true], axis=1)
        return {"edges": (rows.reshape(-1, *images.shape[1:]).astype(np.uint8), 4)}

    def _true(self, images: np.ndarray) -> np.ndarray:
        """Edges of uint8 pictures as uint8 pictures [N, S, S, 3], 0 or 255."""
        return np.repeat(np.asarray(self._edges_of(images) * 255, np.uint8), 3, axis=-1)

    def _derived(self, state: TrainState, image: jax.Array, mask: jax.Array) -> dict[str, Any]:
        del state
        return {
            "known": network.known_edges(self.config, image, mask),
            "true": network.true_edges(self.config, image),
        }

    def _loss(
        self, state: TrainState, batch: Batch, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Played]:
        """L_G1 = L_adv,1 + 10 · L_FM (Sec. 3.1); D1 sees edges beside the grey picture."""
        del batch
        module = network.edge_network(self.config, self.dtype, spectral=True)
        seen = network.edge_input(part["image"], part["mask"], part["known"])
        logits, renewed = _with_statistics(module, variables["edge"], seen)
        values = grey(to_unit(part["image"]))
        rows = {"real": (values, part["true"]), "fake": (values, jax.nn.sigmoid(logits))}
        real, fake = (
            self.adversary.judge(state.variables[self.judged], rows[kind], "outputs")[0]
            for kind in ("real", "fake")
        )
        scalars = {
            "loss/adversarial": self.adversary.generator_loss(fake[-1]),
            "loss/feature_matching": losses.feature_matching_loss(fake, real),
        }
        total = (
            self.fields.edge_adversarial_weight * scalars["loss/adversarial"]
            + self.fields.feature_matching_weight * scalars["loss/feature_matching"]
        )
        return total, Played(
            {**scalars, "loss/total": total}, {"edge": renewed}, {self.judged: rows}
        )


class PictureStage(AgainstPatches):
    """G2 learns to paint from the true edges of whole pictures."""

    salt = 2
    judged = "discriminator"

    def __init__(self, *arguments: Any):
        """Prepares the stage and reads VGG-19; see `AgainstPatches`."""
        super().__init__(*arguments)
        fields = self.fields
        self.perceptual = tuple(fields.perceptual_layers) if fields.perceptual_weight else ()
        self.style = tuple(fields.style_layers) if fields.style_weight else ()
        if self.perceptual or self.style:
            taps = self.perceptual + self.style
            vgg = load_vgg(fields.vgg, taps, unit_input=True, field="edgeconnect.vgg")
            self.constants["vgg"] = vgg

    def init(self, key: jax.Array, given: Given) -> TrainState:
        """Draws G2 and D2."""
        del given
        keys, side = jax.random.split(key), self.config.image_size
        module = network.picture_network(self.config)
        variables = {"picture": dict(module.init(keys[0], jnp.zeros((1, side, side, 4))))}
        return self._begin_drawn(variables, keys[1], {self.judged: ((side, 3),)})

    def _derived(self, state: TrainState, image: jax.Array, mask: jax.Array) -> dict[str, Any]:
        del state
        share = jnp.broadcast_to(mask.mean(), mask.shape[:1])
        return {"share": share, "edges": network.true_edges(self.config, image)}

    def _edges(
        self, state: TrainState, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Variables]:
        """The edges that G2 paints from, and renewed statistics of what made them."""
        del state, variables
        return part["edges"], {}

    def _loss(
        self, state: TrainState, batch: Batch, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Played]:
        """L_G2 = L_l1 + 0.1 · L_adv,2 + 0.1 · L_perc + 250 · L_style (Sec. 3.2).

        L1 and D2 see whole pictures in [0, 1], style the hole alone; no VGG of weight 0.
        """
        image, mask = part["image"], part["mask"]
        edges, statistics = self._edges(state, variables, part)
        module = network.picture_network(self.config, self.dtype)
        seen = network.picture_input(image, mask, edges)
        raw = jnp.tanh(apply(module, variables["picture"], seen))
        rows = {"real": (to_unit(image),), "fake": (to_unit(raw),)}
        terms = {
            "l1": losses.hole_share_loss(*rows["fake"], *rows["real"], part["share"][0]),
            "adversarial": self.adversary.fooling_loss(state.variables, rows),
        }
        if self.perceptual:
            fake, real = (
                features(batch["vgg"], x, self.perceptual, self.dtype) for x in (raw, image)
            )
            terms["perceptual"] = losses.perceptual_loss(fake, real)
        if self.style:
            # Black outside the hole: -1.
            fake, real = (
                features(batch["vgg"], (x + 1.0) * mask - 1.0, self.style, self.dtype)
                for x in (raw, image)
            )
            terms["style"] = losses.style_loss(fake, real)
        return self._played(terms, {self.judged: rows}, statistics)


class JointStage(PictureStage):
    """G2 goes on with the edges that G1 completes; G1 learns with it if it is trained.

    A frozen G1 stands in `kept`, without spectral norms. A trained one learns from G2's loss alone,
    without D1, as the paper has it.
    """

    salt = 3

    def init(self, key: jax.Array, given: Given) -> TrainState:
        """Takes over G1 of the stage "edges", and everything of the stage "inpainting"."""
        del key
        before, edges = given["inpainting"], given["edges"]
        state = TrainState(
            step=jnp.zeros((), jnp.int32),
            variables=before["variables"],
            average=before["average"],
            optimizer=before["optimizer"],
        )
        if self.fields.joint_edges == "frozen":
            return state.replace(kept={"edge": baked(edges["average"]["edge"])})
        return state.replace(
            **{
                item: {**getattr(state, item), "edge": edges[item]["edge"]}
                for item in ("variables", "average", "optimizer")
            }
        )

    def _derived(self, state: TrainState, image: jax.Array, mask: jax.Array) -> dict[str, Any]:
        del state
        share = jnp.broadcast_to(mask.mean(), mask.shape[:1])
        return {"share": share, "known": network.known_edges(self.config, image, mask)}

    def _edges(
        self, state: TrainState, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Variables]:
        mask, known = part["mask"], part["known"]
        seen = network.edge_input(part["image"], mask, known)
        trained = "edge" in variables
        module = network.edge_network(self.config, self.dtype, spectral=trained)
        if not trained:
            logits = apply(module, state.kept["edge"], seen)
            return network.joined_edges(logits, mask, known), {}
        logits, renewed = _with_statistics(module, variables["edge"], seen)
        return network.joined_edges(logits, mask, known), {"edge": renewed}


def _with_statistics(
    module: network.Generator, variables: dict[str, Any], x: jax.Array
) -> tuple[jax.Array, dict[str, Any]]:
    """Logits of a network with spectral norms, and its vectors one power iteration on."""
    result: Any = module.apply(variables, x, update_stats=True, mutable=["batch_stats"])
    return result
