"""README.md of an exported folder, the model card: what the network is, does, and is not for.

The front matter and headings are those that the Hugging Face Hub shows. Its figures are PNG files
beside it.
"""

import io
import re
from collections.abc import Collection, Mapping, Sequence

from ml_collections import ConfigDict
from PIL import Image

import gmsrm_jax
from gmsrm_jax.methods.base import Method, Variables
from gmsrm_jax.methods.variables import count_parameters
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.unreadable import UNREADABLE

CARD_FILE = "README.md"
STABLEHLO_FILE, ONNX_FILE = "model.stablehlo", "model.onnx"
# What the maker of a network can tell, and how the card calls it.
FACTS = {
    "data": "Training pictures",
    "data_licence": "Licence of the pictures",
    "licence": "Licence of the weights",
    "code": "Code",
    "steps": "Training steps",
    "hardware": "Hardware",
    "time": "Training time",
    "limits": "Known limits",
    "table": "Scores",
    "notes": "Notes on the training",
}
_MAX_FACT = 20_000
FIGURE_SUFFIX = ".png"
MAX_FIGURE_BYTES = 4 << 20
_MAX_FIGURES = 20
_MAX_CAPTION = 500
# SHA256SUMS has to be able to list it.
_FIGURE_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{,95}}{re.escape(FIGURE_SUFFIX)}")
# What Markdown interprets anywhere in a line, and behind the digits, if any, that begin one.
_SIGN = re.compile(r"[\\`*_\[\]<>&|~$]")
_FIRST_SIGN = re.compile(r"(\d*)([-+#.)])")
_TABLE_FACTS = ("data", "data_licence", "licence", "code", "steps", "hardware", "time")


def checked_facts(facts: Mapping[str, str]) -> dict[str, str]:
    """The facts as given, in the order of FACTS, without empty ones.

    Raises:
        UserError: a name is none of FACTS, or a text is not UTF-8 or longer than 20,000
            characters.
    """
    for name, text in facts.items():
        if name not in FACTS:
            raise UserError(f"{name[:60]!r} is no fact of a model card; use: {', '.join(FACTS)}")
        _check_text(text, f"the fact {name}", _MAX_FACT)
    return {name: facts[name].strip() for name in FACTS if facts.get(name, "").strip()}


def checked_figures(figures: Mapping[str, tuple[bytes, str]]) -> dict[str, tuple[bytes, str]]:
    """The figures as given, each caption on one line.

    Args:
        figures: contents of a PNG file and caption, plain text, by file name: letters, digits, -
            and _, a letter or digit first, and .png, of 100 characters at most.

    Raises:
        UserError: there are more than 20; a name is another; a file is no PNG, damaged or larger
            than 4 MiB; or a caption is empty, not UTF-8 or longer than 500 characters.
    """
    if len(figures) > _MAX_FIGURES:
        raise UserError(
            f"{len(figures)} figures are given, and a card holds {_MAX_FIGURES} at most; leave "
            "some out"
        )
    checked = {}
    for name, (data, text) in figures.items():
        if not _FIGURE_NAME.fullmatch(name):
            raise UserError(
                f"{name[:120]!r}: a figure has a name of letters, digits, - and _, a letter or "
                f"digit first, that ends in {FIGURE_SUFFIX}, of 100 characters at most; rename it"
            )
        if len(data) > MAX_FIGURE_BYTES:
            raise UserError(
                f"{name}: has {len(data)} bytes, and a figure has {MAX_FIGURE_BYTES} at most; "
                "make it smaller"
            )
        try:
            with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
                picture.verify()
        except UNREADABLE as error:
            raise UserError(
                f"{name}: is no PNG file that can be read; save the figure again as PNG"
            ) from error
        caption = " ".join(text.split())
        if not caption:
            raise UserError(f"{name}: has no caption; say in a line what the figure shows")
        _check_text(caption, f"the caption of {name}", _MAX_CAPTION)
        checked[name] = data, caption
    return checked


def _check_text(text: str, what: str, most: int) -> None:
    if len(text) > most:
        raise UserError(f"{what} has {len(text)} characters; use {most} at most")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what} is not UTF-8 ({ascii(text)[:80]}); write it anew") from error


def card_text(
    method: Method,
    config: ConfigDict,
    variables: Variables,
    sha256: str,
    dtype: str,
    facts: Mapping[str, str],
    others: Collection[str],
    notes: Sequence[str] = (),
    captions: Mapping[str, str] | None = None,
) -> bytes:
    """The card's Markdown, card.md.j2 filled in.

    Args:
        method: of the network.
        config: of the network.
        variables: its weights and statistics.
        sha256: `weights_sha256` of them.
        dtype: as which they are stored.
        facts: `checked_facts`; what is not among them is said to be unknown, but for `notes`,
            which then has no heading.
        others: names of further files in the folder, graph files.
        notes: lines about the files.
        captions: of the figures, by file name, see `checked_figures`.
    """
    # Here, for whoever reads a network writes no card.
    import jinja2

    size, numbers = config.image_size, sum(count_parameters(method, config, variables))
    variant = (
        {"Variant": f"{config.variant} ({method.row(config).title})"} if method.variants else {}
    )
    rows = {
        "Size": f"{size}×{size} pixels; larger pictures are filled in parts or resized",
        **variant,
        "Parameters": f"{numbers:,}, stored as {dtype}",
        "Weights": f"SHA-256 {sha256}",
        **{FACTS[name]: facts.get(name, "not known") for name in _TABLE_FACTS},
    }
    # Markdown is no HTML: `cell` and `plain` escape instead of the package.
    jinja = jinja2.Environment(
        loader=jinja2.PackageLoader("gmsrm_jax", "networks"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters.update(cell=_cell, plain=_plain)
    text = jinja.get_template("card.md.j2").render(
        title=method.title,
        about=method.about,
        version=gmsrm_jax.__version__,
        size=size,
        rows=rows,
        facts={name: facts.get(name) for name in FACTS},
        notes=notes,
        graphs=others,
        noise="zeros for the mean filling" if method.noise_shapes(config) else "none here",
        captions=captions,
    )
    return text.encode()


def _plain(text: str) -> str:
    """One line of text as Markdown that shows it as it is."""
    text = _SIGN.sub(r"\\\g<0>", text)
    first = _FIRST_SIGN.match(text)
    return f"{first[1]}\\{text[first.end(1) :]}" if first else text


def _cell(text: str) -> str:
    """Text for one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
