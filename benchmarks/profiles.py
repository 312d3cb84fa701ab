"""Where the time of a traced program goes, by kinds of operation."""

import collections
import pathlib
import re
from typing import Any

import jax

# The first that fits an operation's name, lower case.
_KINDS = {
    "library (convolutions, products and others)": r"ynn|onednn",
    "convolution, matrix product": r"conv|gemm|dot|cudnn|cutlass|xmma|cublas|matmul|nvjet",
    "collective": r"all-reduce|all-gather|reduce-scatter|collective|nccl",
    "copy, transpose": r"copy|transpose|memcpy|memset|bitcast",
    "reduction": r"reduce",
    "random numbers": r"rng|threefry",
    "fused elementwise": r"fusion|loop_|wrapped|select|add|multiply",
}
_TOP = 15
_NOT_OPERATIONS = re.compile(r"^(Thread|Thunk|Pjit|Pjrt|TfrtCpu|CpuExec|\$|end:)", re.IGNORECASE)


def kind_of(name: str) -> str:
    """The kind of operation that a name stands for."""
    lower = name.lower()
    return next((kind for kind, pattern in _KINDS.items() if re.search(pattern, lower)), "other")


def summarise_profile(folder: str, steps: int) -> list[dict[str, Any]]:
    """Milliseconds a step by kind, and of the operations that take longest.

    Operations that run at the same time count each, and one that waits for another inside it counts
    both; on a CPU read the figures as shares.

    Args:
        folder: that `jax.profiler.trace` wrote.
        steps: how many steps were traced.

    Returns:
        Rows {"kind" or "operation", "milliseconds", "share"}; none if nothing was traced.
    """
    by_name: collections.Counter[str] = collections.Counter()
    for file in sorted(pathlib.Path(folder).rglob("*.xplane.pb")):
        planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
        devices = [plane for plane in planes if plane.name.startswith("/device:")]
        for plane in devices or planes:
            for line in plane.lines:
                # A device's other lines repeat its operations, by step, module or scope.
                if devices and not line.name.startswith(("XLA Ops", "Stream")):
                    continue
                for event in line.events:
                    if devices or ("hlo_op" in dict(event.stats)):
                        by_name[event.name] += event.duration_ns
    by_name = collections.Counter(
        {name: spent for name, spent in by_name.items() if not _NOT_OPERATIONS.match(name)}
    )
    total = by_name.total()
    if not total:
        return []
    kinds: collections.Counter[str] = collections.Counter()
    for name, spent in by_name.items():
        kinds[kind_of(name)] += spent
    return [
        {what: name, "milliseconds": spent / steps / 1e6, "share": spent / total}
        for what, counted in (("kind", kinds), ("operation", by_name))
        for name, spent in counted.most_common(_TOP)
    ]
