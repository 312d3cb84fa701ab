"""The network on one device: squares in, squares out, one program for each batch bucket."""

import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.inference.tiling import Square
from gmsrm_jax.methods.gm_srm.memory import draw_noise, memory_resolutions
from gmsrm_jax.methods.gm_srm.network import build_network
from gmsrm_jax.runtime.errors import UserError

DEVICES = ("auto", "cpu", "gpu", "tpu")
# Batches gain little on a CPU and each bucket is a program to compile.
_MAX_BATCH = {"cpu": 4}
_MAX_BATCH_ELSEWHERE = 32


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


class Network:
    """Trained weights that fill squares; may be called from several threads.

    Attributes:
        size: side S of a square in pixels.
        device: where it runs.
        max_batch: squares in the largest batch.
    """

    def __init__(self, config: ConfigDict, params: Any, device: jax.Device, max_batch: int | None):
        """Puts the weights on a device; programs are compiled when they are first needed.

        Args:
            config: of the training.
            params: nested dict of float32 arrays.
            device: where to run.
            max_batch: rounded down to a power of two; None: 4 on a CPU, 32 elsewhere.

        Raises:
            UserError: max_batch is below 1.
        """
        if max_batch is not None and max_batch < 1:
            raise UserError(f"max_batch {max_batch}; use 1 or more")
        wanted = max_batch or _MAX_BATCH.get(device.platform, _MAX_BATCH_ELSEWHERE)
        self.max_batch = 1 << (wanted.bit_length() - 1)
        self.size, self.device = int(config.image_size), device
        self._params = jax.device_put(params, device)
        # LLVM's level 1 halves the time to compile; the convolutions are not its work.
        level = min(1, config.get("xla_optimization_level", 1))
        options = {"xla_backend_optimization_level": level} if device.platform == "cpu" else None
        self._program = jax.jit(_program(config), compiler_options=options)
        self._lock = threading.Lock()

    def fill(
        self,
        squares: list[Square],
        seeds: list[int],
        indices: list[int],
        on_step: Callable[[], None] | None = None,
    ) -> list[np.ndarray]:
        """Fills squares of any number, in batches of 1, 2, 4, … max_batch.

        Args:
            squares: image uint8 [S, S, 3] and hole bool [S, S] of each.
            seeds: of the noise, one for each square, 0 … 2³² - 1.
            indices: the square's number; with the seed it decides the noise, as in
                `models.memory.indexed_noise`.
            on_step: called before each batch; what it raises ends the work.

        Returns:
            The network's output for each, known pixels included, uint8 [S, S, 3].

        Raises:
            UserError: an output is not finite.
        """
        filled: list[np.ndarray] = []
        for start in range(0, len(squares), self.max_batch):
            if on_step is not None:
                on_step()
            part = slice(start, start + self.max_batch)
            filled += self._batch(squares[part], seeds[part], indices[part])
        return filled

    def _batch(
        self, squares: list[Square], seeds: list[int], indices: list[int]
    ) -> list[np.ndarray]:
        count = len(squares)
        bucket = 1 << (count - 1).bit_length()
        image = np.zeros((bucket, self.size, self.size, 3), np.uint8)
        hole = np.zeros((bucket, self.size, self.size, 1), bool)
        for place, square in enumerate(squares):
            image[place], hole[place, ..., 0] = square
        numbers = np.zeros((2, bucket), np.uint32)
        numbers[:, :count] = seeds, indices
        # One batch at a time, so that many threads do not need many times the memory.
        with self._lock:
            # The weights' device is that of the arrays from the host, too.
            output, finite = map(np.asarray, self._program(self._params, image, hole, numbers))
        if not finite.all():
            raise UserError(
                "the network's output holds values that are not finite; its weights are damaged "
                "or diverged, take an earlier checkpoint"
            )
        return list(output[:count])


def _program(config: ConfigDict) -> Any:
    """Returns the function that is compiled; always float32, whatever the training used."""
    config = ConfigDict(config.to_dict())
    if "compute_dtype" in config:
        config.compute_dtype = "float32"
    network, resolutions = build_network(config), memory_resolutions(config.image_size)
    precision = config.get("matmul_precision", "default")

    def noise_of(seed: jax.Array, index: jax.Array) -> list[jax.Array]:
        key = jax.random.fold_in(jax.random.key(seed), index)
        return [level[0] for level in draw_noise(key, 1, resolutions)]

    def fill(
        params: Any, image: jax.Array, hole: jax.Array, numbers: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        signed = image.astype(jnp.float32) / 127.5 - 1.0
        noise = jax.vmap(noise_of)(*numbers)
        with jax.default_matmul_precision(precision):
            filled: Any = network.apply({"params": params}, signed, hole.astype(jnp.float32), noise)
        raw = filled.image
        scaled = (jnp.clip(raw, -1.0, 1.0) + 1.0) * 127.5
        return jnp.rint(scaled).astype(jnp.uint8), jnp.isfinite(raw).all((1, 2, 3))

    return fill
