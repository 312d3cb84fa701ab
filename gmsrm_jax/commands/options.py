"""What subcommands share: numbers, outputs, options of a section, which network runs where."""

import argparse
import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gmsrm_jax.commands import FIELD, Parser
from gmsrm_jax.data.bad_pictures import printable
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.fields import Section, choices
from gmsrm_jax.runtime.shares import Join, Share, read_share

if TYPE_CHECKING:
    from gmsrm_jax.inference.inpainter import Inpainter

_Section = TypeVar("_Section", bound=Section)


def add_fields(parser: Parser, what: str = "a field of the config") -> None:
    """Adds --config.FIELD=VALUE, for `change_fields`: a list of FIELD=VALUE as `set`."""
    parser.takes_fields = True
    parser.add_argument(
        FIELD,
        dest="set",
        action="append",
        default=[],
        metavar="VALUE",
        help=f"change {what}, such as --config.data.test=DIR; can be repeated",
    )


def whole(least: int, most: int = 2**63 - 1) -> Callable[[str], int]:
    """Returns argparse's type of whole numbers from `least` to `most`."""
    span = f"from {least}" + (f" to {most}" if most < 2**63 - 1 else "")

    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number {span}")
        return int(text)

    return number


@contextlib.contextmanager
def writing(path: str | Path, option: str) -> Iterator[None]:
    """Makes an OSError within a UserError that names the path and the option to change."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{printable(str(path))}: cannot be written ({error.strerror}); change {option}"
        ) from error


def try_folder(folder: Path) -> None:
    """Makes a folder and writes to it, before a long work whose result goes there.

    Raises:
        OSError: that cannot be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


def add_section(parser: argparse.ArgumentParser, section: type[Section]) -> None:
    """Adds an option for each field: words, a number, or a flag for a bool that is False."""
    for name, field in section.model_fields.items():
        words = choices(section, name)
        if field.annotation is bool:
            details: dict[str, Any] = {"action": "store_true"}
        elif words:
            details = {"choices": words}
        else:
            details = {"type": functools.partial(_number, section, name), "metavar": "N"}
        meaning = str(field.description).replace("%", "%%")
        if field.default is not None and field.annotation is not bool:
            meaning += " (default: %(default)s)"
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, default=field.default, help=meaning, **details)


def section_of(args: argparse.Namespace, section: type[_Section]) -> _Section:
    """Returns the section that the options of `add_section` say.

    Raises:
        UserError: fields that are right alone do not fit together.
    """
    return section.checked({name: getattr(args, name) for name in section.model_fields})


def _number(section: type[Section], name: str, text: str) -> Any:
    value: Any = text
    with contextlib.suppress(ValueError):
        value = int(text)
    try:
        return getattr(section.checked({name: value}), name)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_network(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `load_inpainter` reads."""
    add_checkpoint(parser)
    add_device(parser)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds --checkpoint, which says what `networks.load_pretrained` loads."""
    parser.add_argument(
        "--checkpoint",
        metavar="NAME|DIR",
        help="weights: a name, an exported folder, the workdir of a training or org/name of the"
        " Hugging Face Hub (default: photos-128, bundled)",
    )


def add_offline(parser: argparse.ArgumentParser) -> None:
    """Adds --offline."""
    parser.add_argument("--offline", action="store_true", help="download no weights")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds --offline and --device, which say how and where weights are loaded."""
    add_offline(parser)
    parser.add_argument(
        "--device",
        default="auto",
        choices=["auto", "cpu", "gpu", "tpu"],
        help="where the network runs (default: %(default)s)",
    )


def add_address(parser: argparse.ArgumentParser, port: int, remote: str) -> None:
    """Adds --host, --port and --allow-remote; `remote` says what the last one does."""
    add = parser.add_argument
    shown = "(default: %(default)s)"
    add("--host", default="127.0.0.1", metavar="ADDRESS", help=f"address to listen on {shown}")
    add("--port", type=whole(0, 65535), default=port, metavar="N", help=f"0: any free one {shown}")
    add("--allow-remote", action="store_true", help=f"{remote} Traffic is not encrypted.")


def add_shares(parser: argparse.ArgumentParser) -> None:
    """Adds --shard and --join, which `share_of` reads."""
    shares = parser.add_mutually_exclusive_group()
    shares.add_argument(
        "--shard",
        metavar="I/N",
        help="do only share I of N, from 0 to N-1; auto takes both from a SLURM array, auto/N the"
        " share from that or an indexed Kubernetes job",
    )
    shares.add_argument(
        "--join",
        type=whole(1),
        metavar="N",
        help="do nothing but put together what N shares did, with otherwise the same options",
    )


def share_of(args: argparse.Namespace) -> Share | Join | None:
    """What --shard or --join names, None without them.

    Raises:
        UserError: there is no such share.
    """
    if args.join:
        return Join(args.join)
    return None if args.shard is None else read_share(args.shard)


def load_inpainter(args: argparse.Namespace) -> "Inpainter":
    """Loads the network that the options name; JAX is imported and set up for it."""
    from gmsrm_jax.inference.inpainter import Inpainter
    from gmsrm_jax.runtime.jax_setup import set_up_jax

    set_up_jax("default", args.device)
    return Inpainter.from_pretrained(args.checkpoint, device=args.device, offline=args.offline)
