"""The fields of a run, their paper defaults, and the argument of a config file.

A config file in configs/ is an experiment card: it takes `base_config()`, changes what its
experiment needs, and returns `apply_argument(config, argument)`. Lengths are counted in pictures;
every number here is resolved once and never reinterpreted later.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from gmsrm_jax.data.decoding import MAX_PIXELS
from gmsrm_jax.methods.gm_srm.variants import VARIANTS
from gmsrm_jax.runtime.errors import UserError

VGG_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def base_config() -> ConfigDict:
    """Returns every field with the paper's setting, or design's where the paper is silent."""
    config = ConfigDict()
    config.name = ""  # names the default workdir, runs/<name>
    config.variant = "gm_srm"  # base | gm_bm | gm_csv | gm_srm (Table IV)
    config.image_size = 256  # a power of two from 32
    config.batch_size = 8  # of stage 2, over all devices
    # Micro-batches that a step of either stage goes through one after the other, for cards that a
    # whole batch does not fit on. See gmsrm_jax/nn/accumulation.py for what it changes.
    config.accumulation = 1
    config.seed = 0  # everything random is a function of it
    config.log_every = 50  # steps between two lines of the log
    config.tensorboard = True  # scalars and panels through clu; the JSON lines are always written
    config.matmul_precision = "default"  # or high, highest: jax_default_matmul_precision
    # Or bfloat16: feature maps and their convolutions in training, see models/layers.py. Weights,
    # optimizers, averages, losses, R1, path length, validation and evaluation stay in float32.
    config.compute_dtype = "float32"
    # Updates in a row that may be left out because a loss or gradient is not finite; 0: stop.
    config.max_skipped_updates = 0
    config.xla_optimization_level = 3  # of LLVM, 0 to 3; 1 compiles faster, for short CPU runs

    config.model = _model()
    config.data = _data()
    config.masks = _masks()
    config.memory = _memory()
    config.inpainting = _inpainting()
    config.evaluation = _evaluation()
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
    config.memory.grow_from = ""
    config.memory.length_kimg = 0.128
    config.memory.validation_samples = 16
    config.memory.save_every = 8
    config.memory.validate_every = 8
    config.inpainting.begin_from = ""
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


def _model() -> ConfigDict:
    """The networks of both stages."""
    model = ConfigDict()
    model.channel_base = 16384  # C(r) = min(channel_base // r, channel_max)
    model.channel_max = 512
    model.code_dim = 512  # size of a query code
    model.code_channels = 64  # width of the convolution before a code
    model.noise_statistics = "encoder_decoder"  # Eq. 8; "encoder" is Algorithm 1, line 7
    model.fusion_kernel = 3  # side of the fusion convolutions, 3 or 1
    model.stem_skip = False  # join the stem's feature before the output convolution
    # The output convolution gives a correction to a smooth filling of the known colours, which
    # instance norms hide from the decoder: see models/smooth_fill.py. For short training.
    model.smooth_skip = False
    # Blocks at this resolution and above are computed again in the backward pass instead of
    # being stored: less memory for a third more time. 0: none.
    model.remat_from = 0
    return model


def _data() -> ConfigDict:
    """Where pictures come from, and how training crops them."""
    data = ConfigDict()
    # A folder, a list of files *.txt, an array file *.npy, "tfds:NAME[/CONFIG][#SPLIT]", or
    # "bundled:NAME".
    data.train = ""
    data.test = ""  # likewise; empty: a part of data.train, see data.split
    data.split = "auto"  # "folders": by train/, val/, test/; "hash"; auto: folders if train/
    data.test_fraction = 0.05  # share of data.train tested on when split by hash; 0: none
    data.note = ""  # where the pictures come from; a part of the error when they are missing
    data.pipeline = "tfdata"  # or "arrays": pictures and masks from memory, no TensorFlow
    data.validation_count = 100  # of val/, or held out of training by a hash of the name
    data.shorter_side = 1.25  # shorter side after the resize, in image sizes (320 at 256)
    data.scale = (1.0, 1.5)  # random extra scale in training
    data.flip = True  # mirror half of the training pictures
    data.test_resize = "shorter_side"  # then centre crop; "direct" resizes to the size
    data.num_threads = 4  # of tf.data
    data.max_pixels = MAX_PIXELS  # larger pictures are left out, as decompression bombs
    data.max_bad_share = 0.01  # share of pictures that may be left out, as unreadable
    data.tfds_dir = ""  # where TFDS sets lie; empty: $TFDS_DATA_DIR, ~/tensorflow_datasets
    return data


def _masks() -> ConfigDict:
    """Where the holes of training come from."""
    masks = ConfigDict()
    # PIC's 50 % random regular and 50 % random irregular; any name in gmsrm_jax.data.masks, or a
    # mixture of them by weight: "pic:0.7,lama:0.3".
    masks.train = "pic"
    masks.bank = ""  # bit-packed masks (*.npz) for data.pipeline = "arrays"
    return masks


def _memory() -> ConfigDict:
    """Stage 1."""
    memory = ConfigDict()
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
    memory.grow_from = ""  # workdir of a stage 1 at a smaller image_size, to begin with its weights
    memory.noise_strength_init = 0.0  # start of the learned noise strengths
    memory.train_noise_strength = True  # False keeps them: an L1 term drives them to 0
    memory.augment = "none"  # none | diffaug | ada, for small sets
    memory.ada_target = 0.6  # r_t that ADA steers to
    memory.ada_interval = 4  # steps between two moves of p
    memory.ada_kimg = 500.0  # thousand images in which p could go from 0 to 1
    memory.reconstruction_weight = 0.0  # L1 to the whole picture, encoder source only
    memory.validation_samples = 256  # images in the distance that chooses the snapshot
    memory.save_every = 2000  # steps
    memory.validate_every = 2000  # steps
    return memory


def _inpainting() -> ConfigDict:
    """Stage 2."""
    inpainting = ConfigDict()
    # A trained network whose weights, frozen memory and all, are taken in place of stage 1's and
    # drawn ones: "facades-128", an exported folder, a workdir, or another name that
    # `gmsrm inpaint --checkpoint` takes. Discriminator and optimizers begin anew.
    inpainting.begin_from = ""
    inpainting.epochs = 100.0
    inpainting.learning_rate = 2e-4
    inpainting.query_rate = 1.0  # of query codes and noise statistics, times learning_rate
    inpainting.discriminator_learning_rate = 2e-4
    inpainting.betas = (0.5, 0.999)
    inpainting.schedule = "half_linear"  # constant, then linear to 0 over the second half
    inpainting.ema = 0.999  # weights for evaluation and inference
    inpainting.reconstruction_weight = 1.0  # λ1
    inpainting.perceptual_weight = 0.1  # λ2
    inpainting.adversarial_weight = 0.01  # λ3
    inpainting.kl_weight = 0.01  # λ4
    inpainting.diversity_weight = 0.0  # L1 between two fillings, a second forward pass
    inpainting.diversity_grid = 0  # of their means over so many squares along a side; 0: of pixels
    inpainting.diversity_batch_shrink = 1  # the second pass is of batch / this
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
    return inpainting


def _evaluation() -> ConfigDict:
    """What is scored after the training, and how."""
    evaluation = ConfigDict()
    evaluation.masks = "generated"  # "generated", "bundled", a mask list *.npz, a mask folder
    evaluation.invert_masks = False  # black is the hole in a mask folder
    evaluation.seed = 0  # of the mask assignment and of the noise
    evaluation.noise = "sampled"  # "mean": ε = 0; "both": a row of each
    evaluation.samples = 1  # fillings of each hole that are scored; the first is in the tables
    evaluation.baselines = ("untrained", "mean")  # smooth; telea, ns, biharmonic: [eval]
    evaluation.predictions = ()  # "NAME=DIR": pictures filled by another program
    evaluation.perceptual = ()  # vgg_hole, lpips_vgg, lpips_alex, fid (with P-IDS and U-IDS)
    evaluation.weights = "weights"  # folder of what the last three need, see `gmsrm convert`
    evaluation.dataset = "test pictures"  # its name in tables; a name of the paper brings its rows
    evaluation.figure_pictures = ()  # names of the pictures in figures; empty: drawn by the seed
    evaluation.batch_size = 16
    evaluation.max_images = 0  # 0: all of the test set
    evaluation.panel_rows = 8  # rows of pictures in the report
    return evaluation
