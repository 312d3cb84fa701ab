"""Typed sections of fields: type, default, range and meaning of each stand once, in one line.

A section is a class; its fields are made by `setting`:

    class Adversarial(Section):
        weight: float = setting(0.01, "λ3 of Eq. 14", ge=0)
        form: Literal["hinge", "logistic"] = setting("hinge", "of both losses")

`checked` is the only way from values of unknown origin (a config, a file, a request) to a section.
"""

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import pydantic

from gmsrm_jax.runtime.errors import UserError


def setting(
    default: Any,
    meaning: str,
    *,
    local: Any = None,
    free: bool = False,
    gt: float | None = None,
    ge: float | None = None,
    le: float | None = None,
) -> Any:
    """Declares a field of a section.

    Args:
        default: its value where nobody says another.
        meaning: one line for people; units where there are some.
        local: its value in a run of a minute on a CPU (`:runlocal`); None for the value it has.
        free: it may differ when a run goes on, for it does not change what is learned.
        gt: a number is above this.
        ge: a number is this or above.
        le: a number is this or below.
    """
    extra: Any = {"local": local, "free": free} if free or local is not None else None
    return pydantic.Field(
        default, description=meaning, json_schema_extra=extra, gt=gt, ge=ge, le=le
    )


class Section(pydantic.BaseModel):
    """Fields that are checked together; values are never cast but for an int in a float's place."""

    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Every field's default, by name, in the order of their declaration."""
        return {name: field.default for name, field in cls.model_fields.items()}

    @classmethod
    def local(cls) -> dict[str, Any]:
        """The fields that a run of a minute changes, and their values there."""
        noted = {name: _extra(field)["local"] for name, field in cls.model_fields.items()}
        return {name: value for name, value in noted.items() if value is not None}

    @classmethod
    def free(cls) -> set[str]:
        """Names of the fields that may differ when a run goes on."""
        return {name for name, field in cls.model_fields.items() if _extra(field)["free"]}

    @classmethod
    def checked(cls, values: Mapping[str, Any], prefix: str = "") -> Self:
        """The section with these values.

        Args:
            values: by field; those that are missing have their defaults.
            prefix: what stands before a field's name in messages, such as "config.memory.".

        Raises:
            UserError: a field is unknown, of another type or out of range; names it, its value and
                what it can be.
        """
        try:
            return cls.model_validate(dict(values))
        except pydantic.ValidationError as error:
            raise UserError(_described(cls, error.errors()[0], values, prefix)) from None


def _extra(field: Any) -> dict[str, Any]:
    return field.json_schema_extra or {"local": None, "free": False}


def _described(cls: type[Section], error: Any, values: Mapping[str, Any], prefix: str) -> str:
    """One line about the first wrong field."""
    kind, place = error["type"], error["loc"]
    message = str(error["msg"]).removeprefix("Value error, ")
    if not place:  # a check of several fields
        return f"{prefix.removesuffix('.')}: {message}" if prefix else message
    name = str(place[0])
    if kind == "extra_forbidden":
        return f"{prefix}{name}: no such field; use one of: {', '.join(cls.model_fields)}"
    value = values.get(name)
    shown = f"{prefix}{name} = {value!r}"
    of_one = len(place) > 1 and kind != "missing" and isinstance(value, tuple | list)
    if of_one:
        shown = f"{prefix}{name} names {error['input']!r}"
    if kind == "value_error":
        return f"{shown}; {message}"
    if kind == "literal_error":
        words = "any of" if len(place) > 1 else "one of"
        return f"{shown}; use {words}: {', '.join(map(str, choices(cls, name)))}"
    if kind in ("greater_than", "greater_than_equal", "less_than_equal"):
        return f"{shown}; {_range(limits(cls, name))}"
    if kind == "finite_number":
        return f"{shown}; it must be a finite number"
    wanted = _type_name(cls.model_fields[name].annotation)
    return (
        f"{shown}; it is of type {wanted}"
        if of_one
        else f"{shown} is not of type {wanted}; give one"
    )


def _type_name(kind: Any) -> str:
    """A type as it is written, such as tuple[float, float], without what is checked beside it."""
    if get_origin(kind) is Annotated:
        return _type_name(get_args(kind)[0])
    if kind is ...:
        return "..."
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_type_name, get_args(kind)))
    if kind is type(None):
        return "None"
    parts = ", ".join(map(_type_name, get_args(kind)))
    name = getattr(kind, "__name__", str(kind))
    return f"{name}[{parts}]" if parts else name


def choices(cls: type[Section], name: str) -> tuple[Any, ...]:
    """The words of a field's Literal, also of one inside a tuple; none for any other type."""
    annotation = cls.model_fields[name].annotation
    while get_origin(annotation) is not Literal and get_args(annotation):
        annotation = get_args(annotation)[0]
    return get_args(annotation)


def limits(cls: type[Section], name: str) -> dict[str, Any]:
    """A field's `gt`, `ge` and `le`, those that it has."""
    return {
        limit: getattr(part, limit)
        for part in cls.model_fields[name].metadata
        for limit in ("gt", "ge", "le")
        if hasattr(part, limit)
    }


def _range(found: Mapping[str, Any]) -> str:
    """A range in words."""
    shown = {key: f"{value:.12g}" for key, value in found.items()}
    if "ge" in shown and "le" in shown:
        return f"use {shown['ge']} to {shown['le']}"
    words = {"gt": "above {}", "ge": "{} or above", "le": "{} or below"}
    return "it must be " + " and ".join(words[key].format(value) for key, value in shown.items())


def _power_of_two(value: int) -> int:
    if value < 1 or value & (value - 1):
        raise ValueError("use a power of two")
    return value


def _betas(value: tuple[float, float]) -> tuple[float, float]:
    if not all(0.0 <= beta < 1.0 for beta in value):
        raise ValueError("use two numbers from 0 to below 1")
    return value


def _channels(value: tuple[int, ...]) -> tuple[int, ...]:
    if not value:
        raise ValueError("it is empty; name channels")
    if min(value) < 1:
        raise ValueError("use numbers of channels from 1")
    return value


def _layers(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("it is empty; name layers, or set what weighs them to 0")
    return value


PowerOfTwo = Annotated[int, pydantic.AfterValidator(_power_of_two)]
Betas = Annotated[tuple[float, float], pydantic.AfterValidator(_betas)]  # of Adam
Channels = Annotated[tuple[int, ...], pydantic.AfterValidator(_channels)]  # of each hidden layer
Layers = Annotated[tuple[str, ...], pydantic.AfterValidator(_layers)]  # of a VGG, for a loss
