"""Devices by name, and the mesh: batches are split over its axis "data", the rest is replicated."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gmsrm_jax.runtime.errors import UserError

DEVICES = ("auto", "cpu", "gpu", "tpu")


def find_device(name: str) -> jax.Device:
    """Returns the first device of a platform; "auto" is the one that JAX prefers.

    Raises:
        UserError: there is none.
    """
    if name not in DEVICES:
        raise UserError(f"device {name!r}; use one of: {', '.join(DEVICES)}")
    if name == "auto":
        return jax.local_devices()[0]
    try:
        return jax.local_devices(backend=name)[0]
    except RuntimeError as error:
        there = ", ".join(sorted({device.platform for device in jax.local_devices()}))
        raise UserError(
            f"device {name}: JAX finds none here, only {there}; use --device {there}, or install "
            "JAX for it"
        ) from error


def data_mesh() -> Mesh:
    """A mesh over all devices of all processes, with the one axis "data"."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def local_mesh() -> Mesh:
    """A mesh over the devices of this process alone, with the one axis "data"."""
    devices = jax.local_devices()
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of weights: a whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The sharding of batches: the first axis is split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch(key: str, batch_size: int, mesh: Mesh, accumulation: int = 1) -> None:
    """Checks that a batch can be split evenly over the devices, in every micro-batch.

    Raises:
        UserError: names the field and the numbers.
    """
    parts = mesh.size * accumulation
    if batch_size % parts:
        times = f" × config.accumulation = {accumulation}" if accumulation > 1 else ""
        raise UserError(
            f"config.{key} = {batch_size} cannot be split over {mesh.size} devices{times}; "
            f"use a multiple of {parts}"
        )


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, Any]:
    """Puts this process's part of a batch on its devices, as one global array each."""
    sharding = split(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, np.asarray(values))
        for name, values in batch.items()
    }


def to_every_device(tree: Any, mesh: Mesh) -> Any:
    """Puts a whole copy of every array on every device; all processes must give the same ones."""
    sharding = replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree
    )
