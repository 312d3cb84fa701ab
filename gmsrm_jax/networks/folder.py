"""An exported network: a folder of config.json, model.safetensors, README.md and SHA256SUMS.

Graph files can be beside them.

Weights are stored as safetensors, which holds numbers only: nothing is executed when it is read.
Its reader notices a truncated file but not a changed bit, so SHA256SUMS is checked first.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util
from ml_collections import ConfigDict

from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Method, Variables
from gmsrm_jax.methods.filler import Filler
from gmsrm_jax.methods.variables import variable_shapes, weights_sha256
from gmsrm_jax.networks.card import (
    CARD_FILE,
    ONNX_FILE,
    STABLEHLO_FILE,
    card_text,
    checked_facts,
)
from gmsrm_jax.networks.fields import (
    CONFIG_FILE,
    DTYPES,
    MAX_CONFIG_BYTES,
    config_text,
    network_config,
    parse_config,
)
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import replacing, user_path
from gmsrm_jax.runtime.sha256sums import (
    MAX_SUMS_BYTES,
    SUMS_FILE,
    check_sum,
    parse_sums,
    read_limited,
    sums_text,
)

MODEL_FILE = "model.safetensors"
# Format version 1 stored the parameters of this network alone, without its name.
_FIRST_NETWORK = "network"
# What safetensors may add to the numbers: names, shapes, offsets.
_MAX_HEADER_BYTES = 1 << 24
EXPORTED_FILES = (CONFIG_FILE, MODEL_FILE, CARD_FILE, SUMS_FILE)
_OURS = {*EXPORTED_FILES, STABLEHLO_FILE, ONNX_FILE}


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A trained network, ready to fill holes.

    Attributes:
        config: the network's fields over the defaults of all others, locked.
        variables: its weights and statistics, nested dicts of float32 arrays.
        sha256: `weights_sha256` of them, the same for a workdir and its export as float32.
        source: where they were read from, for people.
        facts: what is known of the training, see `card.FACTS`.
    """

    config: ConfigDict
    variables: Variables
    sha256: str
    source: str
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def method(self) -> Method:
        """How it fills."""
        return METHODS[self.config.method]

    def filler(self, **options: Any) -> Filler:
        """The network, ready to be applied; see `Filler` for the options."""
        return Filler(self.method, self.config, self.variables, **options)


def pretrained(
    config: ConfigDict,
    variables: Variables,
    source: str,
    facts: Mapping[str, str] | None = None,
) -> Pretrained:
    """A network from any config that holds its fields and from its variables, on any device."""
    host = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), variables)
    return Pretrained(
        network_config(config), host, weights_sha256(host), source, checked_facts(facts or {})
    )


def rounded(network: Pretrained, dtype: str) -> Pretrained:
    """The network as it will be read back when its weights are stored as `dtype`.

    Raises:
        UserError: a weight is not finite, or too large for float16.
    """
    if dtype not in DTYPES:
        raise UserError(f"weights can be stored as {' or '.join(DTYPES)}, not as {dtype!r}")
    flat = traverse_util.flatten_dict(network.variables, sep="/")
    with np.errstate(over="ignore"):
        stored = {name: np.asarray(leaf, dtype).astype(np.float32) for name, leaf in flat.items()}
    for name, leaf in stored.items():
        if not np.isfinite(leaf).all():
            raise UserError(
                f"{network.source}: {name} holds values that are not finite as {dtype}; store "
                "them as float32, or train again if they are not finite there either"
            )
    variables = traverse_util.unflatten_dict(stored, sep="/")
    return dataclasses.replace(network, variables=variables, sha256=weights_sha256(variables))


def save_pretrained(
    folder: str | os.PathLike[str],
    network: Pretrained,
    dtype: str = "float32",
    card_facts: Mapping[str, str] | None = None,
    overwrite: bool = False,
    extra_files: Mapping[str, bytes] | None = None,
    extra_notes: Sequence[str] = (),
) -> None:
    """Writes an exported folder: all of it, or nothing.

    Args:
        folder: to write; it must not exist yet, or be empty.
        network: what to write.
        dtype: of the stored weights, "float32" (exact) or "float16" (half the size).
        card_facts: facts for the model card besides those that the network brings; those given
            here win. See `card.FACTS`.
        overwrite: replace a folder that holds nothing but an exported network.
        extra_files: STABLEHLO_FILE, ONNX_FILE and their contents.
        extra_notes: lines for the card about the files.

    Raises:
        UserError: the folder is in the way or cannot be written, or a fact is unknown.
    """
    if not isinstance(folder, str | os.PathLike):
        raise UserError(f"folder: {folder!r}; give the path of a folder to write")
    target = user_path(folder, "folder").absolute()
    check_target(target, overwrite)
    facts = checked_facts({**network.facts, **(card_facts or {})})
    stored = rounded(network, dtype)
    flat = traverse_util.flatten_dict(stored.variables, sep="/")
    arrays = {name: np.asarray(leaf, dtype, order="C") for name, leaf in sorted(flat.items())}
    extra = dict(extra_files or {})
    files = {
        CONFIG_FILE: config_text(network.config, dtype, facts),
        MODEL_FILE: safetensors.numpy.save(arrays, metadata={"format": "gmsrm-jax"}),
        CARD_FILE: card_text(
            stored.method,
            stored.config,
            stored.variables,
            stored.sha256,
            dtype,
            facts,
            extra,
            extra_notes,
        ),
        **extra,
    }
    files[SUMS_FILE] = sums_text(files)
    try:
        with replacing(target) as made:
            made.mkdir()
            for name, data in files.items():
                (made / name).write_bytes(data)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error})") from error


def check_target(target: pathlib.Path, overwrite: bool) -> None:
    """Checks, before long work, that an exported folder may be written here.

    Args:
        target: the folder.
        overwrite: whether an exported folder there may be replaced.

    Raises:
        UserError: something is in the way.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise UserError(f"{target}: is a file; name a folder that does not exist yet")
    there = {path.name for path in target.iterdir()}
    if there and not overwrite:
        raise UserError(
            f"{target}: exists already; name another folder, or pass --overwrite (overwrite=True)"
        )
    # A README.md alone, say, is anybody's; every exported folder has its sums.
    ours = _OURS if SUMS_FILE in there else set()
    foreign = ", ".join(sorted(there - ours))[:200]
    if foreign:
        raise UserError(
            f"{target}: holds {foreign}, which is no part of an exported network and would be "
            "lost; name another folder"
        )


def read_folder(folder: pathlib.Path, source: str, cure: str) -> Pretrained:
    """Reads an exported folder after checking the sums of what it reads, configuration and weights.

    The card, which people edit where they publish it, its figures and the graph files are not
    looked at.

    Args:
        folder: to read.
        source: what people call it.
        cure: what to do when a file is missing or damaged.

    Raises:
        UserError: a file is missing, damaged, foreign or of another version, or a weight is
            missing, unknown, of another shape or type, or not finite.
    """
    sums_path = folder / SUMS_FILE
    sums = parse_sums(read_limited(sums_path, MAX_SUMS_BYTES, cure), str(sums_path), cure)

    def checked(name: str, limit: int) -> bytes:
        data = read_limited(folder / name, limit, cure)
        check_sum(data, name, sums, str(folder), cure)
        return data

    text = checked(CONFIG_FILE, MAX_CONFIG_BYTES)
    config, version, dtype, facts = parse_config(text, str(folder / CONFIG_FILE), cure)
    tree: Any = variable_shapes(METHODS[config.method], config)
    first = f"{_FIRST_NETWORK}/params/" if version == 1 else ""
    if version == 1:
        tree = tree[_FIRST_NETWORK]["params"]
    shapes = traverse_util.flatten_dict(tree, sep="/")

    def gone(name: str) -> bool:
        return METHODS[config.method].gone(tuple(f"{first}{name}".split("/")))

    numbers = sum(leaf.size for leaf in shapes.values())
    limit = numbers * np.dtype(dtype).itemsize + _MAX_HEADER_BYTES
    data = checked(MODEL_FILE, limit)
    arrays = _parse_weights(data, shapes, gone, dtype, str(folder / MODEL_FILE), cure)
    # Of everything that is stored and, of version 1, by those names: as the card says.
    sha256 = weights_sha256(traverse_util.unflatten_dict(arrays, sep="/"))
    arrays = {name: array for name, array in arrays.items() if name in shapes}
    variables = traverse_util.unflatten_dict(arrays, sep="/")
    if version == 1:
        variables = {_FIRST_NETWORK: {"params": variables}}
    return Pretrained(config, variables, sha256, source, facts)


def _parse_weights(
    data: bytes,
    shapes: Mapping[str, Any],
    gone: Callable[[str], bool],
    dtype: str,
    where: str,
    cure: str,
) -> dict[str, np.ndarray]:
    """The weights by name as float32; exactly those of `shapes`, and what is `gone` since."""
    try:
        stored = dict(safetensors.deserialize(data))
    except safetensors.SafetensorError as error:
        raise UserError(f"{where}: not a safetensors file ({error}); {cure}") from error
    missing = ", ".join(sorted(shapes.keys() - stored.keys())[:3])
    if missing:
        raise UserError(f"{where}: lacks {missing}, which {CONFIG_FILE} asks for; {cure}")
    others = sorted(stored.keys() - shapes.keys())
    unknown = ", ".join([name for name in others if not gone(name)][:3])
    if unknown:
        raise UserError(f"{where}: holds {unknown}, unknown to {CONFIG_FILE}; {cure}")
    code = {"float32": "F32", "float16": "F16"}[dtype]
    arrays = {}
    for name, tensor in sorted(stored.items()):
        shape = shapes[name].shape if name in shapes else tuple(tensor["shape"])
        if tensor["dtype"] != code or tuple(tensor["shape"]) != shape:
            raise UserError(
                f"{where}: {name} is {tensor['dtype']} {list(tensor['shape'])} instead of {code} "
                f"{list(shape)}; {cure}"
            )
        array = np.frombuffer(tensor["data"], np.dtype(dtype).newbyteorder("<"))
        arrays[name] = array.astype(np.float32).reshape(shape)
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"{where}: {name} holds NaN or infinity; {cure}")
    return arrays
