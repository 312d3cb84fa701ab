"""Scores in the layout of the paper's Tables I, II and IV, of all hole sizes, and of samples.

The paper's rows stand above ours where the data set is one of the paper's; they are marked and
never count for the best.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gmsrm_jax.evaluation import published
from gmsrm_jax.evaluation.published import VARIANTS
from gmsrm_jax.evaluation.tables import Score, Table, heading, tidy
from gmsrm_jax.methods import rows as rows_of_methods
from gmsrm_jax.metrics import Definition
from gmsrm_jax.runtime.errors import UserError

Metrics = Mapping[str, Any]
"""The content of a metrics.json."""

UNNAMED = "Test pictures"
"""A data set that `config.evaluation.dataset` does not name."""

_TYPES = {row.title: row.priors for row in rows_of_methods()}
_PAPER_SIZE = 256
_LEGEND = "↑ higher is better, ↓ lower is better; bold: best of our rows in a column."
_SETS = ("fid", "p_ids", "u_ids")  # measures of all pictures of a bin together


class Parameters(NamedTuple):
    """How many parameters the network that fills holes has, the discriminator not counted in.

    Attributes:
        trained: optimised in stage 2.
        frozen: kept as stage 1 left them: the generative memory's.
    """

    trained: int
    frozen: int


_PARAMETER_NOTE = (
    "Parameters are those of the network that fills holes: trained in stage 2, and frozen, which "
    "are the generative memory's."
)


def irregular_table(runs: Mapping[str, Metrics]) -> Table:
    """Table I: irregular holes of 20-60 %, metrics as groups of rows, data sets times bins.

    Args:
        runs: data set to the metrics of its evaluation; a data set with a name of
            `published.PUBLISHED` gets the paper's rows too.
    """
    caption = "Irregular holes that cover 20-60% of the picture."
    return _grid("table_1", "Table I", caption, "I", runs)


def centre_table(runs: Mapping[str, Metrics]) -> Table:
    """Table II: centre holes of 25 % and 50 %; see `irregular_table`."""
    caption = "Square holes in the centre that cover 25% and 50% of the picture."
    return _grid("table_2", "Table II", caption, "II", runs)


def full_table(runs: Mapping[str, Metrics], image_kind: str = "composite") -> Table:
    """Supplement: every bin that was scored, with more digits and without the paper's rows.

    Args:
        runs: see `irregular_table`.
        image_kind: which of `batches.IMAGE_KINDS` was scored.
    """
    caption = "Every hole size that was scored."
    return _grid("table_all", "All hole sizes", caption, "", runs, image_kind)


def ablation_table(
    data_set: str, runs: Sequence[Metrics], parameters: Mapping[str, Parameters] | None = None
) -> Table:
    """Table IV: the variants at a centre hole of 50 %, metrics as columns.

    Args:
        data_set: its name; CelebA-HQ256 gets the paper's rows too.
        runs: evaluations that hold at least one variant each, all with the same masks.
        parameters: of each variant, for two columns before the metrics; None leaves these out.

    Raises:
        UserError: the masks differ, a variant is there twice, or an evaluation holds none.
    """
    found = _variants(data_set, runs)
    bin_name = published.ABLATION_BIN
    definitions = _definitions(found.values())
    paper = published.PUBLISHED.get(data_set, {}).get("IV", {})
    rows = [(variant, True) for variant in paper]
    rows += [(variant, False) for variant in VARIANTS if variant in found]
    scores = []
    for name, theirs in rows:
        label = f"{name} (paper)" if theirs else name
        cells: dict[tuple[str, str], float | None] = {}
        if parameters:
            for part in Parameters._fields:
                count = None if theirs else getattr(parameters[name], part)
                cells["", f"{part.capitalize()} parameters"] = count
        for metric, definition in definitions.items():
            value = (
                _paper_score(data_set, "IV", name, metric, bin_name)
                if theirs
                else mean_score(found[name], name, bin_name, metric)
            )
            cells[metric, heading(definition)] = value
        scores += [
            Score(metric, "", label, data_set, column, value, published=theirs)
            for (metric, column), value in cells.items()
        ]
    hole = bin_name.replace("centre", "centre hole of")
    return Table(
        name="table_4",
        title="Table IV",
        caption=f"The variants, {hole} of the picture. {_LEGEND}",
        scores=tidy(scores, definitions, paper_digits=True),
        notes=_notes({data_set: next(iter(found.values()))}, [bin_name], bool(paper))
        + ((_PARAMETER_NOTE,) if parameters else ())
        + _undefined([(run, [v], [bin_name]) for v, run in found.items()], definitions),
    )


def _variants(data_set: str, runs: Sequence[Metrics]) -> dict[str, Metrics]:
    """Variant to its evaluation; see `ablation_table` for the errors."""
    lists = {run["mask_list"]["sha256"][:12] for run in runs}
    if len(lists) > 1:
        raise UserError(
            f"Table IV of {data_set}: the variants were scored with different mask lists "
            f"({', '.join(sorted(lists))}); evaluate them again with one --masks"
        )
    found: dict[str, Metrics] = {}
    for run in runs:
        own = [variant for variant in VARIANTS if variant in run["methods"]]
        if not own:
            raise UserError(
                f"Table IV of {data_set}: an evaluation of {', '.join(run['methods'])} has none of "
                f"{', '.join(VARIANTS)}; evaluate checkpoints of the variants, not with mean noise "
                "alone"
            )
        for variant in own:
            if variant in found:
                raise UserError(
                    f"Table IV of {data_set}: {variant} was scored in two of the evaluations; "
                    "give one of each variant"
                )
            found[variant] = run
    if not found:
        raise UserError(f"Table IV of {data_set}: there are no evaluations; give some")
    return found


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
    name: str,
    title: str,
    caption: str,
    paper_table: str,
    runs: Mapping[str, Metrics],
    image_kind: str = "composite",
) -> Table:
    """A table with metrics as groups of rows and data sets times bins as columns."""
    bins = published.TABLE_BINS.get(paper_table)
    definitions = _definitions(runs.values(), image_kind)
    methods = list(dict.fromkeys(method for run in runs.values() for method in run["methods"]))
    with_paper = bool(paper_table) and any(d in published.PUBLISHED for d in runs)
    theirs = [(method, True) for method in published.TYPES] if with_paper else []
    ours = [(method, False) for method in methods]
    scores = []
    for metric, definition in definitions.items():
        for method, paper in [*theirs, *ours] if metric in published.METRICS else ours:
            # "GM-SRM, mean noise" learns what GM-SRM learns.
            own = published.TYPES[method] if paper else _TYPES.get(method.split(",")[0], "")
            for data_set, run in runs.items():
                for column in bins or run["mask_list"]["bins"]:
                    cell = (data_set, paper_table, method, metric, column)
                    value = (
                        _paper_score(*cell)
                        if paper
                        else mean_score(run, method, column, metric, image_kind)
                    )
                    scores.append(
                        Score(
                            metric,
                            heading(definition),
                            f"{method} (paper)" if paper else method,
                            data_set,
                            column,
                            value,
                            type=own if paper_table else "",
                            published=paper,
                            marked=paper and cell in published.DOUBTFUL,
                        )
                    )
    frame = tidy(scores, definitions, bool(paper_table))
    doubt = "† contradicts other scores of its column: PSNR and LMSE of the same pictures differ."
    places = [(run, methods, bins or list(run["mask_list"]["bins"])) for run in runs.values()]
    return Table(
        name=name,
        title=title,
        caption=f"{caption} {_LEGEND}",
        scores=frame,
        notes=_notes(runs, bins, with_paper)
        + ((doubt,) if frame["marked"].any() else ())
        + _undefined(places, definitions, image_kind),
    )


def _definitions(runs: Iterable[Metrics], image_kind: str = "composite") -> dict[str, Definition]:
    """The metrics that images of this kind were scored with: the paper's first."""
    found: dict[str, Definition] = {}
    for run in runs:
        scored = {
            metric
            for kinds in run["methods"].values()
            for scores in kinds[image_kind].values()
            for metric in scores
        }
        if image_kind == "composite" and "distribution" in run:
            scored |= set(_SETS)
        for metric, item in run["definitions"].items():
            if metric in scored:
                found.setdefault(metric, Definition(**item))
    first = [metric for metric in published.METRICS if metric in found]
    return {metric: found[metric] for metric in dict.fromkeys([*first, *found])}


def mean_score(
    run: Metrics, method: str, bin_name: str, metric: str, image_kind: str = "composite"
) -> float | None:
    """A method's mean score; None where there is none."""
    if metric in _SETS:
        scores = run.get("distribution", {}).get(method, {}).get(bin_name, {})
        return scores.get(metric)
    scores = run["methods"].get(method, {}).get(image_kind, {}).get(bin_name, {})
    return scores[metric]["mean"] if metric in scores else None


def _paper_score(*cell: str) -> float | None:
    """A score of the paper, by data set, table, method, metric and bin; None where there is none."""
    found: Any = published.PUBLISHED
    for key in cell:
        found = found.get(key, {})
    return found or None


def scored_pictures(data_set: str, run: Metrics) -> str:
    """A note on what was scored: how many pictures, with which masks."""
    masks = run["mask_list"]
    return (
        f"{data_set}: {run['pictures']} pictures at {run['image_size']} px, masks: "
        f"{masks['source']} (SHA-256 {masks['sha256'][:12]})."
    )


def _notes(
    runs: Mapping[str, Metrics], bins: Sequence[str] | None, with_paper: bool
) -> tuple[str, ...]:
    """What was scored, and how far the paper's rows can be compared; `bins` None is all."""
    notes = [scored_pictures(data_set, run) for data_set, run in runs.items()]
    limits = {
        scores["note"]
        for run in runs.values()
        for sets in run.get("distribution", {}).values()
        for name, scores in sets.items()
        if bins is None or name in bins
    }
    notes += [f"FID, P-IDS and U-IDS: {limit}." for limit in sorted(limits) if limit]
    if with_paper:
        notes.append(
            "Rows marked (paper) are copied from the paper and do not count for bold. Its masks "
            "are not published, nor whether it scored composites, so compare with care."
        )
        sizes = sorted({run["image_size"] for run in runs.values()} - {_PAPER_SIZE})
        if sizes:
            shown = ", ".join(f"{size} px" for size in sizes)
            notes.append(f"The paper scored pictures of {_PAPER_SIZE} px, ours have {shown}.")
    return tuple(notes)


def _undefined(
    places: Iterable[tuple[Metrics, Sequence[str], Sequence[str]]],
    definitions: Mapping[str, Definition],
    image_kind: str = "composite",
) -> tuple[str, ...]:
    """How many scores are undefined and left out of a mean, of (evaluation, methods, bins)."""
    found: dict[str, tuple[int, int]] = {}
    for run, methods, bins in places:
        for method in methods:
            kinds = run["methods"].get(method, {}).get(image_kind, {})
            for metric, score in [item for b in bins for item in kinds.get(b, {}).items()]:
                label = f"{definitions[metric].label} of {method}"
                missing, total = found.get(label, (0, 0))
                count = score["count"] + score["undefined"]
                found[label] = missing + score["undefined"], total + count
    items = [f"{label}: {some} of {total}" for label, (some, total) in found.items() if some]
    return (f"Undefined and left out of the means: {'; '.join(items)}.",) if items else ()
