"""Counts the votes of a study: the paper's Table III, and whether the place on the screen mattered.

The share of the vote is a method's share of all first places. A sample is won by the method with
the most first places on it; a sample on which several share that lead is tied, and won by none.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scipy.stats import binomtest

from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.study.presentation import LABELS
from gmsrm_jax.study.votes import Vote, Votes

_SHARE_HEAD = ("Method", "First places", "Share of the vote", "95 % interval")
_CSV_HEAD = (
    *("method", "first_places", "votes", "share", "share_low", "share_high"),
    *("winning_samples", "mean_rank"),
)
_NOTE = (
    "Share of the vote: first places. 95 % intervals: Wilson, each vote taken as independent of the"
    " others. A sample is won by the method with the most first places on it. Mean rank: 1 is best."
)


@dataclass(frozen=True)
class Share:
    """A share of the first places.

    Attributes:
        first_places: votes that put it first.
        share: first places by votes, in [0, 1]; None without votes.
        interval: lower and upper end of its 95 % Wilson interval; None without votes.
    """

    first_places: int
    share: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class MethodTally(Share):
    """A method's row.

    Attributes:
        winning_samples: samples on which it alone has the most first places.
        mean_rank: 1 is best; None without votes.
    """

    winning_samples: int
    mean_rank: float | None


@dataclass(frozen=True)
class SampleTally:
    """One sample's votes.

    Attributes:
        votes: votes on it.
        first_places: of each method.
        winner: the method with the most first places; None if tied, or without votes.
    """

    votes: int
    first_places: dict[str, int]
    winner: str | None


@dataclass(frozen=True)
class Tally:
    """A study's result.

    Attributes:
        votes: votes that count: the latest of each participant on each sample.
        participants: people who voted.
        replaced_votes: earlier votes, which do not count.
        voted_samples: samples with votes; the winning samples and the tied ones add up to them.
        tied_samples: samples on which several methods share the most first places.
        methods: rows by method; their first places add up to `votes`, their shares to 1.
        positions: first places by place on the screen, A first; if the place did not matter, each
            has a share of 1 / number of methods.
        samples: each sample's votes.
    """

    votes: int
    participants: int
    replaced_votes: int
    voted_samples: int
    tied_samples: int
    methods: dict[str, MethodTally]
    positions: dict[str, Share]
    samples: dict[str, SampleTally]


def tally(
    methods: Sequence[str], samples: Sequence[str], votes: Sequence[Vote], replaced_votes: int
) -> Tally:
    """Counts votes.

    Args:
        methods: names of the methods, in the order of the table.
        samples: names of all samples.
        votes: those that count, at most one of a participant on a sample.
        replaced_votes: number of those that do not.
    """
    firsts = Counter(vote.ranking[0] for vote in votes)
    places = Counter(vote.shown.index(vote.ranking[0]) for vote in votes)
    best_on: dict[str, list[str]] = {name: [] for name in samples}
    for vote in votes:
        best_on[vote.sample].append(vote.ranking[0])
    per_sample = {name: _sample(methods, best) for name, best in best_on.items()}
    wins = Counter(sample.winner for sample in per_sample.values())
    voted = sum(sample.votes > 0 for sample in per_sample.values())
    rows = {}
    for method in methods:
        ranks = [vote.ranking.index(method) + 1 for vote in votes]
        rows[method] = MethodTally(
            **asdict(_share(firsts[method], len(votes))),
            winning_samples=wins[method],
            mean_rank=sum(ranks) / len(ranks) if ranks else None,
        )
    return Tally(
        votes=len(votes),
        participants=len({vote.participant for vote in votes}),
        replaced_votes=replaced_votes,
        voted_samples=voted,
        tied_samples=voted - sum(wins[method] for method in methods),
        methods=rows,
        positions={LABELS[k]: _share(places[k], len(votes)) for k in range(len(methods))},
        samples=per_sample,
    )


def tally_study(votes: Votes) -> Tally:
    """Counts the votes of an open study."""
    return tally(votes.methods, votes.samples, votes.latest(), votes.replaced())


def format_tally(result: Tally) -> str:
    """Returns the tables as text for a terminal, without a final newline."""
    places = [[f"place {name}", *_share_cells(row)] for name, row in result.positions.items()]
    blocks = [
        _summary(result),
        _columns(_method_rows(result)),
        f"First places by place on the screen; {_expected(result)}:\n"
        + _columns([["", *_SHARE_HEAD[1:]], *places]),
        _NOTE,
    ]
    return "\n\n".join(blocks)


def write_tally(folder: Path, result: Tally) -> list[Path]:
    """Writes tally.json, tally.md and tally.csv, and returns their paths.

    Raises:
        OSError: they cannot be written.
    """
    texts = {
        "tally.json": json.dumps(asdict(result), indent=2, ensure_ascii=False) + "\n",
        "tally.md": _markdown(result),
        "tally.csv": _csv(result),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in texts]


def _sample(methods: Sequence[str], best: Sequence[str]) -> SampleTally:
    first_places = {method: best.count(method) for method in methods}
    most = max(first_places.values())
    leaders = [method for method, count in first_places.items() if count == most]
    return SampleTally(len(best), first_places, leaders[0] if len(leaders) == 1 else None)


def _share(successes: int, trials: int) -> Share:
    if not trials:
        return Share(0, None, None)
    low, high = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return Share(successes, successes / trials, (low, high))


def _summary(result: Tally) -> str:
    votes, people = _count(result.votes, "vote"), _count(result.participants, "participant")
    samples = f"{result.voted_samples} of {_count(len(result.samples), 'sample')}"
    parts = [f"{votes} of {people} on {samples}"]
    if result.replaced_votes:
        parts.append(f"{result.replaced_votes} replaced by later votes")
    return "; ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _expected(result: Tally) -> str:
    return f"{100 / len(result.positions):.2f} % each if it does not matter"


def _method_rows(result: Tally) -> list[list[str]]:
    """The table's cells: a heading, the methods, the tied samples, the total."""
    rows = [[*_SHARE_HEAD, "Winning samples", "Mean rank"]]
    for name, row in result.methods.items():
        rank = "-" if row.mean_rank is None else f"{row.mean_rank:.2f}"
        rows.append([name, *_share_cells(row), str(row.winning_samples), rank])
    if result.tied_samples:
        rows.append(["(tied)", "", "", "", str(result.tied_samples), ""])
    share = "100.00 %" if result.votes else "-"
    rows.append(["Total", str(result.votes), share, "", str(result.voted_samples), ""])
    return rows


def _share_cells(row: Share) -> list[str]:
    if row.share is None or row.interval is None:
        return [str(row.first_places), "-", "-"]
    low, high = (100 * end for end in row.interval)
    return [str(row.first_places), f"{100 * row.share:.2f} %", f"{low:.2f}-{high:.2f} %"]


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Aligns cells: the first column to the left, the others to the right."""
    import pandas as pd

    (first, *heads), *lines = rows
    heads = [f" {head}" for head in heads]
    frame = pd.DataFrame([line[1:] for line in lines], [line[0] for line in lines], heads)
    text = frame.rename_axis(first or None, axis="columns").to_string()
    return "\n".join(line.rstrip() for line in text.splitlines())


def _markdown(result: Tally) -> str:
    places = [[name, *_share_cells(row)] for name, row in result.positions.items()]
    return "\n".join(
        [
            "# User study\n",
            f"{_summary(result)}.\n",
            *_markdown_table(_method_rows(result)),
            f"\n{_NOTE}\n\n## First places by place on the screen\n",
            f"{_expected(result)}.\n",
            *_markdown_table([["Place", *_SHARE_HEAD[1:]], *places]),
            "",
        ]
    )


def _markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |" for cells in rows]
    lines.insert(1, "|---" + "|---:" * (len(rows[0]) - 1) + "|")
    return lines


def _csv(result: Tally) -> str:
    import pandas as pd

    rows = []
    for name, row in result.methods.items():
        numbers = [row.first_places, result.votes, row.share, *(row.interval or (None, None))]
        rows.append([name, *numbers, row.winning_samples, row.mean_rank])
    return pd.DataFrame(rows, columns=_CSV_HEAD).to_csv(index=False, lineterminator="\n")
