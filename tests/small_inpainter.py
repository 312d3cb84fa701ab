"""An inpainter with a small network whose weights nobody trained, made once per process."""

import functools

from ml_collections import ConfigDict
from small_networks import SIZE, filled_by_hand

from gmsrm_jax.config.fields import base_config
from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.methods.gm_srm.method import GM_SRM
from gmsrm_jax.methods.variables import variable_shapes
from gmsrm_jax.networks.folder import Pretrained, pretrained


def small_config() -> ConfigDict:
    config = base_config("gm_srm")
    config.image_size = SIZE
    config.xla_optimization_level = 0  # it compiles faster
    config.model.channel_base = 128
    config.model.channel_max = 8
    config.model.code_dim = 8
    config.model.code_channels = 4
    return config


@functools.cache
def small_pretrained() -> Pretrained:
    config = small_config()
    variables = filled_by_hand(variable_shapes(GM_SRM, config), seed=3)
    return pretrained(config, variables, "test")


@functools.cache
def small_inpainter() -> Inpainter:
    return Inpainter(small_pretrained(), device="cpu")
