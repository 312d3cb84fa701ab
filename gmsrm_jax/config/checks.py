"""Checks of a run's config: what its fields can be, each refused by its name and value."""

from typing import Any

from ml_collections import ConfigDict

from gmsrm_jax.config.fields import VGG_LAYERS
from gmsrm_jax.data.decoding import MAX_PIXELS
from gmsrm_jax.methods.gm_srm.variants import VARIANTS
from gmsrm_jax.runtime.errors import UserError

_CHOICES = {
    "variant": tuple(VARIANTS),
    "compute_dtype": ("float32", "bfloat16"),
    "matmul_precision": ("default", "high", "highest"),
    "data.pipeline": ("tfdata", "arrays"),
    "data.split": ("auto", "folders", "hash"),
    "data.test_resize": ("shorter_side", "direct"),
    "model.noise_statistics": ("encoder_decoder", "encoder"),
    "memory.code_source": ("encoder", "mapping"),
    "memory.augment": ("none", "diffaug", "ada"),
    "inpainting.schedule": ("constant", "half_linear", "cosine"),
    "inpainting.reconstruction_norm": ("all", "region"),
    "inpainting.kl_reduction": ("mean", "sum"),
    "inpainting.adversarial_form": ("hinge", "wasserstein"),
    "inpainting.discriminator_image": ("raw", "composite"),
    "inpainting.perceptual_image": ("raw", "composite"),
    "evaluation.noise": ("sampled", "mean", "both"),
}
_POSITIVE = (
    "batch_size",
    "accumulation",
    "log_every",
    "data.num_threads",
    "data.max_pixels",
    "model.channel_base",
    "model.channel_max",
    "model.code_dim",
    "model.code_channels",
    "memory.batch_size",
    "memory.length_kimg",
    "memory.save_every",
    "memory.validate_every",
    "memory.ema_kimg",
    "memory.path_batch_shrink",
    "memory.ada_interval",
    "memory.ada_kimg",
    "memory.validation_samples",
    "memory.mapping_layers",
    "inpainting.epochs",
    "inpainting.query_rate",
    "inpainting.diversity_batch_shrink",
    "inpainting.save_every",
    "inpainting.validate_every",
    "evaluation.batch_size",
    "evaluation.samples",
)
_SETS = {
    "evaluation.baselines": ("untrained", "mean", "smooth", "telea", "ns", "biharmonic"),
    "evaluation.perceptual": ("vgg_hole", "lpips_vgg", "lpips_alex", "fid"),
}
_NOT_NEGATIVE = (
    "seed",
    "max_skipped_updates",
    "inpainting.diversity_grid",
    "evaluation.seed",
    "evaluation.max_images",
)
_SHARES = (
    "inpainting.ema",
    "memory.style_mixing",
    "data.test_fraction",
    "data.max_bad_share",
)


def check_config(config: ConfigDict) -> None:
    """Checks the values that fields can be given.

    Raises:
        UserError: names the field, its value and what it can be.
    """
    _check_words(config)
    _check_numbers(config)
    _check_network(config)
    _check_micro_batches(config)
    if config.data.validation_count < 2:
        raise UserError(
            f"config.data.validation_count = {config.data.validation_count}; keep at least 2 "
            "pictures aside, for the snapshot of stage 1 is chosen by them"
        )
    if config.data.max_pixels > 2 * MAX_PIXELS:
        raise UserError(
            f"config.data.max_pixels = {config.data.max_pixels}; Pillow itself refuses more than "
            f"{2 * MAX_PIXELS}, use at most that"
        )
    masks = config.evaluation.masks
    if config.evaluation.invert_masks and (
        masks in ("generated", "bundled") or masks.endswith(".npz")
    ):
        raise UserError(
            f"config.evaluation.invert_masks = True is for a folder of masks, but "
            f"config.evaluation.masks = {masks!r}; set it to False"
        )
    if config.memory.reconstruction_weight and config.memory.code_source != "encoder":
        raise UserError(
            "config.memory.reconstruction_weight needs memory.code_source = 'encoder'; set it to 0"
        )


def _value(config: ConfigDict, key: str) -> Any:
    """The field of a dotted name."""
    item: Any = config
    for part in key.split("."):
        item = item[part]
    return item


def _check_words(config: ConfigDict) -> None:
    """Fields that are one of some words, or several of them."""
    for key, choices in _CHOICES.items():
        value = _value(config, key)
        if value not in choices:
            raise UserError(f"config.{key} = {value!r}; use one of: {', '.join(choices)}")
    for key, choices in _SETS.items():
        for word in _value(config, key):
            if word not in choices:
                raise UserError(f"config.{key} names {word!r}; use any of: {', '.join(choices)}")
    for word in config.evaluation.predictions:
        if not all(word.partition("=")):
            raise UserError(f"config.evaluation.predictions names {word!r}; write NAME=DIR")


def _check_numbers(config: ConfigDict) -> None:
    """Fields that lie in a range."""
    for key in _POSITIVE:
        value = _value(config, key)
        if not value > 0:
            raise UserError(f"config.{key} = {value!r}; it must be above 0")
    for key in _NOT_NEGATIVE:
        value = _value(config, key)
        if value < 0:
            raise UserError(f"config.{key} = {value}; it must be 0 or above")
    for key in ("memory.r1_interval", "memory.path_interval"):
        value = _value(config, key)
        if value < 0:
            raise UserError(f"config.{key} = {value}; use 1 or more, or 0 for never")
    for key in _SHARES:
        value = _value(config, key)
        if not 0.0 <= value <= 1.0:
            raise UserError(f"config.{key} = {value}; use 0 to 1")
    if config.xla_optimization_level not in range(4):
        raise UserError(
            f"config.xla_optimization_level = {config.xla_optimization_level}; use 0, 1, 2 or 3"
        )


def _check_network(config: ConfigDict) -> None:
    """Sizes of the networks."""
    size = config.image_size
    if size < 32 or size & (size - 1):
        raise UserError(f"config.image_size = {size}; use a power of two from 32")
    if config.model.channel_base < size:
        raise UserError(
            f"config.model.channel_base = {config.model.channel_base} leaves no channel at "
            f"{size} px; use at least {size}"
        )
    if config.model.fusion_kernel not in (1, 3):
        raise UserError(f"config.model.fusion_kernel = {config.model.fusion_kernel}; use 1 or 3")
    first = config.model.remat_from
    if first < 0 or first & (first - 1):
        raise UserError(
            f"config.model.remat_from = {first}; use a resolution, a power of two, or 0 for none"
        )
    grid = config.inpainting.diversity_grid
    if grid and config.image_size % grid:
        raise UserError(
            f"config.inpainting.diversity_grid = {grid} does not divide config.image_size = "
            f"{config.image_size}; use a power of two"
        )
    if not config.inpainting.discriminator_features:
        raise UserError("config.inpainting.discriminator_features is empty; name channels")
    layers = tuple(config.inpainting.perceptual_layers)
    if layers != VGG_LAYERS[: len(layers)] or not layers:
        raise UserError(
            f"config.inpainting.perceptual_layers = {layers}; use the first layers of {VGG_LAYERS}"
        )


def check_growth(config: ConfigDict, smaller: ConfigDict) -> None:
    """Checks that a stage 1 can begin with the weights of another.

    Raises:
        UserError: names the field that does not allow it, and both values.
    """
    workdir = config.memory.grow_from
    if smaller.image_size >= config.image_size:
        raise UserError(
            f"config.memory.grow_from: {workdir} has image_size {smaller.image_size}, and this "
            f"config {config.image_size}; name one of fewer pixels"
        )
    for key in (
        "memory.code_source",
        "memory.mapping_layers",
        "model.channel_base",
        "model.channel_max",
        "model.code_channels",
        "model.code_dim",
    ):
        theirs, ours = _value(smaller, key), _value(config, key)
        if theirs != ours:
            raise UserError(
                f"config.memory.grow_from: {workdir} has {key} = {theirs!r}, and this config "
                f"{ours!r}; use the same"
            )


def _check_micro_batches(config: ConfigDict) -> None:
    """Batches that a step takes apart: by accumulation, and for the path length."""
    memory, count = config.memory, config.accumulation
    for key in ("batch_size", "memory.batch_size"):
        size = _value(config, key)
        if size % count:
            raise UserError(
                f"config.{key} = {size} is not a multiple of config.accumulation = {count}; "
                "change either"
            )
    for key, shrink, used in (
        ("memory.batch_size", "memory.path_batch_shrink", memory.path_interval),
        ("batch_size", "inpainting.diversity_batch_shrink", config.inpainting.diversity_weight),
    ):
        size, by = _value(config, key), _value(config, shrink)
        if size % by:
            raise UserError(
                f"config.{key} = {size} is not a multiple of {shrink} = {by}; change either"
            )
        if used and size // by % count:
            raise UserError(
                f"config.{key} = {size} over {shrink} = {by} is {size // by}, not a multiple of "
                f"config.accumulation = {count}; change one of them"
            )
