"""config.json of an exported folder: the few fields that the network's function depends on."""

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

import gmsrm_jax
from gmsrm_jax.config.checks import check_config
from gmsrm_jax.config.fields import base_config, flatten
from gmsrm_jax.networks.card import checked_facts
from gmsrm_jax.runtime.errors import UserError

CONFIG_FILE = "config.json"
MAX_CONFIG_BYTES = 1 << 20
DTYPES = ("float32", "float16")
NETWORK_FIELDS = (
    "image_size",
    "variant",
    "model.channel_base",
    "model.channel_max",
    "model.code_dim",
    "model.code_channels",
    "model.noise_statistics",
    "model.fusion_kernel",
    "model.stem_skip",
    "model.smooth_skip",
    "memory.code_source",
)
_FORMAT, _VERSION = "gmsrm-jax", 1
# Larger ones are not made by this program; a file that asks for them would only exhaust memory.
_LARGEST = {"image_size": 4096, "model.channel_base": 1 << 20, "model.channel_max": 1 << 16}
_LARGEST |= {"model.code_dim": 1 << 16, "model.code_channels": 1 << 16}


def network_config(config: ConfigDict) -> ConfigDict:
    """The default config with the network of another one; nothing of its training, locked."""
    flat = flatten(config.to_dict())
    return _with_fields({key: flat[key] for key in NETWORK_FIELDS})


def check_begin_from(config: ConfigDict, given: ConfigDict) -> None:
    """Checks that stage 2 can begin with the weights of a trained network.

    Args:
        config: of the run.
        given: of the network that config.inpainting.begin_from names.

    Raises:
        UserError: names the field that does not allow it, and both values.
    """
    ours, theirs = flatten(config.to_dict()), flatten(given.to_dict())
    for key in NETWORK_FIELDS:
        if ours[key] != theirs[key]:
            raise UserError(
                f"config.inpainting.begin_from: {config.inpainting.begin_from} has {key} = "
                f"{theirs[key]!r}, and this config {ours[key]!r}; use the same"
            )


def config_text(config: ConfigDict, dtype: str, facts: Mapping[str, str]) -> bytes:
    """The text of config.json.

    Args:
        config: of the network.
        dtype: of the weights, one of DTYPES.
        facts: about the training, see `card.FACTS`.
    """
    flat = flatten(config.to_dict())
    document = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "written_by": f"gmsrm-jax {gmsrm_jax.__version__}",
        "dtype": dtype,
        "network": {key: flat[key] for key in NETWORK_FIELDS},
        "facts": dict(facts),
    }
    return f"{json.dumps(document, indent=1, ensure_ascii=False)}\n".encode()


def parse_config(text: bytes, where: str, cure: str) -> tuple[ConfigDict, str, dict[str, str]]:
    """Reads the text of config.json.

    Returns:
        The network's config (`network_config`), the type of the weights, and the facts.

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
    if document.get("format_version") != _VERSION:
        raise UserError(
            f"{where}: format_version {document.get('format_version')!r}, and gmsrm-jax "
            f"{gmsrm_jax.__version__} reads {_VERSION}; use the version that wrote it "
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
    return _read_fields(document.get("network"), where, cure), document["dtype"], facts


def _read_fields(fields: Any, where: str, cure: str) -> ConfigDict:
    if not isinstance(fields, dict):
        raise UserError(f"{where}: has no fields of a network; {cure}")
    if fields.keys() != set(NETWORK_FIELDS):
        missing = ", ".join(sorted(set(NETWORK_FIELDS) - fields.keys())) or "nothing"
        unknown = ", ".join(sorted(fields.keys() - set(NETWORK_FIELDS)))[:200] or "nothing"
        raise UserError(f"{where}: lacks {missing} and has unknown {unknown}; {cure}")
    default = flatten(base_config().to_dict())
    for key, value in fields.items():
        kind = type(default[key])
        if type(value) is not kind:
            raise UserError(f"{where}: {key} = {value!r} is not of type {kind.__name__}; {cure}")
        if value > _LARGEST.get(key, value):
            raise UserError(f"{where}: {key} = {value} is above {_LARGEST[key]}; {cure}")
    try:
        return _with_fields(fields)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _with_fields(fields: Mapping[str, Any]) -> ConfigDict:
    config = base_config()
    for key, value in fields.items():
        section, _, name = key.rpartition(".")
        (config[section] if section else config)[name] = value
    check_config(config)
    return config.lock()
