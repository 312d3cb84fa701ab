"""Several rows trained and scored alike: methods (Tables I and II) and variants (Table IV)."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from gmsrm_jax.commands.scoring import NotScored, evaluate_and_report
from gmsrm_jax.config.fields import Run, flatten, set_fields
from gmsrm_jax.config.of_run import config_of_run
from gmsrm_jax.data.splits import has_test_pictures
from gmsrm_jax.evaluation.comparison_table import (
    comparison_table,
    joined_examples,
    joined_metrics,
    spread_table,
)
from gmsrm_jax.evaluation.cost import Cost, cost_of
from gmsrm_jax.evaluation.evaluate import EXAMPLES_FILE, METRICS_FILE
from gmsrm_jax.evaluation.examples import read_examples
from gmsrm_jax.evaluation.run import check_evaluation
from gmsrm_jax.evaluation.table_formats import to_text
from gmsrm_jax.evaluation.tables import Table
from gmsrm_jax.methods import METHODS, Method
from gmsrm_jax.methods.base import StageSpec
from gmsrm_jax.metrics import Definition
from gmsrm_jax.report.charts import Curve, curves_from_log
from gmsrm_jax.report.paper_report import write_outputs, write_tables
from gmsrm_jax.report.report import write_report
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.log import format_seconds, read_log, say
from gmsrm_jax.training.run import train

_SHARED = "shared"  # folder of the stages that several rows have in common
_EVALUATION = "evaluation"
_CURVE = "validation/psnr"
# Fields of a run that no shared stage depends on.
_OF_THE_ROW = {"method", "variant", "batch_size", *Run.free()}
_ALIKE = ("image_size", "seed", "data.", "masks.", "evaluation.")


@dataclasses.dataclass(frozen=True)
class Row:
    """One row: a name for its folder, such as "pconv" or "gm_csv", and the config of its run."""

    name: str
    config: ConfigDict

    @property
    def method(self) -> Method:
        """Its method."""
        return METHODS[self.config.method]

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.method.row(self.config).title


@dataclasses.dataclass(frozen=True)
class Compared:
    """What a comparison of one seed found.

    Attributes:
        metrics: of all rows, as those of one evaluation.
        tables: the table of the comparison, then Tables I, II and IV as far as there are scores.
        facts: how long each row was trained, for people.
        costs: by the row's title.
    """

    metrics: dict[str, Any]
    tables: tuple[Table, ...]
    facts: dict[str, Any]
    costs: dict[str, Cost]


def set_length(config: ConfigDict, kimg: float) -> None:
    """Makes the stages of a method that it shares with no other see so many pictures in all.

    Several such stages keep their proportions.

    Args:
        config: its fields are changed.
        kimg: thousand pictures.

    Raises:
        UserError: the method does not say how long it trains.
    """
    names = METHODS[config.method].lengths
    if not names:
        raise UserError(f"--kimg: the method {config.method} names no lengths; leave its row out")
    fields = flatten(config.to_dict())
    total = sum(fields[name] for name in names)
    shares = {name: fields[name] / total if total else 1 / len(names) for name in names}
    set_fields(config, {name: kimg * share for name, share in shares.items()})


def check_rows(rows: Sequence[Row]) -> None:
    """Checks that rows can be compared.

    Raises:
        UserError: a field does not allow it, or differs between rows.
    """
    first = _common(rows[0])
    for row in rows:
        config, method = row.config, row.method
        if not has_test_pictures(config):
            raise UserError("a comparison needs test pictures; set data.test or data.test_fraction")
        begin = method.begins_from(config)
        if begin is not None:
            raise UserError(
                f"{begin.begin_from_field} = {begin.begin_from!r} brings trained weights, and a "
                "comparison trains its own; set it to ''"
            )
        if config.evaluation.noise == "mean":
            raise UserError(
                "evaluation.noise = 'mean' leaves out the rows of methods that draw; set it to "
                "'sampled', or to 'both' for a row of each"
            )
        own = _common(row)
        for name in sorted(first.keys() | own.keys()):
            if own.get(name) != first.get(name):
                raise UserError(
                    f"config.{name} is {first.get(name)!r} for {rows[0].name} and "
                    f"{own.get(name)!r} for {row.name}; rows are compared on the same pictures"
                )


def compare(rows: Sequence[Row], workdir: pathlib.Path, command: str) -> Compared:
    """Trains and evaluates every row; writes tables, figures and a report.

    Each row has a workdir of its own name. A stage that rows have in common is trained once, in a
    folder of `shared`. What is finished is not done again; the same call after an interruption goes
    on, and one with further rows adds these.

    Args:
        rows: those of `check_rows`.
        workdir: folder of everything.
        command: what to type to do it again, for the report.

    Raises:
        UserError: see `check_rows` and `training.run.train`; or the folder is one of
            `compare_seeds`.
        NotScored: after everything else is done, weights of a perceptual measure are missing.
    """
    check_rows(rows)
    if next(workdir.glob("seed_*/*"), None):
        raise UserError(
            f"{workdir} holds a comparison of several seeds; give --seeds to go on with it, or use "
            "another --workdir"
        )
    lacking: NotScored | None = None
    for row in rows:
        say(f"comparison: {row.title}")
        try:
            train(
                row.config,
                workdir / row.name,
                earlier=_train_shared(row, workdir),
                check=functools.partial(check_evaluation, row.config),
            )
            evaluate_and_report(row.config, workdir / row.name, command)
        except NotScored as error:  # the other rows can be trained and scored all the same
            lacking = error
    compared = _write(rows, workdir, command)
    if lacking:
        raise lacking
    return compared


def compare_seeds(
    rows: Sequence[Row], workdir: pathlib.Path, seeds: Sequence[int], command: str
) -> None:
    """Compares with one seed after the other, and writes every table over all of them.

    Each seed's comparison is one of `compare`, in seed_0, seed_1 and so on. The seed is that of the
    training alone: masks and noise of all evaluations are those of evaluation.seed.

    Args:
        rows: of any seed.
        workdir: folder of everything; the tables' numbers are in its comparison.json.
        seeds: at least two, all different.
        command: see `compare`.

    Raises:
        UserError: see `compare`; or the folder is one of `compare`.
        NotScored: see `compare`.
    """
    if any(workdir.glob(f"{_SHARED}/*")) or any(workdir.glob("*/config.json")):
        raise UserError(
            f"{workdir} holds a comparison of one seed; leave out --seeds to go on with it, or use "
            "another --workdir"
        )
    lacking: NotScored | None = None
    found: dict[int, Compared] = {}
    for seed in seeds:
        say(f"comparison: seed {seed}")
        folder, own = workdir / f"seed_{seed}", [_with_seed(row, seed) for row in rows]
        try:
            found[seed] = compare(own, folder, command)
        except NotScored as error:  # as in `compare`
            lacking = error
            found[seed] = _write(own, folder, command)
    lists = {each.metrics["mask_list"]["sha256"]: seed for seed, each in found.items()}
    if len(lists) > 1:
        listed = ", ".join(f"{sha[:12]} for {seed}" for sha, seed in lists.items())
        raise UserError(
            f"{workdir}: the seeds were scored with different mask lists ({listed}); compare "
            "again, with one evaluation.masks"
        )
    some = found[seeds[0]]
    definitions = {name: Definition(**item) for name, item in some.metrics["definitions"].items()}
    tables = [
        spread_table({s: each.tables[place] for s, each in found.items()}, definitions, command)
        for place in range(len(some.tables))
    ]
    write_tables(workdir, [table for table, _ in tables])
    facts = _facts(rows, some, command) | {
        "seeds": list(seeds),
        "deviation": "sample standard deviation, with n - 1",
        "costs": {str(s): _cost_facts(each) for s, each in found.items()},
        "tables": {table.name: numbers for table, numbers in tables},
    }
    _write_json(workdir, facts)
    say(to_text(tables[0][0]))
    say(f"tables: {workdir}")
    if lacking:
        raise lacking


def _common(row: Row) -> dict[str, Any]:
    """The fields that all rows must have alike."""
    return {k: v for k, v in flatten(row.config.to_dict()).items() if k.startswith(_ALIKE)}


def _with_seed(row: Row, seed: int) -> Row:
    config = row.config.copy_and_resolve_references()
    with config.unlocked():
        config.seed = seed
    return Row(row.name, config)


def _shared(row: Row, workdir: pathlib.Path) -> Iterator[tuple[StageSpec, pathlib.Path]]:
    """The stages that other rows may have too, each with the folder of what they depend on."""
    fields = flatten(row.config.to_dict())
    run = Run.model_fields.keys() - _OF_THE_ROW
    for spec in row.method.stages_of(row.config):
        starts = tuple(f"{name}." for name in (*spec.shared, "data", "masks"))
        names = {name for name in fields if f"{name}.".startswith(starts)} | run
        if spec.shared:
            text = json.dumps({name: fields[name] for name in sorted(names)})
            digest = hashlib.sha256(text.encode()).hexdigest()[:8]
            yield spec, workdir / _SHARED / f"{spec.name}-{digest}"


def _train_shared(row: Row, workdir: pathlib.Path) -> dict[str, pathlib.Path]:
    """Trains what other rows may have too, and returns where each stage is."""
    done: dict[str, pathlib.Path] = {}
    for spec, folder in _shared(row, workdir):
        begun = (folder / "config.json").exists()
        # It is that of the row that came first; what differs in this one plays no part.
        config = config_of_run(folder) if begun else row.config
        train(config, folder, stage=spec.name, earlier=done)
        done[spec.name] = folder
    return done


def _write(rows: Sequence[Row], workdir: pathlib.Path, command: str) -> Compared:
    """Writes tables, figures, comparison.json and the report of rows that are done."""
    folders = {row.title: workdir / row.name / _EVALUATION for row in rows}
    metrics = joined_metrics(
        {title: json.loads((f / METRICS_FILE).read_text("utf-8")) for title, f in folders.items()}
    )
    examples = joined_examples(
        {title: read_examples(folder / EXAMPLES_FILE) for title, folder in folders.items()}
    )
    costs = {row.title: cost_of(row.config, workdir / row.name) for row in rows}
    notes = tuple(dict.fromkeys(row.method.note for row in rows if row.method.note))
    settings = rows[0].config.evaluation
    own = comparison_table(settings.dataset, metrics, costs, _lengths(rows, workdir), notes)
    paper = write_outputs(
        workdir,
        metrics,
        examples,
        settings.dataset,
        pictures=settings.figure_pictures,
        seed=settings.seed,
        notes=notes,
    )
    paper = dataclasses.replace(paper, tables=(own, *paper.tables))
    write_tables(workdir, [own])
    lines = {row.title: _log(row, workdir) for row in rows}
    trained = {
        title: f"{count_of(cost.pictures, 'picture', ',')},"
        f" {format_seconds(cost.training_seconds)} of training"
        for title, cost in costs.items()
    }
    compared = Compared(metrics, paper.tables, trained, costs)
    facts = {"seed": rows[0].config.seed, "picture size": f"{rows[0].config.image_size} px"}
    _write_json(workdir, _facts(rows, compared, command) | facts | {"costs": _cost_facts(compared)})
    write_report(
        workdir / "report.html",
        title=f"Comparison of {', '.join(folders)}",
        command=command,
        facts=facts | trained,
        paper=paper,
        curves=[curve for title, log in lines.items() for curve in _validation_curve(title, log)],
        config={row.name: row.config.to_dict() for row in rows},
    )
    say(to_text(own))
    say(f"report: {workdir / 'report.html'}")
    return compared


def _lengths(rows: Sequence[Row], workdir: pathlib.Path) -> str:
    """How long stages that rows share were trained, in words; "" if there are none."""
    found: dict[pathlib.Path, list[str]] = {}
    stages: dict[pathlib.Path, str] = {}
    for row in rows:
        for spec, folder in _shared(row, workdir):
            found.setdefault(folder, []).append(row.title)
            lines = read_log(folder / spec.name / "log.jsonl")
            seen = count_of(lines[-1]["images"], "picture", ",") if lines else "no pictures"
            stages[folder] = f"the stage {spec.name} of {seen}"
    return "; ".join(f"{stages[folder]} of {', '.join(own)}" for folder, own in found.items())


def _log(row: Row, workdir: pathlib.Path) -> list[dict[str, float]]:
    return read_log(workdir / row.name / row.method.last_stage(row.config) / "log.jsonl")


def _validation_curve(title: str, lines: Sequence[Mapping[str, float | None]]) -> list[Curve]:
    return [curve for curve in curves_from_log(title, lines) if curve.tag == _CURVE]


def _facts(rows: Sequence[Row], compared: Compared, command: str) -> dict[str, Any]:
    """What was compared, for comparison.json."""
    metrics = compared.metrics
    return {
        "command": command,
        "rows": {row.name: row.title for row in rows},
        "data_set": rows[0].config.evaluation.dataset,
        "pictures": metrics["pictures"],
        "image_size": metrics["image_size"],
        "mask_list_sha256": metrics["mask_list"]["sha256"],
    }


def _cost_facts(compared: Compared) -> dict[str, Any]:
    return {title: dataclasses.asdict(cost) for title, cost in compared.costs.items()}


def _write_json(workdir: pathlib.Path, facts: Mapping[str, Any]) -> None:
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    write_atomically(workdir / "comparison.json", f"{text}\n".encode())
