"""An inpainter with a small network whose weights nobody trained, made once per process."""

import functools

from ml_collections import ConfigDict
from small_networks import SIZE, abstract_inputs, filled_by_hand, shapes_of

from gmsrm_jax.config.fields import base_config
from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.methods.gm_srm.network import build_network
from gmsrm_jax.networks.folder import Pretrained, pretrained


def small_config() -> ConfigDict:
    config = base_config()
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
    shapes = shapes_of(build_network(config), *abstract_inputs(SIZE, 1))
    return pretrained(config, filled_by_hand(shapes, seed=3), "test")


@functools.cache
def small_inpainter() -> Inpainter:
    return Inpainter(small_pretrained(), device="cpu")
