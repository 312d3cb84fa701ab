"""The stages of any method on random pictures that lie in memory, from nothing."""

import pathlib
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

from gmsrm_jax.commands.config_files import change_fields
from gmsrm_jax.config.fields import flatten
from gmsrm_jax.foreign.converted import write_converted
from gmsrm_jax.foreign.networks import CAFFE, VGG19
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Context, Stage, StageSpec
from gmsrm_jax.methods.variables import draw_variables
from gmsrm_jax.nn.vgg import needed_convolutions
from gmsrm_jax.training.loop import initial_state

_PICTURES = 14900  # of an epoch; it only moves the learning rate
_VGG19 = "weights/vgg19.safetensors"  # what fields say that name the whole VGG-19


def random_pictures(count: int, size: int) -> dict[str, np.ndarray]:
    """Noise with a square hole, uint8."""
    rng = np.random.default_rng(0)
    mask = np.zeros((count, size, size, 1), np.uint8)
    mask[:, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1
    return {"image": rng.integers(0, 256, (count, size, size, 3), np.uint8), "mask": mask}


def random_vgg19(layers: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Weights of the right shapes, as far as the last of `layers` needs them."""
    rng = np.random.default_rng(0)
    params = {}
    for name in needed_convolutions(layers):
        shape = VGG19[name].kernel
        kernel = rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[:3]))
        params[name] = {"kernel": kernel.astype(np.float32), "bias": np.zeros(shape[3], np.float32)}
    return params


def with_random_vgg19(config: ConfigDict, folder: pathlib.Path) -> ConfigDict:
    """The config with made-up weights where it asks for the file of the whole VGG-19.

    Only sizes and times matter here.

    Args:
        config: unlocked or not; it is changed.
        folder: gets the file, if one is asked for.
    """
    asking = [name for name, value in flatten(config.to_dict()).items() if value == _VGG19]
    if asking:
        file = folder / "vgg19.safetensors"
        write_converted(file, "vgg19", CAFFE, random_vgg19(("relu5_1",)), sources=[])
        change_fields(config, [f"{name}={file}" for name in asking])
    return config


def build_stage(config: ConfigDict, spec: StageSpec) -> Stage:
    """A stage for an epoch of 14,900 pictures, with one picture kept aside."""
    return spec.build(Context(_PICTURES, random_pictures(1, config.image_size)))


def spec_of(config: ConfigDict, name: str) -> StageSpec:
    """A stage of the config's method, by its name."""
    return next(s for s in METHODS[config.method].stages_of(config) if s.name == name)


def batch_field(stage: Stage) -> str:
    """The field that says how many pictures a step of a stage has."""
    return next(iter(stage.batches))


def first_given(config: ConfigDict, spec: StageSpec, mesh: Mesh) -> dict[str, Any]:
    """What a stage's `init` is given if earlier ones have not made a step."""
    given: dict[str, Any] = {}
    for name, items in spec.after.items():
        earlier = spec_of(config, name)
        before = first_given(config, earlier, mesh)
        state = initial_state(build_stage(config, earlier), config.seed, before, mesh)
        given[name] = {item: getattr(state, item) for item in items}
    if spec.begin_from:
        given["begin_from"] = jax.jit(lambda: draw_variables(METHODS[config.method], config))()
    return given


def first_devices(count: int) -> Mesh:
    """A mesh over the first devices, like `devices.data_mesh`."""
    devices = jax.devices()[:count]
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
