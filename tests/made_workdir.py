"""The workdir of a training that never was: a tiny network of made-up weights, and pictures."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from small_networks import filled_by_hand

from gmsrm_jax.checkpoints.store import Checkpoints, checkpoint_folder
from gmsrm_jax.config.fields import apply_argument, base_config
from gmsrm_jax.config.of_run import remember_config
from gmsrm_jax.data.masks.bins import BIN_NAMES
from gmsrm_jax.data.masks.list_file import build_mask_list, write_mask_list
from gmsrm_jax.data.sources import open_pictures
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import TrainState
from gmsrm_jax.methods.variables import variable_shapes

SIZE, PICTURES = 32, 5


def made_config(folder: pathlib.Path) -> ConfigDict:
    """The config of `made_workdir`, one method that trains in a single stage."""
    config = apply_argument(base_config("pconv"), "runlocal")
    config.name, config.image_size, config.tensorboard = "made", SIZE, False
    config.xla_optimization_level = 0
    config.data.train = config.data.test = str(folder / "test.npy")
    config.data.shorter_side, config.data.test_resize = 1.0, "direct"
    config.evaluation.masks = str(folder / "mask_list.npz")
    config.evaluation.baselines = ("mean",)
    config.evaluation.batch_size, config.evaluation.panel_rows = 4, 3
    return config


def made_workdir(folder: pathlib.Path) -> pathlib.Path:
    """Writes pictures and masks to a folder, and beside them the workdir, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    np.save(folder / "test.npy", draw.integers(0, 256, (PICTURES, SIZE, SIZE, 3), np.uint8))
    pictures = open_pictures(str(folder / "test.npy"))
    names = [pictures.name(index) for index in range(PICTURES)]
    rows = draw.integers(0, 2, (PICTURES, len(BIN_NAMES), SIZE, SIZE, 1), np.uint8)
    masks = build_mask_list(names, SIZE, 0, "noise", iter(map(list, rows)))
    write_mask_list(folder / "mask_list.npz", masks)
    config, workdir = made_config(folder), folder / "run"
    method = METHODS[config.method]
    remember_config(config, workdir, "")
    checkpoints = Checkpoints(checkpoint_folder(workdir, method.last_stage(config)))
    weights = {
        network: {
            kind: filled_by_hand(tree) if kind == "params" else jax.tree.map(_ones, tree)
            for kind, tree in kinds.items()
        }
        for network, kinds in variable_shapes(method, config).items()
    }
    checkpoints.save(TrainState(jnp.asarray(2, jnp.int32), weights, weights, {}, {}, {}))
    checkpoints.finish()
    return workdir


def _ones(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.ones(leaf.shape, leaf.dtype)  # a variance is positive
