"""Functions that an author hands over: what they must take, and where they stand in a file."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

from streams.errors import PipelineError

_COUNTS = ("no argument", "one argument")


def check_function(function: Any, where: str, mend: str, arguments: int = 1) -> None:
    """See that a function takes so many arguments, and returns at once.

    `mend` says what it should be.

    Raises:
        PipelineError: it cannot be called so.
    """
    if not callable(function):
        raise PipelineError(where, "is not callable", mend)
    called = _called(function)
    if inspect.iscoroutinefunction(called) or inspect.isgeneratorfunction(called):
        raise PipelineError(where, "is async or a generator, and returns nothing at once", mend)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of C, and says nothing
        return
    try:
        signature.bind(*[None] * arguments)
    except TypeError as error:
        raise PipelineError(
            where,
            f"cannot be called with {_COUNTS[arguments]} ({error}, of {signature})",
            mend,
        ) from None


def place_of(function: Any) -> str:
    """The file and line of a function or class of Python; empty for others."""
    while isinstance(function, functools.partial):
        function = function.func
    found = inspect.unwrap(_called(function))
    if code := getattr(found, "__code__", None):
        return f"{short(code.co_filename)}, line {code.co_firstlineno}"
    try:
        return f"{short(inspect.getfile(found))}, line {inspect.getsourcelines(found)[1]}"
    except (TypeError, OSError):
        return ""


def _called(function: Any) -> Any:
    """What runs when this is called: of an object its class's `__call__`."""
    if inspect.isclass(function) or inspect.isroutine(function):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004 - not whether, but which


def short(file: str) -> str:
    """A path from the working directory where it is below it."""
    path, here = Path(file).resolve(), Path.cwd().resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
