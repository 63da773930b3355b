"""What a function computes, as a text: equal texts, equal meaning.

A pipeline's vector means what its functions make of an event. The text holds the function's code
without comments, formatting and docstrings, and what it uses: functions and constants of its own
module, defaults, what it encloses. It is the same in every process and on every version of Python
that writes the code the same way.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types
from collections.abc import Mapping, Set
from typing import Any

import numpy as np


def meaning(value: Any) -> str:
    """The text of a function or of a value that it uses."""
    return _meaning(value, frozenset())


def _meaning(value: Any, seen: frozenset[int]) -> str:
    if id(value) in seen:  # it uses itself
        return "itself"
    inside = seen | {id(value)}
    match value:
        case functools.partial():
            parts = [value.func, list(value.args), dict(value.keywords)]
            text = f"partial({_several(parts, inside)})"
        case types.MethodType():
            text = f"method({_several([value.__func__, value.__self__], inside)})"
        case types.FunctionType():
            text = _function(value, inside)
        case np.ndarray():
            text = f"array({value.dtype.str}, {value.shape}, {value.tobytes().hex()})"
        case None | str() | bytes() | bool() | int() | float() | complex() | np.generic():
            text = f"{type(value).__name__} {value!r}"
        case Mapping():
            pairs = [f"{_meaning(k, inside)}: {_meaning(v, inside)}" for k, v in value.items()]
            text = f"{{{', '.join(pairs)}}}"
        case Set():
            text = f"set({', '.join(sorted(_meaning(one, inside) for one in value))})"
        case list() | tuple():
            text = f"{type(value).__name__}({_several(value, inside)})"
        case type() | types.ModuleType() | types.BuiltinFunctionType():
            name = getattr(value, "__qualname__", value.__name__)
            text = f"{getattr(value, '__module__', '')}.{name}"
        case _:
            text = _object(value, inside)
    return text


def _several(values: Any, seen: frozenset[int]) -> str:
    return ", ".join(_meaning(value, seen) for value in values)


def _function(function: types.FunctionType, seen: frozenset[int]) -> str:
    module, used = function.__module__, {}
    for name in _names(function.__code__):
        if name not in function.__globals__:
            continue
        value = function.__globals__[name]
        foreign = getattr(value, "__module__", module) != module
        used[name] = f"{value.__module__}.{name}" if foreign else _meaning(value, seen)
    cells = [_cell(cell) for cell in function.__closure__ or ()]
    defaults = [function.__defaults__, function.__kwdefaults__]
    return f"{_code(function)} {sorted(used.items())} {_several([*cells, *defaults], seen)}"


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is not filled yet
        return None


def _names(code: types.CodeType) -> set[str]:
    """The names that code, and the code within it, looks up."""
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _code(function: types.FunctionType) -> str:
    """The function's source, written anew; what it is compiled to where there is no source."""
    found = _in_source(function)
    return ast.unparse(found) if found is not None else _compiled(function.__code__)


def _in_source(function: types.FunctionType) -> ast.AST | None:
    """The function in the syntax tree of its file; None where it cannot be told from others."""
    try:
        lines, _ = inspect.findsource(function.__code__)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, SyntaxError, TypeError):
        return None
    code = function.__code__
    column = min((at for _, _, at, _ in code.co_positions() if at is not None), default=0)
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        and _first_line(node) == code.co_firstlineno
    ]
    if len(found) > 1 and all(isinstance(node, ast.Lambda) for node in found):
        # several in a line: the one in whose span the code lies
        found = [n for n in found if n.col_offset <= column <= (n.end_col_offset or 0)]
    if len(found) != 1:
        return None
    return _without_docstring(found[0])


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> int:
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min([node.lineno, *(one.lineno for one in decorators)])


def _without_docstring(node: ast.AST) -> ast.AST:
    for one in ast.walk(node):
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(one):
            one.body = one.body[1:] or [ast.Pass()]
    return node


def _compiled(code: types.CodeType) -> str:
    consts = [
        _compiled(one) if isinstance(one, types.CodeType) else repr(one) for one in code.co_consts
    ]
    return f"{code.co_code.hex()} {code.co_names} {consts}"


def _object(value: Any, seen: frozenset[int]) -> str:
    """An object of a class of its own: the code that is called, and what the object holds."""
    kind = type(value)
    call = kind.__dict__.get("__call__")
    text = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(call, types.FunctionType):
        text += f" {_function(call, seen)}"
    held = getattr(value, "__dict__", {})
    return f"{text}({_meaning(dict(sorted(held.items())), seen)})"
