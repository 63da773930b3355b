"""Validates records with msgspec, and asks pydantic about those that msgspec refuses.

A pydantic model that only has plain fields is compiled to a msgspec struct, whose decoder is much
faster. What the struct accepts, the model accepts with the same values (a property test holds
them together; times may differ by a microsecond, and fields that the model does not know are not
looked into); what it refuses is asked of the model. So each record is judged alone, and the same
whatever else is in its batch.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Set
from datetime import datetime
from typing import Annotated, Any, Optional

import msgspec
import orjson
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from streams.errors import BadRecord
from streams.spec.times import LATEST, parse, readable

_PLAIN = (str, int, float, bool, datetime)
_LISTS = tuple(kind for one in (int, float, str) for kind in (list[one], list[list[one]]))  # type: ignore[valid-type]
_HARMLESS = {"title", "frozen", "json_schema_extra", "use_attribute_docstrings", "from_attributes"}
_REFUSED = (msgspec.MsgspecError, ValueError, TypeError, RecursionError)


class Validator:
    """Decodes JSON records of one schema to objects with the schema's fields as attributes."""

    def __init__(self, schema: type[BaseModel], time: Set[str] = frozenset()) -> None:
        """`time` has the names of the event time in records: it may be a number of any unit."""
        self._schema = schema
        self._time = time
        struct = compile_struct(schema)
        self._decode: Callable[[Any], Any]
        self._decode = msgspec.json.Decoder(struct).decode if struct else self._judge

    def all(self, values: list[bytes | None]) -> list[Any] | None:
        """The objects of all values; None where one of them is refused."""
        try:
            return list(map(self._decode, values))
        except (*_REFUSED, BadRecord):
            return None

    def one(self, value: bytes) -> Any:
        """The object of a value.

        Raises:
            BadRecord: it is not JSON (`malformed`), or not of the schema (`invalid`).
        """
        try:
            return self._decode(value)
        except _REFUSED:
            return self._judge(value)

    def _judge(self, value: bytes | None) -> BaseModel:
        try:
            found = self._schema.model_validate_json(value or b"")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            named = first["loc"][0] if len(first["loc"]) == 1 else ""
            if named in self._time and (dated := _dated(value or b"", str(named))):
                return self._judge(dated)
            where = ".".join(str(part) for part in first["loc"])
            cause = "malformed" if first["type"] == "json_invalid" else "invalid"
            raise BadRecord(cause, f"{where}: {first['msg']}" if where else first["msg"]) from None
        if not isinstance(found, BaseModel):
            name, given = self._schema.__name__, type(found).__name__
            raise BadRecord("invalid", f"a model_validator of {name} returned {given}, not self")
        return found


def _dated(value: bytes, field: str) -> bytes | None:
    """A record whose time is a number, with the time as text; None where it is no such number.

    pydantic knows seconds and milliseconds only.
    """
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    at = found.get(field) if isinstance(found, dict) else None
    if not isinstance(at, int | float) or isinstance(at, bool):
        return None
    at = parse(at)
    if not 0 <= at <= LATEST:
        raise BadRecord(
            "time",
            f"{field}: {found[field]} fits no unit, from seconds to nanoseconds, between "
            f"{readable(0)} and {readable(LATEST)}",
        )
    return orjson.dumps({**found, field: readable(at)})


def compile_struct(schema: type[BaseModel]) -> type[msgspec.Struct] | None:
    """A struct that accepts a subset of what the model accepts; None where it might not be one.

    That is the case with validators, aliases, nested models, and constraints or settings that
    msgspec spells differently.
    """
    if not _is_plain(schema):
        return None
    fields: list[Any] = []
    for name, field in schema.model_fields.items():
        declared = _field_type(field)
        if declared is None:
            return None
        fields.append((name, declared) if field.is_required() else (name, declared, field.default))
    try:
        return msgspec.defstruct(
            schema.__name__,
            fields,
            kw_only=True,
            gc=False,
            forbid_unknown_fields=schema.model_config.get("extra") == "forbid",
        )
    except (TypeError, ValueError):  # a default that is mutable, a constraint that does not fit
        return None


def _is_plain(schema: type[BaseModel]) -> bool:
    decorators = schema.__pydantic_decorators__
    own_core_schema = (
        getattr(schema.__get_pydantic_core_schema__, "__func__", None)
        is not BaseModel.__get_pydantic_core_schema__.__func__  # type: ignore[attr-defined]
    )
    return not (
        decorators.validators
        or decorators.field_validators
        or decorators.root_validators
        or decorators.model_validators
        or schema.__pydantic_custom_init__
        or schema.__pydantic_post_init__
        or schema.__pydantic_root_model__
        or own_core_schema
        or set(schema.model_config) - {"extra", *_HARMLESS}
    )


def _field_type(field: FieldInfo) -> Any:
    if field.alias or field.validation_alias or field.default_factory or field.discriminator:
        return None
    annotation: Any = field.annotation
    options = [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(annotation) if option is not type(None)]
    if len(options) != 1:
        return None
    metadata, plain = list(field.metadata), options[0]
    if typing.get_origin(plain) is Annotated:
        plain, *inner = typing.get_args(plain)
        for entry in inner:
            metadata += entry.metadata if isinstance(entry, FieldInfo) else [entry]
    bounds = _bounds(metadata)
    if plain not in _PLAIN and (plain not in _LISTS or bounds):
        return None
    if bounds is None:
        return None
    bounded = Annotated[plain, msgspec.Meta(**bounds)] if bounds else plain
    return bounded if options[0] is annotation else Optional[bounded]  # noqa: UP045


def _bounds(metadata: list[Any]) -> dict[str, Any] | None:
    """The constraints as msgspec names them; None where it does not know one."""
    bounds: dict[str, Any] = {}
    for entry in metadata:
        match entry:
            case Ge(ge=bound):
                bounds["ge"] = bound
            case Gt(gt=bound):
                bounds["gt"] = bound
            case Le(le=bound):
                bounds["le"] = bound
            case Lt(lt=bound):
                bounds["lt"] = bound
            case MinLen(min_length=bound):
                bounds["min_length"] = bound
            case MaxLen(max_length=bound):
                bounds["max_length"] = bound
            case _:
                # numbers that are not finite have no JSON that msgspec would read
                if getattr(entry, "__dict__", None) not in (
                    {"allow_inf_nan": False},
                    {"allow_inf_nan": True},
                ):
                    return None
    return bounds
