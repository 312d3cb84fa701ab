"""The fields of a run, their paper defaults, and the argument of a config file.

A config file in configs/ is an experiment card: it takes `base_config()`, changes what its
experiment needs, and returns `apply_argument(config, argument)`. Lengths are counted in pictures;
every number here is resolved once and never reinterpreted later.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from gmsrm_jax.data.decoding import MAX_PIXELS
from gmsrm_jax.errors import UserError
from gmsrm_jax.variants import VARIANTS

_CHOICES = {
    "variant": tuple(VARIANTS),
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
    "inpainting.save_every",
    "inpainting.validate_every",
    "evaluation.batch_size",
    "evaluation.samples",
)
_SETS = {
    "evaluation.baselines": ("untrained", "mean", "telea", "ns", "biharmonic"),
    "evaluation.perceptual": ("lpips_vgg", "lpips_alex", "fid"),
}
VGG_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def base_config() -> ConfigDict:
    """Returns every field with the paper's setting, or design's where the paper is silent."""
    config = ConfigDict()
    config.name = ""  # names the default workdir, runs/<name>
    config.variant = "gm_srm"  # base | gm_bm | gm_csv | gm_srm (Table IV)
    config.image_size = 256  # a power of two from 32
    config.batch_size = 8  # of stage 2, over all devices
    config.seed = 0  # everything random is a function of it
    config.log_every = 50  # steps between two lines of the log
    config.tensorboard = True  # scalars and panels through clu; the JSON lines are always written
    config.matmul_precision = "default"  # or high, highest: jax_default_matmul_precision
    config.xla_optimization_level = 3  # of LLVM, 0 to 3; 1 compiles faster, for short CPU runs

    config.model = ConfigDict()
    config.model.channel_base = 16384  # C(r) = min(channel_base // r, channel_max)
    config.model.channel_max = 512
    config.model.code_dim = 512  # size of a query code
    config.model.code_channels = 64  # width of the convolution before a code
    config.model.noise_statistics = "encoder_decoder"  # Eq. 8; "encoder" is Algorithm 1, line 7
    config.model.fusion_kernel = 3  # side of the fusion convolutions, 3 or 1
    config.model.stem_skip = False  # join the stem's feature before the output convolution

    config.data = ConfigDict()
    # A folder, a list of files *.txt, an array file *.npy, "tfds:NAME[/CONFIG][#SPLIT]", or
    # "bundled:NAME".
    config.data.train = ""
    config.data.test = ""  # likewise; empty: a part of data.train, see data.split
    config.data.split = "auto"  # "folders": by train/, val/, test/; "hash"; auto: folders if train/
    config.data.test_fraction = 0.05  # share of data.train tested on when split by hash; 0: none
    config.data.note = ""  # where the pictures come from; a part of the error when they are missing
    config.data.pipeline = "tfdata"  # or "arrays": pictures and masks from memory, no TensorFlow
    config.data.validation_count = 100  # of val/, or held out of training by a hash of the name
    config.data.shorter_side = 1.25  # shorter side after the resize, in image sizes (320 at 256)
    config.data.scale = (1.0, 1.5)  # random extra scale in training
    config.data.flip = True  # mirror half of the training pictures
    config.data.test_resize = "shorter_side"  # then centre crop; "direct" resizes to the size
    config.data.num_threads = 4  # of tf.data
    config.data.max_pixels = MAX_PIXELS  # larger pictures are left out, as decompression bombs
    config.data.max_bad_share = 0.01  # share of pictures that may be left out, as unreadable
    config.data.tfds_dir = ""  # where TFDS sets lie; empty: $TFDS_DATA_DIR, ~/tensorflow_datasets

    config.masks = ConfigDict()
    # PIC's 50 % random regular and 50 % random irregular; any name in gmsrm_jax.data.masks, or a
    # mixture of them by weight: "pic:0.7,lama:0.3".
    config.masks.train = "pic"
    config.masks.bank = ""  # bit-packed masks (*.npz) for data.pipeline = "arrays"

    memory = config.memory = ConfigDict()
    memory.code_source = "encoder"  # the paper's sentence; "mapping" is plain StyleGAN2
    memory.batch_size = 32
    memory.length_kimg = 5000.0  # thousand images
    memory.learning_rate = 0.0025  # of synthesis, mapping and discriminator
    memory.encoder_learning_rate = 2e-4  # of encoder and f_c
    memory.betas = (0.0, 0.99)
    memory.r1_gamma = 0.0002  # times size² / batch
    memory.r1_interval = 16  # steps; 0 switches R1 off
    memory.path_interval = 4  # steps; 0 switches path length off
    memory.path_weight = 2.0
    memory.path_decay = 0.01
    memory.path_batch_shrink = 2  # path length is taken on batch / this
    memory.style_mixing = 0.9  # share of examples with codes of two pictures
    memory.ema_kimg = 10.0  # half-life
    memory.ema_rampup = 0.05  # half-life is at most this share of the images seen
    memory.mapping_layers = 2
    memory.noise_strength_init = 0.0  # start of the learned noise strengths
    memory.augment = "none"  # none | diffaug | ada, for small sets
    memory.ada_target = 0.6  # r_t that ADA steers to
    memory.ada_interval = 4  # steps between two moves of p
    memory.ada_kimg = 500.0  # thousand images in which p could go from 0 to 1
    memory.reconstruction_weight = 0.0  # L1 to the whole picture, encoder source only
    memory.validation_samples = 256  # images in the distance that chooses the snapshot
    memory.save_every = 2000  # steps
    memory.validate_every = 2000  # steps

    inpainting = config.inpainting = ConfigDict()
    inpainting.epochs = 100.0
    inpainting.learning_rate = 2e-4
    inpainting.discriminator_learning_rate = 2e-4
    inpainting.betas = (0.5, 0.999)
    inpainting.schedule = "half_linear"  # constant, then linear to 0 over the second half
    inpainting.ema = 0.999  # weights for evaluation and inference
    inpainting.reconstruction_weight = 1.0  # λ1
    inpainting.perceptual_weight = 0.1  # λ2
    inpainting.adversarial_weight = 0.01  # λ3
    inpainting.kl_weight = 0.01  # λ4
    inpainting.diversity_weight = 0.0  # L1 between two fillings, a second forward pass
    inpainting.hole_weight = 10.0  # γ of Eq. 10
    inpainting.reconstruction_norm = "all"  # mean over all elements; "region": over each area
    inpainting.perceptual_layers = VGG_LAYERS
    inpainting.perceptual_image = "raw"  # or "composite"
    inpainting.vgg = "weights/vgg19.npz"  # written by `gmsrm convert vgg19`; or "bundled"
    inpainting.kl_reduction = "mean"  # over levels; or "sum"
    inpainting.adversarial_form = "hinge"  # or "wasserstein": Eq. 13 without clamps
    inpainting.discriminator_image = "raw"  # or "composite"
    inpainting.discriminator_mask = False  # condition it on the mask
    inpainting.discriminator_features = (64, 128, 256, 512)
    inpainting.train_noise_strength = False  # let stage 2 move the memory's noise strengths
    inpainting.save_every = 2000  # steps
    inpainting.validate_every = 2000  # steps

    evaluation = config.evaluation = ConfigDict()
    evaluation.masks = "generated"  # "generated", "bundled", a mask list *.npz, a mask folder
    evaluation.invert_masks = False  # black is the hole in a mask folder
    evaluation.seed = 0  # of the mask assignment and of the noise
    evaluation.noise = "sampled"  # "mean": ε = 0; "both": a row of each
    evaluation.samples = 1  # fillings of each hole that are scored; the first is in the tables
    evaluation.baselines = ("untrained", "mean")  # also telea, ns, biharmonic (extra `eval`)
    evaluation.predictions = ()  # "NAME=DIR": pictures filled by another program
    evaluation.perceptual = ()  # lpips_vgg, lpips_alex, fid (with P-IDS and U-IDS)
    evaluation.weights = "weights"  # folder of what these need, see `gmsrm convert`
    evaluation.dataset = "test pictures"  # its name in tables; a name of the paper brings its rows
    evaluation.figure_pictures = ()  # names of the pictures in figures; empty: drawn by the seed
    evaluation.batch_size = 16
    evaluation.max_images = 0  # 0: all of the test set
    evaluation.panel_rows = 8  # rows of pictures in the report
    return config


def runlocal(config: ConfigDict) -> None:
    """Shrinks a config to a minute on a CPU, on the bundled photographs at 32 px."""
    config.image_size = 32
    config.batch_size = 8
    config.log_every = 4
    config.xla_optimization_level = 1
    config.model.channel_base = 512
    config.model.channel_max = 32
    config.model.code_dim = 32
    config.model.code_channels = 16
    config.data.train = "bundled:facades"
    config.data.test = ""
    config.data.split = "auto"
    config.data.pipeline = "tfdata"
    config.data.validation_count = 16
    config.data.num_threads = 2
    config.data.test_resize = "shorter_side"
    config.memory.batch_size = 8
    config.memory.length_kimg = 0.128
    config.memory.validation_samples = 16
    config.memory.save_every = 8
    config.memory.validate_every = 8
    config.inpainting.epochs = 0.35
    config.inpainting.perceptual_layers = VGG_LAYERS[:3]
    config.inpainting.vgg = "bundled"
    config.inpainting.discriminator_features = (16, 32, 32, 32)
    config.inpainting.save_every = 8
    config.inpainting.validate_every = 8
    config.evaluation.masks = "generated"
    config.evaluation.invert_masks = False
    config.evaluation.dataset = "test pictures"
    config.evaluation.max_images = 8
    config.evaluation.batch_size = 8


def apply_argument(config: ConfigDict, argument: str | None) -> ConfigDict:
    """Applies what stands behind the colon of --config=FILE:ARGUMENT, and locks the fields.

    Args:
        config: the experiment's config.
        argument: words joined by commas: a variant (gm_csv), or "runlocal".

    Raises:
        UserError: a word that is neither.
    """
    for word in filter(None, (argument or "").split(",")):
        if word in VARIANTS:
            config.variant = word
            config.name += f"-{word}"
        elif word == "runlocal":
            runlocal(config)
            config.name += "-runlocal"
        else:
            known = ", ".join([*VARIANTS, "runlocal"])
            raise UserError(f"config argument {word!r} is unknown; use one of: {known}")
    return config.lock()


def flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields as one dict with dotted names, tuples as lists."""
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def check_config(config: ConfigDict) -> None:
    """Checks the values that fields can be given.

    Raises:
        UserError: names the field, its value and what it can be.
    """

    def value(key: str) -> Any:
        item: Any = config
        for part in key.split("."):
            item = item[part]
        return item

    for key, choices in _CHOICES.items():
        if value(key) not in choices:
            raise UserError(f"config.{key} = {value(key)!r}; use one of: {', '.join(choices)}")
    for key, choices in _SETS.items():
        for word in value(key):
            if word not in choices:
                raise UserError(f"config.{key} names {word!r}; use any of: {', '.join(choices)}")
    for word in config.evaluation.predictions:
        if not all(word.partition("=")):
            raise UserError(f"config.evaluation.predictions names {word!r}; write NAME=DIR")
    for key in _POSITIVE:
        if not value(key) > 0:
            raise UserError(f"config.{key} = {value(key)!r}; it must be above 0")
    if config.xla_optimization_level not in range(4):
        raise UserError(
            f"config.xla_optimization_level = {config.xla_optimization_level}; use 0, 1, 2 or 3"
        )
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
    if config.data.validation_count < 2:
        raise UserError(
            f"config.data.validation_count = {config.data.validation_count}; keep at least 2 "
            "pictures aside, for the snapshot of stage 1 is chosen by them"
        )
    for key in ("seed", "evaluation.seed", "evaluation.max_images"):
        if value(key) < 0:
            raise UserError(f"config.{key} = {value(key)}; it must be 0 or above")
    for key in ("memory.r1_interval", "memory.path_interval"):
        if value(key) < 0:
            raise UserError(f"config.{key} = {value(key)}; use 1 or more, or 0 for never")
    if config.data.max_pixels > 2 * MAX_PIXELS:
        raise UserError(
            f"config.data.max_pixels = {config.data.max_pixels}; Pillow itself refuses more than "
            f"{2 * MAX_PIXELS}, use at most that"
        )
    for key in (
        "inpainting.ema",
        "memory.style_mixing",
        "data.test_fraction",
        "data.max_bad_share",
    ):
        if not 0.0 <= value(key) <= 1.0:
            raise UserError(f"config.{key} = {value(key)}; use 0 to 1")
    masks = config.evaluation.masks
    if config.evaluation.invert_masks and (
        masks in ("generated", "bundled") or masks.endswith(".npz")
    ):
        raise UserError(
            f"config.evaluation.invert_masks = True is for a folder of masks, but "
            f"config.evaluation.masks = {masks!r}; set it to False"
        )
    if not config.inpainting.discriminator_features:
        raise UserError("config.inpainting.discriminator_features is empty; name channels")
    layers = tuple(config.inpainting.perceptual_layers)
    if layers != VGG_LAYERS[: len(layers)] or not layers:
        raise UserError(
            f"config.inpainting.perceptual_layers = {layers}; use the first layers of {VGG_LAYERS}"
        )
    if config.memory.reconstruction_weight and config.memory.code_source != "encoder":
        raise UserError(
            "config.memory.reconstruction_weight needs memory.code_source = 'encoder'; set it to 0"
        )
    if config.memory.batch_size % config.memory.path_batch_shrink:
        raise UserError(
            f"config.memory.batch_size = {config.memory.batch_size} is not a multiple of "
            f"memory.path_batch_shrink = {config.memory.path_batch_shrink}; change either"
        )
