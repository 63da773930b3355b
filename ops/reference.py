"""Writes `docs/reference.md` from the docstrings: `python ops/reference.py`."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from streams import spec, testing

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"
HEAD = """\
# Reference

What a pipeline's file is made of, and what its tests use, from the docstrings (`ops/reference.py`
writes this page). What the parts are for is in [pipelines.md](pipelines.md).
"""


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    for module, title in ((spec, "`from streams import ...`"), (testing, "`streams.testing`")):
        parts.append(f"## {title}\n")
        for name in sorted(module.__all__):
            found = getattr(module, name)
            if inspect.isclass(found) or inspect.isfunction(found):
                parts.append(_described(name, found, methods=module is testing))
    return "\n".join(parts)


def _described(name: str, found: Any, *, methods: bool) -> str:
    lines = [f"### {name}\n", inspect.getdoc(found) or "", ""]
    if inspect.isfunction(found):
        lines[0] = f"### {name}{_signature(found)}\n"
    elif is_dataclass(found):
        lines += _fields(found)
    if inspect.isclass(found) and methods:
        for method, function in vars(found).items():
            if inspect.isfunction(function) and not method.startswith("_"):
                said = inspect.getdoc(function)
                lines += [f"`{method}{_signature(function)}`: {said}", ""] if said else []
    return "\n".join(lines)


def _signature(function: Any) -> str:
    return re.sub(r"\(self,? ?", "(", str(inspect.signature(function))).replace("'", "")


def _fields(declared: type) -> list[str]:
    """A table of a dataclass's fields; what is said of them stands below each in the source."""
    said = {
        name: " ".join(text.split())
        for base in reversed(declared.__mro__)
        if base is not object
        for name, text in re.findall(
            r'^    (\w+): [^\n]*\n    """(.*?)"""', _source(base), re.DOTALL | re.MULTILINE
        )
    }
    rows = [
        f"| `{one.name}` | {_default(one)} | {said.get(one.name, '')} |"
        for one in fields(declared)
        if one.init
    ]
    return ["| Argument | Default | Meaning |", "|---|---|---|", *rows, ""]


def _source(declared: type) -> str:
    try:
        return inspect.getsource(declared)
    except (OSError, TypeError):
        return ""


def _default(one: Any) -> str:
    if one.default is not MISSING:
        return f"`{one.default!r}`"
    return "" if one.default_factory is MISSING else f"`{_called(one.default_factory)}`"


def _called(factory: Any) -> str:
    return "{}" if factory is dict else f"{factory.__name__}()"


if __name__ == "__main__":
    PAGE.write_text(page())
