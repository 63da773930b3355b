"""Checks of what an author declares: each value is of the kind that its place asks for."""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal

from streams.errors import PipelineError

_KINDS: dict[type, tuple[str, tuple[type, ...]]] = {
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("a text", (str,)),
    bool: ("True or False", (bool,)),
}


def check_fields(declared: Any, where: str) -> None:
    """Hold the plain fields of a declaration against their types; others check themselves.

    Raises:
        PipelineError: names the field, the value, and what may stand there.
    """
    hints = typing.get_type_hints(type(declared))
    for one in fields(declared):
        problem = _problem(hints[one.name], getattr(declared, one.name))
        if problem is not None:
            raise PipelineError(f"{where}.{one.name}" if where else one.name, *problem)


def _problem(hint: Any, value: object) -> tuple[str, str] | None:
    """What is wrong with a value, and the mend; None for nothing."""
    options = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return None if value in options else _not_known(value, [str(one) for one in options])
    if typing.get_origin(hint) is tuple:
        if typing.get_origin(options[0]) is tuple:
            return _no_rows(options[0], value)
        return _no_texts(value) if str in options else _no_numbers(options[0], value)
    if type(None) in options and len(options) == 2:
        [kind] = [one for one in options if one is not type(None)]
        return None if value is None else _problem(kind, value)
    return _no_plain(hint, value) if hint in _KINDS else None


def _no_plain(kind: type, value: object) -> tuple[str, str] | None:
    name, accepted = _KINDS[kind]
    right = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    if right and not (isinstance(value, float) and math.isnan(value)):
        return None
    return f"{value!r} is not {name}", f"give {name}"


def _no_texts(value: object) -> tuple[str, str] | None:
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return None
    return f"{value!r} is no tuple of texts", 'write ("one", "another")'


def _no_numbers(kind: type, value: object) -> tuple[str, str] | None:
    if isinstance(value, tuple) and all(_no_plain(kind, one) is None for one in value):
        return None
    if kind is int:
        return f"{value!r} is no tuple of whole numbers", "write (1, 2)"
    return f"{value!r} is no tuple of numbers", "write (0.1, 0.5)"


def _no_rows(hint: Any, value: object) -> tuple[str, str] | None:
    if isinstance(value, tuple):
        return next(filter(None, (_problem(hint, row) for row in value)), None)
    return f"{value!r} is no tuple of rows", "write ((0, 1), (50, 0))"


def _not_known(value: object, known: Sequence[str]) -> tuple[str, str]:
    near = difflib.get_close_matches(str(value), known, 1, 0.4)
    mend = f"did you mean {near[0]}? use " if near else "use "
    return f"{value!r} is not known", mend + f"{', '.join(known[:-1])} or {known[-1]}"
