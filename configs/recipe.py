r"""Which changes to GM-SRM's own parts help: each alone and all together, at 64 px, on a CPU core.

Aims at choosing: all rows see the same pictures in the same order; docs/recipe.md has the table.
Words of the argument, beside the usual ones: a set of pictures (kaokore, facades), a change of
`CHANGES` (without one: all), and a second phase by its discriminator (patch, heads).
Data: as kaokore.py and facades.py say, in data/kaokore128, data/facades and data/masks.
VGG-19: relu1_1, relu2_1, relu3_1 of the original network (CC BY 4.0), in the package.
Length: 3,000 pictures in stage 1, which rows share, 3,200 in stage 2, and 1,600 in the second phase
after 800 for the discriminator alone.

    python -m gmsrm_jax.main --config=configs/recipe.py:kaokore,first
"""

from typing import Any

from ml_collections import ConfigDict

from gmsrm_jax.config import apply_argument, base_config
from gmsrm_jax.methods.gm_srm.fields import FIRST_MODEL, VGG_LAYERS

MEMORY_KIMG, KIMG = 3.0, 3.2
SECOND_KIMG, HEAD_START = 1.6, 100
EXAMPLES = {"kaokore": 5522, "facades": 377}  # training pictures, without those for validation

# The network of the bundled weights, and how it was trained.
FIRST: dict[str, Any] = {
    **{f"model.{name}": value for name, value in FIRST_MODEL.items()},
    "model.stem_skip": True,
    "model.smooth_skip": True,
    "memory.train_noise_strength": False,
    "inpainting.train_noise_strength": True,
    "inpainting.query_rate": 0.1,
}
CHANGES: dict[str, dict[str, Any]] = {
    "first": {},
    "full_size": {"model.memory_at_full_size": True},
    "soft": {"model.noise_limit": "soft"},
    "equalised": {"model.head_rate": 0.1, "inpainting.query_rate": 1.0},
    "strengths": {"memory.train_noise_strength": True, "inpainting.train_noise_strength": False},
    "linear": {"model.smooth_residual": "linear"},
}
CHANGES["all"] = {field: value for change in CHANGES.values() for field, value in change.items()}
CHANGES["equalised_1"] = {"model.head_rate": 1.0, "inpainting.query_rate": 1.0}
# Where colours come from when neither skip brings them.
CHANGES["bare"] = {"model.stem_skip": False, "model.smooth_skip": False}
CHANGES["bare_full_size"] = {**CHANGES["bare"], **CHANGES["full_size"]}
PHASES = {"patch": "patch", "heads": "features"}


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the experiment's config; the argument's words are above."""
    config = base_config()
    words = [word for word in (argument or "").split(",") if word]

    def chosen(known: dict[str, Any], otherwise: str) -> str:
        found = [word for word in words if word in known]
        config.name = "-".join([config.name, *found])
        words[:] = [word for word in words if word not in known]
        return found[-1] if found else otherwise

    config.name = "recipe"
    pictures = chosen(EXAMPLES, "kaokore")
    change = chosen(CHANGES, "all")
    phase = chosen(PHASES, "")
    config.image_size = 64
    config.log_every = 25
    config.xla_optimization_level = 1

    config.model.channel_base = 1024
    config.model.channel_max = 128
    config.model.code_dim = 128
    config.model.code_channels = 32

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
    config.data.num_threads = 2

    config.memory.code_source = "mapping"
    config.memory.batch_size = 8
    config.memory.length_kimg = MEMORY_KIMG
    config.memory.learning_rate = 2e-3
    config.memory.ema_kimg = 1.0
    config.memory.r1_gamma = 1e-3
    config.memory.path_interval = 16
    config.memory.validation_samples = 192
    config.memory.validate_every = 375
    config.memory.save_every = 375

    config.inpainting.epochs = 1000 * KIMG / EXAMPLES[pictures]
    config.inpainting.learning_rate = 1e-3
    config.inpainting.ema = 0.99
    config.inpainting.reconstruction_norm = "region"
    config.inpainting.perceptual_weight = 1.5
    config.inpainting.adversarial_weight = 0.0  # the second phase brings the discriminator
    config.inpainting.perceptual_layers = VGG_LAYERS[:2]
    config.inpainting.vgg = "bundled"

    for field, value in {**FIRST, **CHANGES[change]}.items():
        section, name = field.split(".")
        config[section][name] = value

    config.sharpening.length_kimg = SECOND_KIMG if phase else 0.0
    config.sharpening.discriminator = PHASES.get(phase, "patch")
    config.sharpening.discriminator_features = (32, 64, 128, 128)
    config.sharpening.head_start = HEAD_START
    config.sharpening.ema = 0.98
    config.sharpening.crop = 32

    config.evaluation.masks = "data/masks"
    config.evaluation.dataset = pictures
    config.evaluation.baselines = ()
    config.evaluation.perceptual = ("vgg_hole",)
    config.evaluation.max_images = 100
    config.evaluation.batch_size = 50
    return apply_argument(config, ",".join(words))
