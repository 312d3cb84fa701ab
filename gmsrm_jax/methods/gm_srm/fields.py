"""GM-SRM's fields with the paper's settings, its variants, and what no single field shows."""

import dataclasses
from typing import Any, Literal, NamedTuple

import flax.linen as nn
from ml_collections import ConfigDict

from gmsrm_jax.nn.optimizers import Schedule
from gmsrm_jax.nn.vgg import PERCEPTUAL_LAYERS, VGG19_FILE
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.fields import Betas, Channels, Layers, Section, setting

VGG_LAYERS = PERCEPTUAL_LAYERS


class Variant(NamedTuple):
    """The parts of a variant of Table IV.

    Attributes:
        title: its row.
        memory: query a frozen generative memory (and so pre-train one).
        conditional_noise: noise N(μ_i, σ_i²) from the features (Eq. 8) and its KL term (Eq. 9).
        progressive: a new query code at every level (Eq. 7).
    """

    title: str
    memory: bool
    conditional_noise: bool
    progressive: bool


VARIANTS = {
    "base": Variant("Base", memory=False, conditional_noise=False, progressive=False),
    "gm_bm": Variant("GM-BM", memory=True, conditional_noise=False, progressive=False),
    "gm_csv": Variant("GM-CSV", memory=True, conditional_noise=True, progressive=False),
    "gm_srm": Variant("GM-SRM", memory=True, conditional_noise=True, progressive=True),
}


class Model(Section):
    """The networks of both stages."""

    channel_base: int = setting(
        16384, "C(r) = min(channel_base // r, channel_max)", gt=0, le=1 << 20, local=512
    )
    channel_max: int = setting(512, "see channel_base", gt=0, le=1 << 16, local=32)
    code_dim: int = setting(512, "size of a query code", gt=0, le=1 << 16, local=32)
    code_channels: int = setting(
        64, "width of the convolution before a code", gt=0, le=1 << 16, local=16
    )
    noise_statistics: Literal["encoder_decoder", "encoder"] = setting(
        "encoder_decoder", "what Eq. 8 sees; encoder is Algorithm 1, line 7"
    )
    fusion_kernel: Literal[1, 3] = setting(3, "side of the fusion convolutions")
    fusion_rescale: bool = setting(
        False, "each example leaves a fusion as large as the memory's half came (not in the paper)"
    )
    memory_at_full_size: bool = setting(
        True,
        "Algorithm 1's last iteration: the memory is asked at image_size too, fused with the raw "
        "input, and joined before the output convolution",
    )
    noise_limit: Literal["soft", "clip"] = setting(
        "soft", "of Eq. 8: 4·tanh(z/4) of μ and log σ²; clip: log σ² at ±10, μ free"
    )
    head_rate: float = setting(
        0.1,
        "rate of the dense layers of queries and statistics, times the network's, by equalised "
        "weights; 0: plain layers",
        ge=0,
        le=1,
    )
    query_pool: int = setting(
        16, "maps are averaged to this size before a query's convolution; 0: not", ge=0, le=4096
    )
    stem_skip: bool = setting(False, "join the stem's feature before the output convolution")
    smooth_skip: bool = setting(
        False, "the output is a correction to nn/smooth_fill.py; for short training"
    )
    smooth_residual: Literal["linear", "tanh"] = setting(
        "linear", "with smooth_skip: filling and correction are added as they are, or before tanh"
    )
    pyramid_from: int = setting(
        0,
        "from this size on the picture is read, and a part of the output given, at every size up "
        "to image_size, so that stage 2 can grow (inpainting.grow_from); 0: at image_size alone",
        ge=0,
        local=0,
    )
    remat_from: int = setting(
        0, "blocks from this resolution on are computed again in the backward pass; 0: none", ge=0
    )


class Memory(Section):
    """Stage 1."""

    code_source: Literal["encoder", "mapping"] = setting(
        "encoder", "the paper's sentence; mapping is plain StyleGAN2"
    )
    batch_size: int = setting(32, "pictures of a step, over all devices", gt=0, local=8)
    length_kimg: float = setting(5000.0, "length, thousand pictures", gt=0, local=0.128)
    learning_rate: float = setting(0.0025, "of synthesis, mapping and discriminator", ge=0)
    encoder_learning_rate: float = setting(2e-4, "of encoder and f_c", ge=0)
    betas: Betas = setting((0.0, 0.99), "of Adam")
    r1_gamma: float = setting(0.0002, "weight of R1, times size² / batch", ge=0)
    r1_interval: int = setting(16, "steps between two R1 steps; 0: never", ge=0)
    path_interval: int = setting(4, "steps between two path length steps; 0: never", ge=0)
    path_weight: float = setting(2.0, "of the path length's penalty", ge=0)
    path_decay: float = setting(0.01, "of the mean path length, a step", ge=0, le=1)
    path_batch_shrink: int = setting(2, "path length is taken on batch / this", gt=0)
    style_mixing: float = setting(0.9, "share of examples with codes of two pictures", ge=0, le=1)
    ema_kimg: float = setting(10.0, "half-life of the average, thousand pictures", gt=0)
    ema_rampup: float = setting(0.05, "half-life is at most this share of the pictures seen", ge=0)
    mapping_layers: int = setting(2, "depth of the mapping network", gt=0)
    grow_from: str = setting(
        "", "workdir of a stage 1 at a smaller image_size, to begin with its weights", local=""
    )
    noise_strength_init: float = setting(0.0, "start of the learned noise strengths")
    train_noise_strength: bool = setting(
        True, "False keeps the noise strengths: an L1 term drives them to 0"
    )
    augment: Literal["none", "ada"] = setting("none", "of both pictures, for small sets")
    ada_target: float = setting(0.6, "r_t that ADA steers to", ge=-1, le=1)
    ada_interval: int = setting(4, "steps between two moves of ADA's p", gt=0)
    ada_kimg: float = setting(500.0, "thousand pictures in which p could go from 0 to 1", gt=0)
    reconstruction_weight: float = setting(
        0.0, "L1 to the whole picture, encoder source only", ge=0
    )
    validation_samples: int = setting(
        256, "pictures in the distance that chooses the snapshot", gt=0, local=16
    )
    save_every: int = setting(2000, "steps between two checkpoints", gt=0, local=8)
    validate_every: int = setting(2000, "steps between two validations", gt=0, local=8)


class Inpainting(Section):
    """Stage 2."""

    begin_from: str = setting(
        "",
        "a trained network whose weights, frozen memory and all, are taken in place of stage 1's: "
        "facades-128, an exported folder, a workdir, what `gmsrm inpaint --checkpoint` takes",
        local="",
    )
    grow_from: str = setting(
        "",
        "workdir of a stage 2 at a smaller image_size with the same model.pyramid_from, to begin "
        "with its weights",
        local="",
    )
    epochs: float = setting(100.0, "length, passes over the training pictures", gt=0, local=0.35)
    length_kimg: float = setting(0.0, "length, thousand pictures; 0: as epochs says", ge=0)
    learning_rate: float = setting(2e-4, "of the network", ge=0)
    query_rate: float = setting(1.0, "of query codes and noise statistics, times that", gt=0)
    discriminator_learning_rate: float = setting(2e-4, "of the discriminator", ge=0)
    betas: Betas = setting((0.5, 0.999), "of both Adams")
    schedule: Schedule = setting(
        "half_linear", "of both rates; half_linear: constant, then linear to 0 over the second half"
    )
    ema: float = setting(0.999, "of the weights that fill", ge=0, le=1)
    reconstruction_weight: float = setting(1.0, "λ1 of Eq. 14", ge=0)
    perceptual_weight: float = setting(0.1, "λ2", ge=0)
    adversarial_weight: float = setting(0.01, "λ3", ge=0)
    kl_weight: float = setting(0.01, "λ4", ge=0)
    hole_weight: float = setting(10.0, "γ of Eq. 10", ge=0)
    reconstruction_norm: Literal["all", "region"] = setting(
        "all", "mean over all elements; region: over each area"
    )
    perceptual_layers: Layers = setting(
        VGG_LAYERS, "of Eq. 11, the first of these", local=VGG_LAYERS[:3]
    )
    perceptual_crop: int = setting(
        0,
        "Eq. 11 sees a square of this side that meets the hole, another each step; 0: all",
        ge=0,
        local=0,
    )
    perceptual_image: Literal["raw", "composite"] = setting("raw", "what Eq. 11 sees")
    vgg: str = VGG19_FILE
    kl_reduction: Literal["mean", "sum"] = setting("mean", "of Eq. 9 over levels")
    discriminator_image: Literal["raw", "composite"] = setting("raw", "what it sees")
    discriminator_mask: bool = setting(False, "condition it on the mask")
    discriminator_features: Channels = setting(
        (64, 128, 256, 512), "channels of its hidden convolutions", local=(16, 32, 32, 32)
    )
    train_noise_strength: bool = setting(False, "let stage 2 move the memory's noise strengths")
    save_every: int = setting(2000, "steps between two checkpoints", gt=0, local=8)
    validate_every: int = setting(2000, "steps between two validations", gt=0, local=8)


SECTIONS: dict[str, type[Section]] = {"model": Model, "memory": Memory, "inpainting": Inpainting}
NETWORK_FIELDS = (
    "model.channel_base",
    "model.channel_max",
    "model.code_dim",
    "model.code_channels",
    "model.noise_statistics",
    "model.fusion_kernel",
    "model.fusion_rescale",
    "model.memory_at_full_size",
    "model.noise_limit",
    "model.head_rate",
    "model.query_pool",
    "model.stem_skip",
    "model.smooth_skip",
    "model.smooth_residual",
    "model.pyramid_from",
    "memory.code_source",
)
# What stage 1 depends on, of whatever method.
MEMORY_FIELDS = (
    "memory",
    "model.channel_base",
    "model.channel_max",
    "model.code_dim",
    "model.code_channels",
    "model.head_rate",
    "model.query_pool",
    "model.remat_from",
)
# The network of facades-128, whose folder says nothing of these fields.
FIRST_MODEL = {
    "fusion_rescale": True,
    "memory_at_full_size": False,
    "noise_limit": "clip",
    "head_rate": 0.0,
    "query_pool": 0,
    "smooth_residual": "tanh",
    "pyramid_from": 0,
}


def model_fields(module: type[nn.Module], config: ConfigDict) -> dict[str, Any]:
    """The values of config.model that a module has fields of the same name for."""
    names = {field.name for field in dataclasses.fields(module)}
    return {name: value for name, value in config.model.items() if name in names}


def check(config: ConfigDict) -> None:
    """Checks what no single field shows.

    Raises:
        UserError: names the field, its value and what it can be.
    """
    inpainting, model, size = config.inpainting, config.model, config.image_size
    _check_networks(config)
    if VARIANTS[config.variant].memory and not inpainting.begin_from:
        _check_micro_batches(config.memory, config.accumulation)
    if inpainting.perceptual_crop > size:
        raise UserError(
            f"config.inpainting.perceptual_crop = {inpainting.perceptual_crop} is above "
            f"config.image_size = {size}; use at most that, or 0 for the whole picture"
        )
    if inpainting.grow_from and (inpainting.begin_from or not model.pyramid_from):
        raise UserError(
            f"config.inpainting.grow_from = {inpainting.grow_from!r} needs model.pyramid_from, the "
            "smaller image_size, and inpainting.begin_from = ''; set them so"
        )
    layers = tuple(inpainting.perceptual_layers)
    if layers != VGG_LAYERS[: len(layers)]:
        raise UserError(
            f"config.inpainting.perceptual_layers = {layers}; use the first layers of {VGG_LAYERS}"
        )


def check_memory(config: ConfigDict) -> None:
    """Checks what stage 1 needs, of any method that trains it.

    Raises:
        UserError: names the field, its value and what it can be.
    """
    _check_networks(config)
    _check_micro_batches(config.memory, config.accumulation)


def _check_networks(config: ConfigDict) -> None:
    model, memory, size = config.model, config.memory, config.image_size
    if model.channel_base < size:
        raise UserError(
            f"config.model.channel_base = {model.channel_base} leaves no channel at {size} px; use "
            f"at least {size}"
        )
    for name in ("remat_from", "pyramid_from"):
        first = model[name]
        if first & (first - 1):
            raise UserError(
                f"config.model.{name} = {first}; use a resolution, a power of two, or 0 for none"
            )
    if model.pyramid_from and not 8 <= model.pyramid_from <= size:
        raise UserError(
            f"config.model.pyramid_from = {model.pyramid_from}; use 8 … {size}, config.image_size, "
            "or 0 for none"
        )
    pool = model.query_pool
    if pool and (pool < 4 or pool & (pool - 1)):
        raise UserError(
            f"config.model.query_pool = {pool}; use a power of two from 4, or 0 for none"
        )
    if memory.reconstruction_weight and memory.code_source != "encoder":
        raise UserError(
            "config.memory.reconstruction_weight needs memory.code_source = 'encoder'; set it to 0"
        )


# What must agree where a stage begins with the weights of a smaller one of its name.
_ALIKE = {
    "memory": (
        "memory.code_source",
        "memory.mapping_layers",
        "model.channel_base",
        "model.channel_max",
        "model.code_channels",
        "model.code_dim",
        "model.head_rate",
        "model.pyramid_from",
    ),
    "inpainting": (
        *NETWORK_FIELDS,
        "inpainting.discriminator_features",
        "inpainting.discriminator_mask",
    ),
}


def check_growth(config: ConfigDict, smaller: ConfigDict, stage: str = "memory") -> None:
    """Checks that a stage can begin with the weights of a smaller one of its name.

    Raises:
        UserError: names the field that does not allow it, and both values.
    """
    where = f"config.{stage}.grow_from: {config[stage].grow_from}"
    if smaller.image_size >= config.image_size:
        raise UserError(
            f"{where} has image_size {smaller.image_size}, and this config {config.image_size}; "
            "name one of fewer pixels"
        )
    if stage == "inpainting" and smaller.variant != config.variant:
        raise UserError(
            f"{where} has variant = {smaller.variant!r}, and this config {config.variant!r}; use "
            "the same"
        )
    for name in _ALIKE[stage]:
        section, field = name.split(".")
        theirs, ours = smaller[section][field], config[section][field]
        if theirs != ours:
            raise UserError(
                f"{where} has {name} = {theirs!r}, and this config {ours!r}; use the same"
            )


def _check_micro_batches(memory: ConfigDict, count: int) -> None:
    """Batches of stage 1 that a step takes apart: by accumulation, and for the path length."""
    size, by = memory.batch_size, memory.path_batch_shrink
    if size % count:
        raise UserError(
            f"config.memory.batch_size = {size} is not a multiple of config.accumulation = "
            f"{count}; change either"
        )
    if size % by:
        raise UserError(
            f"config.memory.batch_size = {size} is not a multiple of memory.path_batch_shrink = "
            f"{by}; change either"
        )
    if memory.path_interval and size // by % count:
        raise UserError(
            f"config.memory.batch_size = {size} over memory.path_batch_shrink = {by} is "
            f"{size // by}, not a multiple of config.accumulation = {count}; change one of them"
        )
