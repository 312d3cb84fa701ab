"""The only place where a network is applied outside training: uint8 in, uint8 out."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Method, Noise, Variables
from gmsrm_jax.runtime.devices import to_devices
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.pixels import composite, to_bytes, to_signed

# Batches gain little on a CPU and each bucket is a program to compile.
_MAX_BATCH = {"cpu": 4}
_MAX_BATCH_ELSEWHERE = 32


class Filler:
    """A method with its variables; fills squares of the side that its config says.

    The noise of a filling is a function of its seed and its index alone, whatever the batch. May be
    called from several threads.

    Attributes:
        size: side S of a square in pixels.
        draws: whether fillings of different noise differ.
        max_batch: squares in the largest batch of `squares`.
    """

    def __init__(
        self,
        method: Method,
        config: ConfigDict,
        variables: Variables,
        *,
        device: jax.Device | None = None,
        mesh: Mesh | None = None,
        max_batch: int | None = None,
        optimization_level: int | None = None,
    ):
        """Compiles nothing yet.

        Args:
            method: how holes are filled.
            config: of the training, or what an exported folder holds of it.
            variables: as `Method.init` names them; they are put on `device` if that is given.
            device: where `squares` runs; None leaves it to the variables.
            mesh: devices that share a batch of `raw`.
            max_batch: rounded down to a power of two; None: 4 on a CPU, 32 elsewhere.
            optimization_level: LLVM's, on a CPU; None for XLA's own.

        Raises:
            UserError: max_batch is below 1.
        """
        if max_batch is not None and (not isinstance(max_batch, int) or max_batch < 1):
            raise UserError(f"max_batch {max_batch!r}; use a whole number, 1 or more")
        platform = device.platform if device is not None else jax.default_backend()
        wanted = max_batch or _MAX_BATCH.get(platform, _MAX_BATCH_ELSEWHERE)
        self.max_batch = 1 << (wanted.bit_length() - 1)
        self.size = int(config.image_size)
        self.variables = variables if device is None else jax.device_put(variables, device)
        self._method, self._config, self._mesh = method, config, mesh
        self._shapes = method.noise_shapes(config)
        self.draws = bool(self._shapes)
        self._lock = threading.Lock()
        options = None
        if optimization_level is not None and platform == "cpu":
            options = {"xla_backend_optimization_level": optimization_level}
        self._raw, self._bytes = self._drawn_fill, self._fill_bytes
        if method.compiled:
            self._raw = jax.jit(self._drawn_fill, static_argnames="mean")
            self._bytes = jax.jit(self._fill_bytes, compiler_options=options)

    def raw(
        self,
        image: np.ndarray,
        mask: np.ndarray,
        seeds: np.ndarray,
        indices: np.ndarray,
        *,
        mean: bool = False,
        variables: Variables | None = None,
    ) -> np.ndarray:
        """The output Î for images in [-1, 1], before it is rounded.

        Args:
            image: float32 [N, S, S, 3] in [-1, 1].
            mask: float32 [N, S, S, 1], 1 in the hole.
            seeds: uint32 [N], of the noise.
            indices: uint32 [N]; with the seed they decide the noise.
            mean: fill with ε = 0.
            variables: others than the filler's own.

        Returns:
            float32 [N, S, S, 3]; known pixels are predicted too.
        """
        batch = {"image": image, "mask": mask, "numbers": np.stack([seeds, indices], axis=1)}
        if self._mesh is not None and self._method.compiled:
            batch = to_devices(batch, self._mesh)
        own = self.variables if variables is None else variables
        return np.asarray(
            self._raw(own, batch["image"], batch["mask"], batch["numbers"], mean=mean), np.float32
        )

    def __call__(
        self,
        image: np.ndarray,
        hole: np.ndarray,
        seeds: np.ndarray,
        indices: np.ndarray,
        *,
        variables: Variables | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fills one batch.

        Args:
            image: uint8 [N, S, S, 3].
            hole: bool or uint8 [N, S, S, 1], 1 in the hole.
            seeds: [N], 0 … 2³² - 1, of the noise.
            indices: [N], likewise; with the seed they decide the noise.
            variables: others than the filler's own.

        Returns:
            Output uint8 [N, S, S, 3], known pixels predicted too; and bool [N], whether all of an
            output is finite.
        """
        numbers = np.asarray([seeds, indices], np.uint32).T
        own = self.variables if variables is None else variables
        output, finite = self._bytes(own, image, hole, numbers)
        return np.asarray(output), np.asarray(finite)

    def squares(
        self,
        squares: Sequence[tuple[np.ndarray, np.ndarray]],
        seeds: Sequence[int],
        indices: Sequence[int],
        on_step: Callable[[], None] | None = None,
    ) -> list[np.ndarray]:
        """Fills squares of any number, in batches of 1, 2, 4, … max_batch.

        Args:
            squares: image uint8 [S, S, 3] and hole bool [S, S] of each.
            seeds: of the noise, one for each square, 0 … 2³² - 1.
            indices: the square's number; with the seed it decides the noise.
            on_step: called before each batch; what it raises ends the work.

        Returns:
            The output for each, known pixels predicted too, uint8 [S, S, 3].

        Raises:
            UserError: an output is not finite.
        """
        filled: list[np.ndarray] = []
        for start in range(0, len(squares), self.max_batch):
            if on_step is not None:
                on_step()
            part = slice(start, start + self.max_batch)
            filled += self._bucket(squares[part], seeds[part], indices[part])
        return filled

    def graph(self) -> tuple[Callable[..., jax.Array], dict[str, tuple[int, ...]]]:
        """The filling as one function of arrays, for a file that runs elsewhere.

        Returns:
            A function of image [N, S, S, 3] in [-1, 1], mask [N, S, S, 1] and the noise maps, each
            an argument of its own, that gives the composite, every product in full float32; and the
            names and shapes of its arguments, without the batch axis.
        """
        names, variables = list(self._shapes), self.variables

        def function(image: jax.Array, mask: jax.Array, *noise: jax.Array) -> jax.Array:
            with jax.default_matmul_precision("highest"):
                maps = dict(zip(names, noise, strict=True))
                raw = self._method.fill(self._config, variables, image, mask, maps)
            return composite(image, raw, mask)

        side = (self.size, self.size)
        return function, {"image": (*side, 3), "mask": (*side, 1), **self._shapes}

    def _bucket(
        self,
        squares: Sequence[tuple[np.ndarray, np.ndarray]],
        seeds: Sequence[int],
        indices: Sequence[int],
    ) -> list[np.ndarray]:
        count = len(squares)
        bucket = 1 << (count - 1).bit_length()
        image = np.zeros((bucket, self.size, self.size, 3), np.uint8)
        hole = np.zeros((bucket, self.size, self.size, 1), bool)
        for place, (picture, region) in enumerate(squares):
            image[place], hole[place, ..., 0] = picture, region
        numbers = np.zeros((2, bucket), np.uint32)
        numbers[:, :count] = seeds, indices
        # One batch at a time, so that many threads do not need many times the memory.
        with self._lock:
            output, finite = self(image, hole, *numbers)
        if not finite.all():
            raise UserError(
                "the network's output holds values that are not finite; its weights are damaged "
                "or diverged, take an earlier checkpoint"
            )
        return list(output[:count])

    def _drawn_fill(
        self, variables: Variables, image: Any, mask: Any, numbers: Any, mean: bool = False
    ) -> Any:
        """Î with the noise of each row of numbers, (seed, index)."""
        noise: Noise = {}
        if self.draws and mean:
            noise = {name: jnp.zeros((len(image), *s)) for name, s in self._shapes.items()}
        elif self.draws:
            noise = jax.vmap(self._noise_of)(numbers[:, 0], numbers[:, 1])
        return self._method.fill(self._config, variables, image, mask, noise)

    def _fill_bytes(
        self, variables: Variables, image: Any, hole: Any, numbers: Any
    ) -> tuple[Any, Any]:
        """uint8 to uint8, and whether each output is finite."""
        raw = self._drawn_fill(variables, to_signed(image), hole.astype("float32"), numbers)
        array = jnp if self._method.compiled else np
        return to_bytes(raw), array.isfinite(raw).all((1, 2, 3))

    def _noise_of(self, seed: jax.Array, index: jax.Array) -> Noise:
        """The N(0, 1) maps of one example."""
        # Named, because under vmap JAX's other generators give a row what its batch decides.
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), index)
        keys = jax.random.split(key, len(self._shapes))
        return {
            name: jax.random.normal(k, shape)
            for k, (name, shape) in zip(keys, self._shapes.items(), strict=True)
        }
