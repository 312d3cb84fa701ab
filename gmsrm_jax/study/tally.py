"""Counts the votes of a study: the paper's Table III, and whether the place on the screen mattered.

The share of the vote is a method's share of all first places. A sample is won by the method with
the most first places on it; a sample on which several share that lead is tied, and won by none.
What a participant says of a sample at the second sight measures consistency, and nothing else.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scipy.stats import binomtest

from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.study.presentation import LABELS
from gmsrm_jax.study.votes import Vote, Votes

if TYPE_CHECKING:
    import pandas as pd

_NOTE = (
    "Share of the vote: first places. 95 % intervals: Wilson. p: two-sided binomial test against"
    " equal shares. Both take each vote as independent of the others. A sample is won by the method"
    " with the most first places on it. Mean rank: 1 is best."
)
_HEADS = {
    "first_places": "First places",
    "share": "Share of the vote",
    "interval": "95 % interval",
    "p_value": "p",
    "winning_samples": "Winning samples",
    "mean_rank": "Mean rank",
}


class Tally(NamedTuple):
    """A study's result; shares are in [0, 1], and missing without votes.

    Attributes:
        votes: votes that count: the latest of each participant on each sample, at first sight.
        participants: people who voted.
        replaced_votes: earlier votes, which do not count.
        voted_samples: samples with votes; the winning samples and the tied ones add up to them.
        tied_samples: samples on which several methods share the most first places.
        repeated: samples that a participant ranked at second sight too.
        consistent: those of them with the same method first both times.
        methods: by method: first_places (they add up to `votes`), share with the ends share_low and
            share_high of its 95 % Wilson interval, p_value of the binomial test against equal
            shares, winning_samples, mean_rank.
        positions: the same numbers, but for the last two, by place on the screen, A first.
        samples: by sample: votes, winner (None if tied, or without votes), and each method's first
            places under "first_places".
    """

    votes: int
    participants: int
    replaced_votes: int
    voted_samples: int
    tied_samples: int
    repeated: int
    consistent: int
    methods: "pd.DataFrame"
    positions: "pd.DataFrame"
    samples: dict[str, dict[str, Any]]


def tally(
    methods: Sequence[str], samples: Sequence[str], cast: Sequence[Vote], replaced_votes: int
) -> Tally:
    """Counts votes.

    Args:
        methods: names of the methods, in the order of the table.
        samples: names of all samples.
        cast: votes that count, at most one of a participant on a sample at each sight.
        replaced_votes: number of those that do not.
    """
    import pandas as pd

    first = [vote for vote in cast if not vote.again]
    best = pd.Series([vote.ranking[0] for vote in first], dtype=object)
    where = pd.Series([vote.sample for vote in first], dtype=object)
    counts = pd.crosstab(where, best).reindex(index=samples, columns=methods, fill_value=0)
    leads = counts.eq(counts.max(axis=1), axis=0) & (counts > 0)
    won = leads[leads.sum(axis=1) == 1]
    winners = won.idxmax(axis=1) if len(won) else pd.Series(dtype=object)
    voted = int(leads.any(axis=1).sum())
    ranks = pd.DataFrame([{m: vote.ranking.index(m) + 1 for m in methods} for vote in first])
    rows = _shares(counts.sum())
    rows["winning_samples"] = won.sum().reindex(methods, fill_value=0).astype(int)
    rows["mean_rank"] = ranks.mean().reindex(methods)
    place = pd.Series([LABELS[vote.shown.index(vote.ranking[0])] for vote in first], dtype=object)
    at_first = {(vote.participant, vote.sample): vote.ranking[0] for vote in first}
    pairs = [
        (at_first.get((vote.participant, vote.sample)), vote.ranking[0])
        for vote in cast
        if vote.again
    ]
    return Tally(
        votes=len(first),
        participants=len({vote.participant for vote in cast}),
        replaced_votes=replaced_votes,
        voted_samples=voted,
        tied_samples=voted - len(won),
        repeated=sum(before is not None for before, _ in pairs),
        consistent=sum(before == now for before, now in pairs),
        methods=rows,
        positions=_shares(place.value_counts().reindex(list(LABELS[: len(methods)]), fill_value=0)),
        samples={
            name: {
                "votes": int(counts.loc[name].sum()),
                "winner": winners.get(name),
                "first_places": counts.loc[name].to_dict(),
            }
            for name in samples
        },
    )


def tally_study(votes: Votes) -> Tally:
    """Counts the votes of an open study."""
    return tally(votes.methods, votes.samples, votes.latest(), votes.replaced())


def format_tally(result: Tally) -> str:
    """Returns the tables as text for a terminal, without a final newline."""
    places = _cells(result.positions).rename(index="place {}".format)
    blocks = [
        _summary(result),
        _aligned(_method_cells(result)),
        f"{_places(result)}:\n{_aligned(places.rename_axis(None))}",
        _NOTE,
    ]
    return "\n\n".join(blocks)


def write_tally(folder: Path, result: Tally) -> list[Path]:
    """Writes tally.json, tally.md and tally.csv, and returns their paths.

    Raises:
        OSError: they cannot be written.
    """
    value = result._asdict() | {
        name: {key: row.dropna().to_dict() for key, row in table.astype(object).iterrows()}
        for name, table in (("methods", result.methods), ("positions", result.positions))
    }
    markdown = (
        f"# User study\n\n{_summary(result)}.\n\n{_markdown(_method_cells(result))}\n\n{_NOTE}\n\n"
        f"## Places on the screen\n\n{_places(result)}.\n\n"
        f"{_markdown(_cells(result.positions).rename_axis('Place'))}\n"
    )
    csv = result.methods.rename_axis("method")
    csv.insert(1, "votes", result.votes)
    texts = {
        "tally.json": json.dumps(value, indent=2, ensure_ascii=False) + "\n",
        "tally.md": markdown,
        "tally.csv": csv.to_csv(lineterminator="\n"),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in texts]


def _shares(counts: "pd.Series") -> "pd.DataFrame":
    """Returns first places with their shares, intervals and tests against equal shares."""
    total, names = int(counts.sum()), ["share", "share_low", "share_high", "p_value"]
    frame = counts.to_frame("first_places").rename_axis(None)
    frame[names] = float("nan")
    for name, count in counts.items() if total else ():
        test = binomtest(int(count), total, 1 / len(counts))
        ends = test.proportion_ci(0.95, method="wilson")
        frame.loc[name, names] = [count / total, *ends, test.pvalue]
    return frame


def _summary(result: Tally) -> str:
    votes, people = count_of(result.votes, "vote"), count_of(result.participants, "participant")
    samples = f"{result.voted_samples} of {count_of(len(result.samples), 'sample')}"
    parts = [f"{votes} of {people} on {samples}"]
    if result.replaced_votes:
        later = "by a later vote" if result.replaced_votes == 1 else "by later votes"
        parts.append(f"{result.replaced_votes} replaced {later}")
    if result.repeated:
        low, high = binomtest(result.consistent, result.repeated).proportion_ci(method="wilson")
        parts.append(
            f"at second sight the same was first in {result.consistent} of {result.repeated}"
            f" (95 % interval {100 * low:.2f}-{100 * high:.2f} %)"
        )
    return "; ".join(parts)


def _places(result: Tally) -> str:
    even = 100 / len(result.positions)
    return f"First places by place on the screen; {even:.2f} % each if it does not matter"


def _cells(rows: "pd.DataFrame") -> "pd.DataFrame":
    """A table's numbers as text under headings; "-" where there are none."""
    import pandas as pd

    shares = rows["share"].notna()
    texts = {
        "share": rows["share"].map("{:.2%}".format).str.replace("%", " %"),
        "interval": (100 * rows["share_low"]).map("{:.2f}-".format)
        + (100 * rows["share_high"]).map("{:.2f} %".format),
        "p_value": rows["p_value"].map("{:.2g}".format),
    }
    if "mean_rank" in rows:
        texts["mean_rank"] = rows["mean_rank"].map("{:.2f}".format)
    cells = pd.DataFrame({name: text.where(shares, "-") for name, text in texts.items()})
    for name in rows.columns.intersection(["first_places", "winning_samples"]):
        cells[name] = rows[name].astype(str)
    return cells[[name for name in _HEADS if name in cells]].rename(columns=_HEADS)


def _method_cells(result: Tally) -> "pd.DataFrame":
    """The methods' table with the tied samples and the total."""
    import pandas as pd

    cells, share = _cells(result.methods), "100.00 %" if result.votes else "-"
    rows = {"(tied)": ["", "", "", "", str(result.tied_samples), ""]} if result.tied_samples else {}
    rows["Total"] = [str(result.votes), share, "", "", str(result.voted_samples), ""]
    # Not by their names, which can be those of methods.
    further = pd.DataFrame(rows.values(), list(rows), cells.columns)
    return pd.concat([cells, further]).rename_axis("Method")


def _aligned(cells: "pd.DataFrame") -> str:
    """Names to the left, cells to the right."""
    frame = cells.rename(columns=" {}".format)
    text = frame.rename_axis(None).rename_axis(cells.index.name, axis="columns").to_string()
    return "\n".join(line.rstrip() for line in text.splitlines())


def _markdown(cells: "pd.DataFrame") -> str:
    table = cells.rename(index=lambda name: name.replace("|", "\\|")).reset_index()
    lines = [table.columns, ["---", *["---:"] * len(cells.columns)], *table.to_numpy()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
