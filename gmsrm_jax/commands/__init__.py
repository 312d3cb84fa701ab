"""The subcommands of `gmsrm`: one module each, with `add_parser(subparsers)` and `run(args)`.

What a module's docstring says is what `--help` prints.
"""

import argparse
import re
import sys
from collections.abc import Callable
from typing import Any, Protocol

FIELD = "--config.FIELD"


class Parser(argparse.ArgumentParser):
    """A parser, and the parsers of its subcommands, that take no abbreviated options.

    Attributes:
        takes_fields: fields of a config are changed as in `gmsrm_jax.main`, by --config.NAME=VALUE.
    """

    takes_fields = False

    def __init__(self, **kwargs: Any):
        """See `argparse.ArgumentParser`."""
        super().__init__(**{"allow_abbrev": False, **kwargs})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses as argparse does, with each NAME=VALUE as a value of --config.FIELD."""
        words = sys.argv[1:] if args is None else args
        if self.takes_fields:
            words = [re.sub(r"^--config\.(?=[a-z])", f"{FIELD}=", word) for word in words]
        return super().parse_known_args(words, namespace)


class Subparsers(Protocol):
    """What `ArgumentParser.add_subparsers` returns, as far as the subcommands use it."""

    def add_parser(self, name: str, **kwargs: Any) -> Parser:
        """Adds a subcommand and returns its parser."""


def add_command(
    subparsers: Subparsers,
    name: str,
    doc: str | None,
    run: Callable[[argparse.Namespace], int | None],
) -> Parser:
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
