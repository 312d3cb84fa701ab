"""What measurements ran on, and which share of a device's arithmetic they used."""

import importlib.metadata
import os
import pathlib
import platform
import resource
import subprocess
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gmsrm_jax

GIB = 2**30
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")


class Peak(NamedTuple):
    """Floating-point operations a second of one device, dense, bfloat16 unless it has none.

    Attributes:
        nominal: the vendor's figure.
        matrix: measured on large products of random matrices; None where nobody did.
    """

    nominal: float
    matrix: float | None


# By what JAX's device_kind contains, the first that fits. V100: float16 with float32 sums.
PEAKS = {
    "H200": Peak(989e12, 790e12),
    "H100": Peak(989e12, 790e12),
    "A100": Peak(312e12, None),
    "V100": Peak(125e12, None),
    "TPU v4": Peak(275e12, None),
    "TPU v5 lite": Peak(197e12, None),
    "TPU v5e": Peak(197e12, None),
    "TPU v5": Peak(459e12, None),
    "TPU v6": Peak(918e12, None),
}


def known_peak(device_kind: str) -> Peak | None:
    """The peak of a device by its name, None if it is not in the table."""
    return next((peak for name, peak in PEAKS.items() if name in device_kind), None)


def peak_share(flops: float, seconds: float, peak: float | None, devices: int = 1) -> float | None:
    """Share of a peak that was used: flops / (seconds · peak · devices).

    Args:
        flops: floating-point operations of the work, over all devices.
        seconds: that it took.
        peak: of one device, per second; None if it is not known.
        devices: that took part.
    """
    return None if peak is None else flops / (seconds * peak * devices)


def matrix_rate(seconds: float) -> dict[str, Any]:
    """Measures a large product of random matrices on the first device.

    Args:
        seconds: to spend on it, after the first product.

    Returns:
        Side of the matrices, their format, and the best rate in operations a second.
    """
    on_cpu = jax.devices()[0].platform == "cpu"
    side, dtype = (1536, jnp.float32) if on_cpu else (8192, jnp.bfloat16)
    keys = jax.random.split(jax.random.key(0), 2)
    a, b = (jax.random.normal(key, (side, side), jnp.float32).astype(dtype) for key in keys)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, b))
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        jax.block_until_ready(product(a, b))
        times.append(time.perf_counter() - started)
    rate = 2 * side**3 / min(times)
    return {"side": side, "dtype": jnp.dtype(dtype).name, "flops_per_second": rate}


def describe_hardware() -> dict[str, Any]:
    """CPU, its cores and memory, and the devices that JAX finds."""
    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB,
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": jax.device_count(),
        "device_memory_gib": None if limit is None else limit / GIB,
        "system": platform.platform(),
    }


def describe_versions() -> dict[str, str | None]:
    """Versions of what was measured and of what it stands on; None: not installed, or no git."""
    versions: dict[str, str | None] = {
        "gmsrm_jax": gmsrm_jax.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
    }
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def resident_peak_gib() -> float:
    """The highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def summary(seconds: list[float]) -> Mapping[str, float]:
    """Median, smallest, 95th percentile [s] and number of the repetitions."""
    return {
        "seconds_median": float(np.median(seconds)),
        "seconds_min": float(np.min(seconds)),
        "seconds_p95": float(np.percentile(seconds, 95)),
        "n": len(seconds),
    }


def _cpu_model() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    root = pathlib.Path(__file__).parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
