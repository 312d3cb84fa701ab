"""The embedded default: bundled photographs of facades at 64 px, on two CPU cores, in minutes.

It shows that every part works, and is no measure of what the method can do: a small network sees
each of 377 photographs about sixteen times, in both stages together.
Data: 401 training and 60 test photographs of facades in Saint Petersburg (CC0), in the package.
Beside it stand fills without training, better than it in most sizes of holes: smooth, and OpenCV's
Telea and Navier-Stokes where that is installed (the extra `eval`, which `make install` brings).
VGG-19: relu1_1, relu2_1, relu3_1 of the original network (CC BY 4.0), in the package.

    python -m gmsrm_jax.main --config=configs/demo.py
"""

import importlib.util

from ml_collections import ConfigDict

from gmsrm_jax.config import apply_argument, base_config
from gmsrm_jax.config.fields import UNTRAINED
from gmsrm_jax.methods.gm_srm.fields import FIRST_MODEL, VGG_LAYERS


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the experiment's config; the argument is a method, a variant or "runlocal"."""
    config = base_config()
    config.name = "demo"
    config.image_size = 64
    config.log_every = 10
    config.xla_optimization_level = 1

    config.model.channel_base = 1024
    config.model.channel_max = 64
    config.model.code_dim = 128
    config.model.code_channels = 32
    config.model.update(FIRST_MODEL)
    config.model.stem_skip = True

    config.data.train = "bundled:facades/train"
    config.data.test = "bundled:facades/test"
    config.data.validation_bounds = (24, 24)
    config.data.num_threads = 2

    config.memory.batch_size = 8
    config.memory.length_kimg = 3.2
    config.memory.encoder_learning_rate = 1e-3
    config.memory.ema_kimg = 0.4
    config.memory.style_mixing = 0.0  # an example must be compared with its own picture
    config.memory.reconstruction_weight = 2.0
    config.memory.noise_strength_init = 0.05
    config.memory.validation_samples = 48
    config.memory.validate_every = 100
    config.memory.save_every = 100

    config.inpainting.epochs = 8.0
    config.inpainting.learning_rate = 1e-3
    config.inpainting.ema = 0.98
    config.inpainting.perceptual_layers = VGG_LAYERS[:3]
    config.inpainting.vgg = "bundled"
    config.inpainting.discriminator_features = (32, 64, 128, 128)
    config.inpainting.validate_every = 100
    config.inpainting.save_every = 100

    config.evaluation.masks = "bundled"
    opencv = ("telea", "ns") if importlib.util.find_spec("cv2") else ()
    config.evaluation.baselines = (*opencv, "smooth", "mean", UNTRAINED)
    config.evaluation.batch_size = 20
    return apply_argument(config, argument)
