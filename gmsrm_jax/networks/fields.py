"""config.json of an exported folder: the method, and the few fields that its filling depends on."""

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

import gmsrm_jax
from gmsrm_jax.config import base_config, check_config
from gmsrm_jax.config.fields import flatten, set_fields
from gmsrm_jax.methods import FIRST, METHODS
from gmsrm_jax.methods.base import Method
from gmsrm_jax.networks.card import checked_facts
from gmsrm_jax.runtime.errors import UserError

CONFIG_FILE = "config.json"
MAX_CONFIG_BYTES = 1 << 20
DTYPES = ("float32", "float16")
_SHARED = ("image_size", "variant")
_FORMAT, _VERSION = "gmsrm-jax", 2


def network_config(config: ConfigDict) -> ConfigDict:
    """The default config with the network of another one; nothing of its training, locked."""
    return _with_fields(METHODS[config.method], _network_fields(config))


def check_begin_from(config: ConfigDict, given: ConfigDict, field: str, name: str) -> None:
    """Checks that a stage can begin with the weights of a trained network.

    Args:
        config: of the run.
        given: of the network.
        field: that names it, for messages.
        name: of the network, for messages.

    Raises:
        UserError: names the field that does not allow it, and both values.
    """
    ours = {"method": config.method, **_network_fields(config)}
    theirs = {"method": given.method, **_network_fields(given)}
    for key, value in ours.items():
        if value != theirs.get(key):
            raise UserError(
                f"{field}: {name} has {key} = {theirs.get(key)!r}, and this config {value!r}; use "
                "the same"
            )


def config_text(config: ConfigDict, dtype: str, facts: Mapping[str, str]) -> bytes:
    """The text of config.json.

    Args:
        config: of the network.
        dtype: of the weights, one of DTYPES.
        facts: about the training, see `card.FACTS`.
    """
    document = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "written_by": f"gmsrm-jax {gmsrm_jax.__version__}",
        "dtype": dtype,
        "method": config.method,
        "fields": _network_fields(config),
        "facts": dict(facts),
    }
    return f"{json.dumps(document, indent=1, ensure_ascii=False)}\n".encode()


def parse_config(text: bytes, where: str, cure: str) -> tuple[ConfigDict, int, str, dict[str, str]]:
    """Reads the text of config.json.

    Returns:
        The network's config (`network_config`), the version of the format, the type of the weights,
        and the facts.

    Raises:
        UserError: another program's or version's file, or a field is missing, unknown, of another
            type or out of range.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is not JSON ({str(error)[:100]}); {cure}") from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        found = document.get("format") if isinstance(document, dict) else None
        raise UserError(
            f"{where}: not a network of this program (format {found!r}, not {_FORMAT!r}); name a "
            "folder that `gmsrm export` wrote"
        )
    version = document.get("format_version")
    if version not in (1, _VERSION):
        raise UserError(
            f"{where}: format_version {version!r}, and gmsrm-jax {gmsrm_jax.__version__} reads 1 "
            f"and {_VERSION}; use the version that wrote it "
            f"({str(document.get('written_by'))[:40]}) or export it again"
        )
    if document.get("dtype") not in DTYPES:
        raise UserError(f"{where}: dtype {document.get('dtype')!r} is none of {DTYPES}; {cure}")
    facts = document.get("facts", {})
    if not isinstance(facts, dict) or not all(isinstance(text, str) for text in facts.values()):
        raise UserError(f"{where}: facts are not texts by name; {cure}")
    try:
        facts = checked_facts(facts)
    except UserError as error:
        raise UserError(f"{where}: {error}; {cure}") from error
    method, fields = document.get("method"), document.get("fields")
    if version == 1:
        method, fields = FIRST, document.get("network")
    if not isinstance(method, str) or method not in METHODS or METHODS[method].stages is None:
        known = ", ".join(name for name, each in METHODS.items() if each.stages is not None)
        raise UserError(
            f"{where}: the method {str(method)[:40]!r} is unknown to gmsrm-jax "
            f"{gmsrm_jax.__version__}, which reads: {known}; use the version that wrote it "
            f"({str(document.get('written_by'))[:40]})"
        )
    config = _read_fields(METHODS[method], fields, where, cure)
    return config, version, document["dtype"], facts


def _network_fields(config: ConfigDict) -> dict[str, Any]:
    """The fields that the filling of a config's method depends on, by dotted name."""
    flat = flatten(config.to_dict())
    return {key: flat[key] for key in (*_SHARED, *METHODS[config.method].network_fields)}


def _read_fields(method: Method, fields: Any, where: str, cure: str) -> ConfigDict:
    if not isinstance(fields, dict):
        raise UserError(f"{where}: has no fields of a network; {cure}")
    known = {*_SHARED, *method.network_fields}
    fields = {**method.before, **fields}
    if fields.keys() != known:
        missing = ", ".join(sorted(known - fields.keys())) or "nothing"
        unknown = ", ".join(sorted(fields.keys() - known))[:200] or "nothing"
        raise UserError(f"{where}: lacks {missing} and has unknown {unknown}; {cure}")
    try:
        return _with_fields(method, fields)
    except UserError as error:
        raise UserError(f"{where}: {error}; {cure}") from error


def _with_fields(method: Method, fields: Mapping[str, Any]) -> ConfigDict:
    config = base_config(method.name)
    set_fields(config, fields)
    check_config(config)
    return config.lock()
