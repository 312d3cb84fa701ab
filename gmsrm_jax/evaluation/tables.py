"""The scores of an evaluation as a table for a terminal."""

from collections.abc import Mapping
from typing import Any

from gmsrm_jax.evaluation.labels import best_rows, heading, score_text
from gmsrm_jax.metrics import DEFINITIONS


def format_table(metrics: Mapping[str, Any], image_kind: str = "composite") -> str:
    """The scores as plain text: one block per metric, methods as rows, ratio bins as columns.

    Args:
        metrics: as written to metrics.json.
        image_kind: which of `batches.IMAGE_KINDS` was scored.

    Returns:
        Lines without a final newline; an asterisk stands behind the best value of a column.
    """
    bins = list(metrics["mask_list"]["bins"])
    methods = list(metrics["methods"])
    blocks = []
    for metric, definition in DEFINITIONS.items():
        rows = [[heading(definition), *bins]]
        rows += [[method] for method in methods]
        for bin_name in bins:
            texts = [
                score_text(metric, definition, kinds[image_kind][bin_name][metric]["mean"])
                for kinds in metrics["methods"].values()
            ]
            best = best_rows(definition, texts)
            for row, text in enumerate(texts):
                rows[row + 1].append(text + ("*" if row in best else " "))
        rows[0][1:] = [f"{name} " for name in bins]
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        blocks.append(
            "\n".join(
                "  ".join(
                    [cells[0].ljust(widths[0])]
                    + [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
                ).rstrip()
                for cells in rows
            )
        )
    counts = {scores["count"] for scores in metrics["mask_list"]["bins"].values()}
    pictures = "/".join(str(count) for count in sorted(counts))
    return "\n\n".join([*blocks, f"{pictures} pictures per column; * best of its column"])
