r"""Table I in small: all eight methods at 64 px, on the same pictures, on one CPU core.

Aims at methods that are trained alike, not at their best scores. docs/comparison.md has the outcome
on facades with 4,000 pictures a row, 108 minutes of one core.
Words of the argument, beside the usual ones: a set of pictures (kaokore, facades).
Alike are the pictures, their order, holes, batch and rate of whatever fills (5e-4), the average of
its weights, and about 0.8 GFLOP a filling, for which the widths below were chosen; Lahiri et al.
have 0.3, because the memory is GM-SRM's. Weights of losses are the papers', VGG layers those that
are bundled.
Data: as kaokore.py and facades.py say, in data/kaokore128, data/facades and data/masks.
VGG-19: relu1_1 to relu3_1 of the original network (CC BY 4.0), in the package.
Length: as --kimg says; 6,000 pictures in the memory's stage, which GM-SRM and Lahiri et al. share.

    gmsrm compare --config configs/comparison.py:kaokore --kimg 30 \
        --rows pconv,edgeconnect,deepfill2,lisk,lbam,medfe,lahiri,gm_srm
"""

from typing import Any

from ml_collections import ConfigDict

from gmsrm_jax.config import apply_argument, base_config
from gmsrm_jax.methods.gm_srm.fields import VGG_LAYERS

RATE = 5e-4
_VGG: dict[str, Any] = {"vgg": "bundled"}
# Sections of the methods' configs.
FIELDS: dict[str, dict[str, Any]] = {
    "pconv": {"width": 56, **_VGG},
    "deepfill2": {"width": 13, "discriminator_features": (32, 64, 128, 128)},
    "edgeconnect": {
        "width": 16,
        "perceptual_layers": VGG_LAYERS[:3],
        "style_layers": ("relu1_2", "relu2_2"),
        "discriminator_features": (32, 64, 128, 128),
        **_VGG,
    },
    "lisk": {
        "width": 18,
        "vgg_layers": VGG_LAYERS[:3],
        "discriminator_features": (32, 64, 128, 128),
        **_VGG,
    },
    "lbam": {"width": 56, **_VGG},
    "medfe": {
        "width": 22,
        "perceptual_layers": VGG_LAYERS[:3],
        "style_layers": ("relu2_2",),
        "discriminator_features": (32, 64, 128, 128),
        **_VGG,
    },
    "lahiri": {},
    "inpainting": {
        "perceptual_layers": VGG_LAYERS[:3],
        "discriminator_features": (32, 64, 128, 128),
        **_VGG,
    },
}


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the experiment's config; the argument's words are above."""
    config = base_config()
    words = [word for word in (argument or "").split(",") if word]
    sets = [word for word in words if word in ("kaokore", "facades")]
    pictures = sets[-1] if sets else "kaokore"
    config.name = "-".join(["comparison", *sets])
    config.image_size = 64
    config.log_every = 50
    config.xla_optimization_level = 1
    config.masks.train = "pic:0.5,lama_thin:0.25,free_form:0.25"
    if pictures == "kaokore":
        config.data.train = "data/kaokore128"
        config.data.note = "Place the faces in data/kaokore128/train and data/kaokore128/val"
        config.data.test_resize = "direct"
        config.data.shorter_side = 1.0
        config.data.scale = (1.0, 1.15)
    else:
        config.data.train = "data/facades"
        config.data.note = "Place the photographs in data/facades/train and data/facades/val"
    config.data.validation_bounds = (24, 24)
    config.data.num_threads = 1
    config.evaluation.masks = "data/masks"
    config.evaluation.dataset = pictures
    config.evaluation.baselines = ("telea", "ns", "smooth", "mean")
    config.evaluation.perceptual = ("vgg_hole",)
    config.evaluation.batch_size = 20
    config = apply_argument(config, ",".join(word for word in words if word not in sets))
    with config.unlocked():
        config.batch_size = 8
        if "model" in config:
            config.model.channel_base = 1024
            config.model.channel_max = 128
            config.model.code_dim = 128
            config.model.code_channels = 32
            config.model.head_rate = 1.0
            config.model.stem_skip = True  # all others have skips at full size
            config.memory.code_source = "mapping"
            config.memory.batch_size = 8
            config.memory.length_kimg = 6.0
            config.memory.learning_rate = 2e-3
            config.memory.ema_kimg = 1.0
            config.memory.r1_gamma = 1e-3
            config.memory.path_interval = 16
            config.memory.validation_samples = 192
            config.memory.validate_every = 375
            config.memory.save_every = 375
        for name in FIELDS.keys() & set(config):
            section = config[name]
            section.update(FIELDS[name])
            section.learning_rate = RATE
            section.ema = 0.99
            if "joint_learning_rate" in section:
                section.joint_learning_rate = RATE / 10
            section.save_every = section.validate_every = 250
    return config
