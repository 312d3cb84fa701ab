"""README.md of an exported folder, the model card: what the network is, does, and is not for.

The front matter and headings are those that the Hugging Face Hub shows.
"""

from collections.abc import Collection, Mapping, Sequence

from ml_collections import ConfigDict

import gmsrm_jax
from gmsrm_jax.methods.base import Method, Variables
from gmsrm_jax.methods.variables import count_parameters
from gmsrm_jax.runtime.errors import UserError

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
        if len(text) > _MAX_FACT:
            raise UserError(f"the fact {name} has {len(text)} characters; use {_MAX_FACT} at most")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"the fact {name} is not UTF-8 ({ascii(text)[:80]}); write it anew"
            ) from error
    return {name: facts[name].strip() for name in FACTS if facts.get(name, "").strip()}


def card_text(
    method: Method,
    config: ConfigDict,
    variables: Variables,
    sha256: str,
    dtype: str,
    facts: Mapping[str, str],
    others: Collection[str],
    notes: Sequence[str] = (),
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
    # Markdown is no HTML: `cell` escapes instead of the package.
    jinja = jinja2.Environment(
        loader=jinja2.PackageLoader("gmsrm_jax", "networks"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters["cell"] = _cell
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
    )
    return text.encode()


def _cell(text: str) -> str:
    """Text for one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
