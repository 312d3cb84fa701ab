"""Small trained-like networks and their exported folders."""

import functools
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import safetensors.numpy
from ml_collections import ConfigDict
from small_networks import filled_by_hand

from gmsrm_jax.config.fields import base_config
from gmsrm_jax.methods.base import Variables
from gmsrm_jax.methods.gm_srm.method import GM_SRM
from gmsrm_jax.methods.variables import variable_shapes
from gmsrm_jax.networks import Pretrained, save_pretrained
from gmsrm_jax.networks.folder import pretrained

SIZE = 32


def tiny_config(variant: str = "gm_srm", code_source: str = "encoder") -> ConfigDict:
    config = base_config("gm_srm")
    config.image_size, config.variant = SIZE, variant
    config.memory.code_source = code_source
    config.model.channel_base, config.model.channel_max = 128, 8
    config.model.code_dim, config.model.code_channels = 8, 4
    config.model.stem_skip = config.model.smooth_skip = code_source == "mapping"
    return config


def tiny_network(variant: str = "gm_srm", code_source: str = "encoder", **facts: str) -> Pretrained:
    variables = tiny_variables(variant, code_source)
    return pretrained(tiny_config(variant, code_source), variables, "made up", facts)


@functools.cache
def tiny_variables(variant: str = "gm_srm", code_source: str = "encoder") -> Variables:
    return filled_by_hand(variable_shapes(GM_SRM, tiny_config(variant, code_source)))


def exported(folder: pathlib.Path, dtype: str = "float32", **facts: str) -> pathlib.Path:
    save_pretrained(folder, tiny_network(**facts), dtype)
    return folder


def write_sums(folder: pathlib.Path) -> None:
    """Writes SHA256SUMS anew, as somebody would who wants a changed folder to be believed."""
    paths = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
    (folder / "SHA256SUMS").write_text("".join(lines))


def change_config(folder: pathlib.Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "config.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    write_sums(folder)


def change_weights(folder: pathlib.Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "model.safetensors"
    arrays = safetensors.numpy.load_file(path)
    change(arrays)
    safetensors.numpy.save_file(arrays, path)
    write_sums(folder)
