"""The config of a run: the fields that all methods share, and those of the methods beside them.

A config file in configs/ is an experiment card: it takes `base_config()`, changes what its
experiment needs, and returns `apply_argument(config, argument)`. Lengths are counted in pictures;
every number is resolved once and never reinterpreted later.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from ml_collections import ConfigDict

from gmsrm_jax.data.fields import Data, Masks
from gmsrm_jax.methods import CLASSICAL, DEFAULT, METHODS
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.fields import PowerOfTwo, Section, setting

RUNLOCAL = "runlocal"
UNTRAINED = "untrained"


def _trained(name: str) -> str:
    known = [name for name, method in METHODS.items() if method.stages is not None]
    if name not in known:
        raise ValueError(f"use one of: {', '.join(known)}")
    return name


def _baseline(name: str) -> str:
    known = (UNTRAINED, *CLASSICAL)
    if name not in known:
        raise ValueError(f"use any of: {', '.join(known)}")
    return name


def _prediction(word: str) -> str:
    if not all(word.partition("=")):
        raise ValueError("write NAME=DIR")
    return word


class Run(Section):
    """The fields at the top of a config."""

    name: str = setting("", "names the default workdir, runs/<name>", free=True)
    method: Annotated[str, pydantic.AfterValidator(_trained)] = setting(
        DEFAULT, "what is trained, see gmsrm_jax.methods.METHODS"
    )
    variant: str = setting(DEFAULT, "of a method that has several (Table IV), else empty")
    image_size: PowerOfTwo = setting(256, "side of the pictures [px]", ge=32, le=4096, local=32)
    batch_size: int = setting(
        8, "pictures of a step, over all devices (of GM-SRM's stage 2)", gt=0, local=8
    )
    accumulation: int = setting(
        1, "micro-batches of a step, for cards with little memory, see nn/accumulation.py", gt=0
    )
    seed: int = setting(0, "everything random is a function of it", ge=0)
    log_every: int = setting(50, "steps between two lines of the log", gt=0, local=4, free=True)
    tensorboard: bool = setting(
        True, "scalars and panels through clu; the JSON lines are always written", free=True
    )
    matmul_precision: Literal["default", "high", "highest"] = setting(
        "default", "jax_default_matmul_precision"
    )
    compute_dtype: Literal["float32", "bfloat16"] = setting(
        "float32",
        "feature maps in training, see nn/layers.py; weights, optimizers, averages, losses, "
        "regularisers, validation and evaluation stay in float32",
    )
    max_skipped_updates: int = setting(
        0, "updates in a row left out because a loss is not finite; 0: stop", ge=0, free=True
    )
    xla_optimization_level: int = setting(
        3, "of LLVM; 1 compiles faster, for short CPU runs", ge=0, le=3, local=1
    )


class Evaluation(Section):
    """What is scored after the training, and how."""

    masks: str = setting(
        "generated", "generated, bundled, a mask list *.npz, a mask folder", local="generated"
    )
    invert_masks: bool = setting(False, "black is the hole in a mask folder", local=False)
    seed: int = setting(0, "of the mask assignment and of the noise", ge=0)
    noise: Literal["sampled", "mean", "both"] = setting(
        "sampled", "of a method that draws; mean: ε = 0; both: a row of each"
    )
    samples: int = setting(
        1, "fillings of each hole that are scored; the first is in the tables", gt=0
    )
    baselines: tuple[Annotated[str, pydantic.AfterValidator(_baseline)], ...] = setting(
        (UNTRAINED, "mean"), "rows beside the method; telea, ns, biharmonic, patchmatch need [eval]"
    )
    predictions: tuple[Annotated[str, pydantic.AfterValidator(_prediction)], ...] = setting(
        (), "NAME=DIR: pictures filled by another program"
    )
    perceptual: tuple[Literal["vgg_hole", "lpips_vgg", "lpips_alex", "fid"], ...] = setting(
        (), "measures on features; fid comes with P-IDS and U-IDS"
    )
    weights: str = setting("weights", "folder of what these need, see `gmsrm convert`")
    dataset: str = setting(
        "test pictures",
        "its name in tables; a name of the paper brings its rows",
        local="test pictures",
    )
    figure_pictures: tuple[str, ...] = setting(
        (), "names of the pictures in figures; empty: drawn by the seed"
    )
    batch_size: int = setting(16, "holes at once", gt=0, local=8)
    max_images: int = setting(0, "pictures scored; 0: all of the test set", ge=0, local=8)
    panel_rows: int = setting(8, "rows of pictures in the report", ge=0)


_SHARED: dict[str, type[Section]] = {"data": Data, "masks": Masks, "evaluation": Evaluation}


def sections(method: str | None = None) -> dict[str, type[Section]]:
    """The sections of a config by name: the shared ones and those of a method, None for of all."""
    own = METHODS.values() if method is None else [METHODS[method]]
    return {**_SHARED, **{name: s for m in own for name, s in m.sections.items()}}


def base_config(method: str | None = None) -> ConfigDict:
    """Every field with its default: the paper's setting, or design's where papers are silent.

    Args:
        method: whose sections it has; None for all of them, as a card needs that leaves the choice
            to its argument.
    """
    config = ConfigDict(Run.defaults())
    for name, section in sections(method).items():
        config[name] = ConfigDict(section.defaults())
    if method is not None:
        _choose(config, method)
    return config


def apply_argument(config: ConfigDict, argument: str | None) -> ConfigDict:
    """Applies what stands behind the colon of --config=FILE:ARGUMENT, and locks the fields.

    Args:
        config: the experiment's config.
        argument: words joined by commas, in any order: a method (pconv), a variant of it (gm_csv),
            "runlocal".

    Raises:
        UserError: a word that is none of these, or two methods or two variants.
    """
    words = [word for word in (argument or "").split(",") if word]
    trained = [name for name, method in METHODS.items() if method.stages is not None]
    methods = [word for word in words if word in trained]
    _check_one("methods", methods)
    for word in methods:
        _choose(config, word)
    variants = METHODS[config.method].variants
    rest = [word for word in words if word not in (*trained, RUNLOCAL)]
    for word in rest:
        if word not in variants:
            known = ", ".join(dict.fromkeys([*trained, *variants, RUNLOCAL]))
            raise UserError(
                f"config argument {word!r} is no method and no variant of {config.method}; use one "
                f"of: {known}"
            )
        config.variant = word
    _check_one("variants", rest)
    config.name = "-".join([config.name, *words])
    for name in set(sections()) - set(sections(config.method)):
        if name in config:
            del config[name]
    if RUNLOCAL in words:
        _shrink(config)
    return config.lock()


def flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields as one dict with dotted names, tuples as lists."""
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def set_fields(config: ConfigDict, fields: Mapping[str, Any]) -> None:
    """Sets fields as `flatten` gives them, lists as tuples; `check_config` refuses wrong types."""
    with config.ignore_type():
        for key, value in fields.items():
            section, _, name = key.rpartition(".")
            room = config[section] if section else config
            room[name] = tuple(value) if isinstance(value, list) else value


def _check_one(kind: str, words: list[str]) -> None:
    if len(set(words)) > 1:
        raise UserError(f"config argument names the {kind} {' and '.join(words)}; use one of them")


def _choose(config: ConfigDict, method: str) -> None:
    """Makes a method the config's, with its own defaults of the shared fields."""
    chosen = METHODS[method]
    config.method = method
    config.variant = method if method in chosen.variants else next(iter(chosen.variants), "")
    set_fields(config, chosen.shared)


def _shrink(config: ConfigDict) -> None:
    """Shrinks a config to a minute on a CPU, on the bundled photographs at 32 px."""
    config.update(Run.local())
    for name, section in sections(config.method).items():
        config[name].update(section.local())
