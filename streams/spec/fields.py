"""The fields of an event's schema: what kind of value one holds, and how it is spelt."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping, Set
from datetime import datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, Literal
from uuid import UUID

from pydantic import AliasChoices, BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from streams.errors import PipelineError

_NUMBERS = (int, float, bool, Decimal)
_NAMES = (str, int, UUID)
_NO_CATEGORIES = (BaseModel, Mapping, Set, list, tuple, datetime)
_NOTHING = object()


def require_field(schema: type[BaseModel], name: str, where: str) -> None:
    """Raise a `PipelineError` unless `schema` has a field of that name."""
    if name not in schema.model_fields:
        known = ", ".join(schema.model_fields)
        raise PipelineError(
            where, f"{schema.__name__} has no field {name!r}", f"use one of: {known}"
        )


def require_numeric(schema: type[BaseModel], name: str, where: str) -> None:
    """Raise a `PipelineError` unless that field of `schema` is a number."""
    require_field(schema, name, where)
    if not numeric(schema, name):
        raise PipelineError(
            where,
            f"field {name!r} is not a number",
            "use a numeric field, or OneHot or Bucket for categories",
        )


def require_name(schema: type[BaseModel], name: str, where: str) -> None:
    """Raise a `PipelineError` unless that field of `schema` can name something."""
    require_field(schema, name, where)
    if not _all_are(_NAMES, schema, name) or base_type(schema, name) is bool:
        raise PipelineError(
            where, f"field {name!r} is not str or int", "declare it as str, int, UUID or an Enum"
        )


def require_category(schema: type[BaseModel], name: str, where: str) -> None:
    """Raise a `PipelineError` where that field of `schema` has parts, or is a time."""
    require_field(schema, name, where)
    if _one_is(_NO_CATEGORIES, schema, name):
        raise PipelineError(
            where,
            f"field {name!r} is no category",
            "use a field that is str, int, UUID, Literal or an Enum",
        )


def require_value(schema: type[BaseModel], name: str, value: object, where: str) -> None:
    """Raise a `PipelineError` unless that field of `schema` may hold this value, as it is."""
    expected = base_type(schema, name)
    if numeric(schema, name):
        mend = "give a number"
        kind, fits = "number", isinstance(value, _NUMBERS) and math.isfinite(value)
    else:
        kind, given = getattr(expected, "__name__", str(expected)), plain(value)
        mend = _choices(expected) or f"give a {kind}"
        try:
            held = plain(TypeAdapter(expected).validate_python(given))
        except ValidationError:
            held = _NOTHING
        fits = type(held) is type(given) and held == given
    if not fits:
        raise PipelineError(where, f"{value!r} is no {kind}, as {name!r} is", mend)


def require_default(schema: type[BaseModel], name: str) -> None:
    """Raise a `PipelineError` where the field's default is not what the field holds."""
    default = schema.model_fields[name].default
    if default is not PydanticUndefined and default is not None:
        require_value(schema, name, default, f"event.schema.{name}.default")


def numeric(schema: type[BaseModel], name: str) -> bool:
    """Whether the field holds numbers: int, float, bool, Decimal, or a choice of those."""
    return _all_are(_NUMBERS, schema, name)


def base_type(schema: type[BaseModel], name: str) -> Any:
    """The field's type without `| None`, annotations, and names that stand for another type."""
    annotation = _bare(schema.model_fields[name].annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(annotation) if option is not type(None)]
        annotation = _bare(options[0]) if len(options) == 1 else annotation
    return annotation


def optional(schema: type[BaseModel], name: str) -> bool:
    """Whether the field may be `None`."""
    field = schema.model_fields[name]
    return field.default is None or type(None) in typing.get_args(field.annotation)


@cache
def json_name(schema: type[BaseModel], name: str) -> str:
    """The field's name in a record: its alias where it has one."""
    field = schema.model_fields[name]
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        alias = next((one for one in alias.choices if isinstance(one, str)), None)
    return alias if isinstance(alias, str) else field.alias or name


def plain(value: object) -> object:
    """A member of an Enum as the value that it stands for; others as they are."""
    return value.value if isinstance(value, Enum) else value


def spelt(value: object) -> str:
    """A value as the name of something: of an Enum's member, its value."""
    return str(plain(value))


def _bare(annotation: Any) -> Any:
    """A type without what is annotated; what a `NewType` or a `type` statement stands for."""
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def _choices(expected: Any) -> str:
    """The mend where there are only so many values; empty where there are not."""
    if typing.get_origin(expected) is Literal:
        return f"use one of: {', '.join(map(repr, typing.get_args(expected)))}"
    if isinstance(expected, type) and issubclass(expected, Enum):
        return f"use one of: {', '.join(repr(one.value) for one in expected)}"
    return ""


def _one_is(kinds: tuple[type, ...], schema: type[BaseModel], name: str) -> bool:
    """Whether something that the field may hold is of these types."""
    found = base_type(schema, name)
    several = typing.get_origin(found) in (typing.Union, types.UnionType)
    options = map(_bare, typing.get_args(found)) if several else [found]
    held = [typing.get_origin(option) or option for option in options]
    return any(isinstance(one, type) and issubclass(one, kinds) for one in held)


def _all_are(kinds: tuple[type, ...], schema: type[BaseModel], name: str) -> bool:
    """Whether all that the field may hold are of these types."""
    found = base_type(schema, name)
    if typing.get_origin(found) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(found) if option is not type(None)]
        return all(_is(kinds, _bare(option)) for option in options)
    return _is(kinds, found)


def _is(kinds: tuple[type, ...], found: Any) -> bool:
    if typing.get_origin(found) is Literal:
        return all(isinstance(one, kinds) for one in typing.get_args(found))
    if not isinstance(found, type):
        return False
    if issubclass(found, Enum) and not issubclass(found, kinds):
        # a choice of numbers is a category, unless it declares to be a number
        return str in kinds and all(isinstance(one.value, kinds) for one in found)
    return issubclass(found, kinds)
