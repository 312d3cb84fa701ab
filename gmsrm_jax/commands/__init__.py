"""The subcommands of `gmsrm`: one module each, with `add_parser(subparsers)` and `run(args)`.

What a module's docstring says is what `--help` prints.
"""

import argparse
from collections.abc import Callable
from typing import Any, Protocol


class Subparsers(Protocol):
    """What `ArgumentParser.add_subparsers` returns, as far as the subcommands use it."""

    def add_parser(self, name: str, **kwargs: Any) -> argparse.ArgumentParser:
        """Adds a subcommand and returns its parser."""


def add_command(
    subparsers: Subparsers,
    name: str,
    doc: str | None,
    run: Callable[[argparse.Namespace], int | None],
) -> argparse.ArgumentParser:
    """Adds a subcommand that is described by a docstring.

    Its first line is the help beside those of other commands, after a colon if it has one; the next
    paragraph is the description, and a third stands below the options.
    """
    paragraphs = [" ".join(part.split()) for part in (doc or "").split("\n\n")]
    title, about, below = [*paragraphs, "", ""][:3]
    summary = (title.partition(": ")[2] or title[:1].lower() + title[1:]).rstrip(".")
    parser = subparsers.add_parser(
        name, help=summary.replace("%", "%%"), description=about or title, epilog=below
    )
    parser.set_defaults(run=run)
    return parser
