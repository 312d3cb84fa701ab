"""EdgeConnect as a method: its fields and its stages."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Context, Method, Noise, Stage, StageSpec, Variables
from gmsrm_jax.methods.edgeconnect import network
from gmsrm_jax.methods.edgeconnect.stages import EdgeStage, JointStage, PictureStage
from gmsrm_jax.nn.spectral import baked
from gmsrm_jax.nn.vgg import PERCEPTUAL_LAYERS, VGG19_FILE
from gmsrm_jax.runtime.fields import Betas, Channels, Layers, Section, setting


class EdgeConnectFields(Section):
    """The section config.edgeconnect; weights are those of the authors' example config."""

    width: int = setting(64, "channels of a generator at full size", local=8, gt=0)
    residual_blocks: int = setting(8, "of a generator, at a quarter of the size", local=2, ge=0)
    sigma: float = setting(2.0, "σ of Canny's Gaussian [px]", local=1.0, gt=0)
    discriminator_features: Channels = setting(
        (64, 128, 256, 512), "channels of a discriminator's hidden layers", local=(8, 16, 16, 16)
    )
    adversarial_form: Literal["logistic", "hinge"] = setting("logistic", "of adversarial losses")
    edge_adversarial_weight: float = setting(1.0, "of G1's adversarial loss", ge=0)
    feature_matching_weight: float = setting(10.0, "of L_FM, in D1's outputs", ge=0)
    l1_weight: float = setting(1.0, "of L1 in [0, 1], divided by the holes' share", ge=0)
    adversarial_weight: float = setting(0.1, "of G2's adversarial loss", ge=0)
    perceptual_weight: float = setting(0.1, "of the perceptual loss", ge=0)
    style_weight: float = setting(250.0, "of the style loss, in the hole", ge=0)
    perceptual_layers: Layers = setting(
        PERCEPTUAL_LAYERS, "VGG-19's, of the perceptual loss", local=PERCEPTUAL_LAYERS[:3]
    )
    style_layers: Layers = setting(
        ("relu2_2", "relu3_4", "relu4_4", "relu5_2"),
        "VGG-19's, of the style loss",
        local=("relu1_2", "relu2_2"),
    )
    vgg: str = VGG19_FILE
    learning_rate: float = setting(1e-4, "of Adam, in the first two stages", ge=0)
    joint_learning_rate: float = setting(1e-5, "of Adam, in the last stage", ge=0)
    discriminator_rate: float = setting(0.1, "a discriminator's rate over its generator's", ge=0)
    betas: Betas = setting((0.0, 0.9), "of Adam")
    ema: float = setting(0.0, "decay of the weights that fill; 0: the last ones", ge=0, le=1)
    joint_edges: Literal["frozen", "trained"] = setting("frozen", "G1 in the last stage")
    # 2 million steps of 8 pictures in all.
    edges_kimg: float = setting(6400.0, "stage edges [thousand pictures]", local=0.064, gt=0)
    inpainting_kimg: float = setting(
        6400.0, "stage inpainting [thousand pictures]", local=0.064, gt=0
    )
    joint_kimg: float = setting(3200.0, "stage joint [thousand pictures]", local=0.064, gt=0)
    save_every: int = setting(2000, "steps between two checkpoints", local=8, gt=0)
    validate_every: int = setting(2000, "steps between two validations", local=8, gt=0)


def _finish(config: ConfigDict, average: Variables, kept: dict[str, Any]) -> Variables:
    """Both generators, or that of an earlier stage, with spectral norms baked in."""
    del config
    return {name: baked(variables) for name, variables in {**kept, **average}.items()}


def _frozen(config: ConfigDict, path: tuple[str, ...]) -> bool:
    return config.edgeconnect.joint_edges == "frozen" and path[0] == "edge"


def _edges_alone(
    config: ConfigDict, variables: Variables, image: jax.Array, mask: jax.Array, noise: Noise
) -> jax.Array:
    """G1's completed edges as a picture in [-1, 1], three times the same channel."""
    del noise
    edges = network.complete_edges(config, variables["edge"], image, mask)
    return jnp.repeat(2.0 * edges - 1.0, 3, axis=-1)


def _with_true_edges(
    config: ConfigDict, variables: Variables, image: jax.Array, mask: jax.Array, noise: Noise
) -> jax.Array:
    """What G2 paints from the edges of the whole picture, while there is no G1."""
    del noise
    edges = network.true_edges(config, image)
    return network.painted(config, variables["picture"], image, mask, edges)


def _stages(config: ConfigDict) -> tuple[StageSpec, ...]:
    fields = config.edgeconnect
    handed: tuple[str, ...] = ("variables", "optimizer", "average")

    def spec(
        name: str,
        kind: Callable[..., Stage],
        fill: Callable[..., jax.Array],
        length: float,
        rate: float,
        **after: tuple[str, ...],
    ) -> StageSpec:
        method = dataclasses.replace(EDGECONNECT, fill=fill)

        def build(context: Context) -> Stage:
            return kind(name, method, config, context, length, rate)

        return StageSpec(name, build, after)

    return (
        spec("edges", EdgeStage, _edges_alone, fields.edges_kimg, fields.learning_rate),
        spec(
            "inpainting",
            PictureStage,
            _with_true_edges,
            fields.inpainting_kimg,
            fields.learning_rate,
        ),
        spec(
            "joint",
            JointStage,
            network.fill,
            fields.joint_kimg,
            fields.joint_learning_rate,
            edges=("average",) if fields.joint_edges == "frozen" else handed,
            inpainting=handed,
        ),
    )


EDGECONNECT = Method(
    name="edgeconnect",
    title="EdgeConnect",
    priors="A",
    about="EdgeConnect (Nazeri et al., arXiv 1901.00212) completes the edges of a picture first, "
    "then paints it from its known pixels and all edges.",
    fill=network.fill,
    takes_dtype=True,
    sections={"edgeconnect": EdgeConnectFields},
    shared={"batch_size": 8},
    network_fields=(
        "edgeconnect.width",
        "edgeconnect.residual_blocks",
        "edgeconnect.sigma",
    ),
    lengths=(
        "edgeconnect.edges_kimg",
        "edgeconnect.inpainting_kimg",
        "edgeconnect.joint_kimg",
    ),
    stages=_stages,
    init=network.init,
    finish=_finish,
    frozen=_frozen,
)
