"""Shares of the peak, and the Markdown tables of a run of `bench`."""

from collections.abc import Callable
from typing import Any

from benchmarks.hardware import known_peak, peak_share

Row = dict[str, Any]
Column = tuple[str, Callable[[Row], Any], str]


def add_shares(rows: list[Row], machine: dict[str, Any]) -> list[Row]:
    """Rows with "share_of_nominal" and "share_of_matrix_rate", where there are flops to tell it.

    Virtual devices of a CPU share its peak. The matrix rate is the known one of the device, else
    the one that was measured in the same run.

    Args:
        rows: with "flops", "seconds_median" and "devices".
        machine: {"hardware": …, "matrix_rate": …}.
    """
    kind = machine["hardware"]["device_kind"]
    peak = known_peak(kind)
    nominal = peak.nominal if peak else None
    matrix = (peak.matrix if peak else None) or machine["matrix_rate"]["flops_per_second"]
    shared = []
    for row in rows:
        if "flops" in row and "devices" in row:
            devices = 1 if machine["hardware"]["platform"] == "cpu" else row["devices"]
            work = row["flops"], row["seconds_median"]
            row = {
                **row,
                "share_of_nominal": peak_share(*work, nominal, devices),
                "share_of_matrix_rate": peak_share(*work, matrix, devices),
            }
        shared.append(row)
    return shared


def markdown(result: dict[str, Any]) -> str:
    """The result's tables."""
    hardware, rate = result["hardware"], result["matrix_rate"]
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items() if v is not None)
    device = f"{hardware['devices']} × {hardware['device_kind']} ({hardware['platform']})"
    if hardware["device_memory_gib"]:
        device += f" with {hardware['device_memory_gib']:.0f} GiB for JAX"
    parts = [
        f"    {result['command']}\n",
        f"{result['date']}, {result['seconds']:.0f} s. {hardware['cpu']}, {hardware['cores']} "
        f"cores, {hardware['memory_gib']:.1f} GiB; {device}; {versions}. Product of "
        f"{rate['side']}² matrices in {rate['dtype']}: "
        f"{rate['flops_per_second'] / 1e12:.3g} TFLOP/s.\n",
    ]
    for title, section, columns in _TABLES:
        rows = [row for row in result["rows"] if row["section"] == section]
        if rows and section == "scaling":
            first = rows[0]["images_per_second"]
            rows = [{**row, "speedup": row["images_per_second"] / first} for row in rows]
        if rows:
            parts.append(f"{title}\n\n{_table(rows, columns)}\n")
    if result["not_measured"]:
        lines = [f"- {item['what']}: {item['why']}" for item in result["not_measured"]]
        parts.append("Not measured:\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts).rstrip()


def _table(rows: list[Row], columns: tuple[Column, ...]) -> str:
    kept = [column for column in columns if any(column[1](row) is not None for row in rows)]
    lines = [" | ".join(name for name, _, _ in kept), " | ".join("---" for _ in kept)]
    for row in rows:
        cells = ((value(row), form) for _, value, form in kept)
        lines.append(" | ".join("" if v is None else format(v, form) for v, form in cells))
    return "\n".join(f"| {line} |" for line in lines)


def _field(name: str) -> Callable[[Row], Any]:
    return lambda row: row.get(name)


def _scaled(name: str, factor: float) -> Callable[[Row], Any]:
    return lambda row: None if row.get(name) is None else row[name] * factor


def _gflop_per_image(row: Row) -> float | None:
    return row["flops"] / row["batch"] / 1e9 if "flops" in row else None


def _teraflops(row: Row) -> float | None:
    return row["flops"] / row["seconds_median"] / 1e12 if "flops" in row else None


def _program(row: Row) -> str:
    return f"{row['stage']}/{row['program']}" if "stage" in row else row["program"]


def _yes(row: Row) -> str | None:
    return {None: None, True: "yes", False: "NO"}[row.get("agrees")]


_PROGRAM: Column = ("program", _program, "")
_SIZE: Column = ("px", _field("size"), "d")
_BATCH: Column = ("batch", _field("batch"), "d")
_DTYPE: Column = ("format", _field("dtype"), "")
_SECONDS: tuple[Column, ...] = (
    ("median [s]", _field("seconds_median"), ".4g"),
    ("best [s]", _field("seconds_min"), ".4g"),
    ("n", _field("n"), "d"),
)
_RATE: Column = ("images/s", _field("images_per_second"), ".4g")
_FLOPS: tuple[Column, ...] = (
    ("GFLOP an image", _gflop_per_image, ".4g"),
    ("TFLOP/s", _teraflops, ".3g"),
    ("of nominal", _field("share_of_nominal"), ".1%"),
    ("of matrix rate", _field("share_of_matrix_rate"), ".1%"),
)
_MEMORY: tuple[Column, ...] = (
    ("program [GiB]", _field("program_gib"), ".2f"),
    ("device peak [GiB]", _field("device_peak_gib"), ".2f"),
    ("resident peak [GiB]", _field("resident_peak_gib"), ".2f"),
)

_TABLES: tuple[tuple[str, str, tuple[Column, ...]], ...] = (
    (
        "Training steps:",
        "training",
        (
            _PROGRAM,
            _SIZE,
            _BATCH,
            _DTYPE,
            *_SECONDS,
            _RATE,
            *_FLOPS,
            ("compiled in [s]", _field("compile_seconds"), ".1f"),
            *_MEMORY,
        ),
    ),
    (
        "Scaling over devices:",
        "scaling",
        (
            _PROGRAM,
            ("devices", _field("devices"), "d"),
            _BATCH,
            *_SECONDS,
            _RATE,
            ("times the first", _field("speedup"), ".2f"),
        ),
    ),
    (
        "Filling holes:",
        "inference",
        (
            _PROGRAM,
            _SIZE,
            _BATCH,
            _DTYPE,
            *_SECONDS,
            ("p95 [s]", _field("seconds_p95"), ".4g"),
            _RATE,
            *_FLOPS,
            ("times the bare network", _field("times_bare_network"), ".3f"),
            ("weights", _field("weights"), ""),
        ),
    ),
    (
        "What people do, with the bundled weights:",
        "use",
        (
            _PROGRAM,
            ("px", _field("pixels"), ""),
            ("threads", _field("threads"), "d"),
            *_SECONDS,
            ("best CPU [s]", _field("cpu_seconds"), ".4g"),
        ),
    ),
    (
        "Start of a process:",
        "startup",
        (
            _PROGRAM,
            ("compile cache", _field("cache"), ""),
            _SIZE,
            ("all [s]", _field("seconds_median"), ".1f"),
            ("target [s]", _field("target_seconds"), ".0f"),
            ("n", _field("n"), "d"),
            ("import [s]", _field("import_seconds"), ".1f"),
            ("weights [s]", _field("weights_seconds"), ".1f"),
            ("trace [s]", _field("trace_seconds"), ".1f"),
            ("compile [s]", _field("compile_seconds"), ".1f"),
            ("step [s]", _field("step_seconds"), ".1f"),
        ),
    ),
    (
        "The same block in JAX and in PyTorch eager, forward and backward:",
        "twin",
        (
            ("block", _program, ""),
            _BATCH,
            ("threads", _field("threads"), "d"),
            ("JAX [ms]", _scaled("seconds_median", 1e3), ".4g"),
            ("PyTorch [ms]", _scaled("torch_seconds", 1e3), ".4g"),
            ("JAX / PyTorch", _field("ratio"), ".2f"),
            ("goal", _field("goal"), ".1f"),
            ("error of outputs", _field("output_error"), ".1e"),
            ("of gradients", _field("gradient_error"), ".1e"),
            ("agrees", _yes, ""),
        ),
    ),
    (
        "Where the time goes, of the traced steps:",
        "profile",
        (
            _PROGRAM,
            _BATCH,
            ("kind", _field("kind"), ""),
            ("operation", _field("operation"), ""),
            ("ms a step", _field("milliseconds"), ".3g"),
            ("share", _field("share"), ".1%"),
        ),
    ),
)
