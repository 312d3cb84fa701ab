"""The subcommands of `gmsrm`: one module each, with `add_parser(subparsers)` and `run(args)`."""

import argparse
from typing import Any, Protocol


class Subparsers(Protocol):
    """What `ArgumentParser.add_subparsers` returns, as far as the subcommands use it."""

    def add_parser(self, name: str, **kwargs: Any) -> argparse.ArgumentParser:
        """Adds a subcommand and returns its parser."""
