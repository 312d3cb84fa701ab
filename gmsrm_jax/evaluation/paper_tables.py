"""Scores in the layout of the paper's Tables I, II and IV, of all hole sizes, and of samples.

The paper's rows stand above ours where the data set is one of the paper's; they are marked and
never count for the best.
"""

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from gmsrm_jax.evaluation import published
from gmsrm_jax.evaluation.published import VARIANTS
from gmsrm_jax.evaluation.tables import Score, Table, heading, tidy
from gmsrm_jax.methods import rows as rows_of_methods
from gmsrm_jax.metrics import Definition
from gmsrm_jax.runtime.counts import count_of

Metrics = Mapping[str, Any]
"""The content of a metrics.json."""

UNNAMED = "Test pictures"
"""A data set that `config.evaluation.dataset` does not name."""

_TYPES = {row.title: row.priors for row in rows_of_methods()}
_PAPER_SIZE = 256
_LEGEND = "↑ higher is better, ↓ lower is better; bold: best of our rows in a column."
_SETS = ("fid", "p_ids", "u_ids")  # measures of all pictures of a bin together


def irregular_table(data_set: str, run: Metrics) -> Table:
    """Table I: irregular holes of 20-60 %, metrics as groups of rows, bins as columns.

    Args:
        data_set: its name; one of `published.DATA_SETS`' values brings the paper's rows too.
        run: the content of a metrics.json.
    """
    caption = "Irregular holes that cover 20-60% of the picture."
    return _grid("table_1", "Table I", caption, "I", data_set, run)


def centre_table(data_set: str, run: Metrics) -> Table:
    """Table II: centre holes of 25 % and 50 %; see `irregular_table`."""
    caption = "Square holes in the centre that cover 25% and 50% of the picture."
    return _grid("table_2", "Table II", caption, "II", data_set, run)


def full_table(data_set: str, run: Metrics) -> Table:
    """Supplement: every bin that was scored, with more digits and without the paper's rows."""
    caption = "Every hole size that was scored."
    return _grid("table_all", "All hole sizes", caption, "", data_set, run)


def ablation_table(data_set: str, run: Metrics) -> Table:
    """Table IV: the variants at a centre hole of 50 %, metrics as columns.

    Args:
        data_set: its name; CelebA-HQ256 gets the paper's rows too.
        run: the content of a metrics.json with at least one variant.
    """
    found = [variant for variant in VARIANTS if variant in run["methods"]]
    bin_name = published.ABLATION_BIN
    definitions = _definitions(run, found, [bin_name])
    papers = [v for v in VARIANTS if (data_set, "IV", v, "psnr", bin_name) in published.PUBLISHED]
    scores = []
    for name, theirs in [(v, True) for v in papers] + [(v, False) for v in found]:
        label = f"{name} (paper)" if theirs else name
        means = {} if theirs else _means(run, name, bin_name)
        for metric, definition in definitions.items():
            cell = (data_set, "IV", name, metric, bin_name)
            value = published.PUBLISHED.get(cell) if theirs else means.get(metric)
            column = heading(definition)
            scores.append(Score(metric, "", label, data_set, column, value, published=theirs))
    hole = bin_name.replace("centre", "centre hole of")
    return Table(
        name="table_4",
        title="Table IV",
        caption=f"The variants, {hole} of the picture. {_LEGEND}",
        scores=tidy(scores, definitions, paper_digits=True),
        notes=_notes(data_set, run, [bin_name], bool(papers))
        + _undefined(run, found, [bin_name], definitions),
    )


def samples_table(data_set: str, run: Metrics) -> Table:
    """Several samples of each hole: their mean, the best of them, and how much they differ.

    Metrics are groups of rows, bins columns. Nothing is bold: the best of several samples is chosen
    with the truth at hand.

    Args:
        data_set: its name.
        run: the content of a metrics.json with "samples".
    """
    bins = list(run["mask_list"]["bins"])
    definitions = {name: Definition(**item) for name, item in run["definitions"].items()}
    # Of each metric, the rows of all methods; then of each the differences between samples.
    shown: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for metric, definition in definitions.items():
        for method, parts in run["samples"].items():
            k, group = run["sample_counts"][method], heading(definition)
            shown[metric, group, f"{method}, the first"] = run["methods"][method]["composite"]
            shown[metric, group, f"{method}, mean of {k}"] = parts["samples_mean"]
            shown[metric, group, f"{method}, best of {k}"] = parts["samples_best"]
    for metric, definition in definitions.items():
        for method, parts in run["samples"].items():
            group = f"{definition.label} between samples"
            shown[metric, group, method] = parts["samples_diversity"]
    scores = [
        Score(metric, group, label, data_set, name, given[name].get(metric, {}).get("mean"))
        for (metric, group, label), given in shown.items()
        if any(metric in given[name] for name in bins)
        for name in bins
    ]
    kinds = run["sample_kinds"]
    return Table(
        name="table_samples",
        title="Several samples",
        caption="Several samples of each hole. ↑ higher is better, ↓ lower is better.",
        scores=tidy(scores, definitions).assign(best=False),
        notes=(
            scored_pictures(data_set, run),
            f"Mean of k: {kinds['samples_mean']}.",
            f"Best of k: {kinds['samples_best']}.",
            f"Between samples: {kinds['samples_diversity']}.",
        ),
    )


def _grid(
    name: str, title: str, caption: str, paper_table: str, data_set: str, run: Metrics
) -> Table:
    """A table with metrics as groups of rows and bins as columns."""
    bins = published.TABLE_BINS.get(paper_table) or tuple(run["mask_list"]["bins"])
    methods = run["methods"]
    definitions = _definitions(run, methods, bins)
    with_paper = bool(paper_table) and data_set in published.DATA_SETS.values()
    scores = []
    for metric, definition in definitions.items():
        group = (metric, heading(definition))
        theirs = published.TYPES if with_paper and metric in published.METRICS else {}
        for (method, own), bin_name in itertools.product(theirs.items(), bins):
            cell = (data_set, paper_table, method, metric, bin_name)
            value, label = published.PUBLISHED.get(cell), f"{method} (paper)"
            scores.append(Score(*group, label, data_set, bin_name, value, own, published=True))
        for method, bin_name in itertools.product(methods, bins):
            # "GM-SRM, mean noise" learns what GM-SRM learns.
            own = _TYPES.get(method.split(",")[0], "") if paper_table else ""
            value = _means(run, method, bin_name).get(metric)
            scores.append(Score(*group, method, data_set, bin_name, value, own))
    return Table(
        name=name,
        title=title,
        caption=f"{caption} {_LEGEND}",
        scores=tidy(scores, definitions, bool(paper_table)),
        notes=_notes(data_set, run, bins, with_paper) + _undefined(run, methods, bins, definitions),
    )


def _definitions(
    run: Metrics, methods: Collection[str], bins: Collection[str]
) -> dict[str, Definition]:
    """The metrics that were scored: the paper's first."""
    scored = set().union(*(_means(run, *place) for place in itertools.product(methods, bins)))
    known = {n: Definition(**item) for n, item in run["definitions"].items() if n in scored}
    first = [metric for metric in published.METRICS if metric in known]
    return {metric: known[metric] for metric in dict.fromkeys([*first, *known])}


def _means(run: Metrics, method: str, bin_name: str) -> dict[str, float | None]:
    """A method's scores of a bin by metric; None where undefined."""
    scores = run["methods"][method]["composite"].get(bin_name, {})
    sets = run.get("distribution", {}).get(method, {}).get(bin_name, {})
    means = {metric: score["mean"] for metric, score in scores.items()}
    return means | {metric: sets[metric] for metric in _SETS if metric in sets}


def scored_pictures(data_set: str, run: Metrics) -> str:
    """A note on what was scored: how many pictures, with which masks."""
    masks = run["mask_list"]
    return (
        f"{data_set}: {count_of(run['pictures'], 'picture')} at {run['image_size']} px, masks: "
        f"{masks['source']} (SHA-256 {masks['sha256'][:12]})."
    )


def _notes(data_set: str, run: Metrics, bins: Collection[str], with_paper: bool) -> tuple[str, ...]:
    """What was scored, and how far the paper's rows can be compared."""
    notes = [scored_pictures(data_set, run)]
    limits = {
        scores["note"]
        for sets in run.get("distribution", {}).values()
        for name, scores in sets.items()
        if name in bins
    }
    notes += [f"FID, P-IDS and U-IDS: {limit}." for limit in sorted(limits) if limit]
    if with_paper:
        notes.append(
            "Rows marked (paper) are copied from the paper and do not count for bold. Its masks "
            "are not published, nor whether it scored composites, and some cells contradict others "
            "of the same pictures, such as LISK's PSNR on Paris StreetView: compare with care."
        )
        size = run["image_size"]
        if size != _PAPER_SIZE:
            notes.append(f"The paper scored pictures of {_PAPER_SIZE} px, ours have {size} px.")
    return tuple(notes)


def _undefined(
    run: Metrics,
    methods: Iterable[str],
    bins: Iterable[str],
    definitions: Mapping[str, Definition],
) -> tuple[str, ...]:
    """How many scores are undefined and left out of a mean."""
    undefined: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for method, name in itertools.product(methods, bins):
        scores = run["methods"][method]["composite"].get(name, {})
        for metric, score in scores.items():
            label = f"{definitions[metric].label} of {method}"
            undefined[label] += score["undefined"]
            total[label] += score["count"] + score["undefined"]
    items = [f"{label}: {some} of {total[label]}" for label, some in undefined.items() if some]
    return (f"Undefined and left out of the means: {'; '.join(items)}.",) if items else ()
