"""Figures of the layout: `python -m tests.house [DIRECTORY]`, for this checkout or another.

`--map` prints the map of modules that `docs/architecture.md` holds instead.

Read from the sources, nothing is imported. A cycle is a set of modules, or of packages of the same
parent, that import one another; imports inside functions and for type checking count as well.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

PACKAGES = ("streams", "workers")
_ALIKE = 6
"""Lines that two places share before they count as a duplicate."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A source file."""

    name: str
    source: str
    tree: ast.Module
    is_package: bool

    @property
    def lines(self) -> int:
        return len(self.source.splitlines())

    def functions(self) -> Iterator[Function]:
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                yield node

    def classes(self) -> Iterator[ast.ClassDef]:
        return (node for node in self.tree.body if isinstance(node, ast.ClassDef))


def read(root: Path, package: str) -> dict[str, Module]:
    """The modules of a package, by name."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        source = path.read_text()
        found[name] = Module(name, source, ast.parse(source), is_package)
    return found


def imports(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Which of the modules each of them imports."""
    found: dict[str, set[str]] = {name: set() for name in modules}
    for name, module in modules.items():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                asked = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                asked = [f"{node.module}.{alias.name}" for alias in node.names]
                asked = [one if one in modules else node.module for one in asked]
            else:
                continue
            found[name] |= {one for one in asked if one in modules and one != name}
    return found


def cycle(graph: Mapping[str, set[str]]) -> Sequence[str]:
    """One cycle; none where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return ()


def between_packages(graph: Mapping[str, set[str]], parent: str) -> dict[str, set[str]]:
    """The imports between the direct children of a package."""
    depth = parent.count(".") + 2

    def child(name: str) -> str | None:
        inside = name.startswith(parent + ".")
        return ".".join(name.split(".")[:depth]) if inside else None

    found: dict[str, set[str]] = defaultdict(set)
    for name, imported in graph.items():
        if (one := child(name)) is not None:
            found[one] |= {other for i in imported if (other := child(i)) is not None} - {one}
    return found


def cycles(modules: Mapping[str, Module]) -> list[Sequence[str]]:
    """A cycle of modules, and one of the children of each package, where there are any."""
    graph = imports(modules)
    parents = [name for name, module in modules.items() if module.is_package]
    graphs = [graph, *(between_packages(graph, parent) for parent in parents)]
    return [found for one in graphs if (found := cycle(one))]


def duplicates(modules: Mapping[str, Module]) -> int:
    """Runs of lines that stand in two places; overlapping runs count once."""
    places: dict[tuple[str, ...], tuple[str, int]] = {}
    found, last = 0, ("", -_ALIKE)
    for name, module in modules.items():
        lines = [line.strip() for line in module.source.splitlines()]
        kept = [line for line in lines if len(line) > 3 and not line.startswith(("#", "from "))]
        for start in range(len(kept) - _ALIKE + 1):
            run = tuple(kept[start : start + _ALIKE])
            first = places.setdefault(run, (name, start))
            if first != (name, start) and not (last[0] == name and start < last[1] + _ALIKE):
                found, last = found + 1, (name, start)
    return found


def share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.0f} %"


def _length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _documented(node: ast.ClassDef | Function) -> bool:
    return ast.get_docstring(node) is not None


def _typed(function: Function) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    plain = [one for one in arguments if one.arg not in ("self", "cls")]
    return function.returns is not None and all(one.annotation for one in plain)


def _public(module: Module) -> Iterator[ast.ClassDef | Function]:
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node
            yield from (
                member
                for member in node.body
                if isinstance(member, Function) and not member.name.startswith("_")
            )
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield node


def _homonyms(modules: Mapping[str, Module]) -> list[str]:
    counted: dict[str, int] = defaultdict(int)
    for module in modules.values():
        for one in module.classes():
            counted[one.name] += not one.name.startswith("_")
    return sorted(name for name, times in counted.items() if times > 1)


def figures(root: Path) -> list[tuple[str, str]]:
    """The table's rows."""
    modules = {n: m for package in PACKAGES for n, m in read(root, package).items()}
    real = [m for m in modules.values() if not (m.is_package and m.lines <= 2)]
    functions = [f for m in modules.values() for f in m.functions()]
    public = [one for m in modules.values() for one in _public(m)]
    longest = max(real, key=lambda m: m.lines)
    made = [f for f in functions if f.name == "__init__"]
    graph, rows = imports(modules), list[tuple[str, str]]()
    rows += [
        ("modules", f"{len(real)}"),
        ("lines", f"{sum(m.lines for m in real):,}"),
        ("median module, lines", f"{median(m.lines for m in real):.0f}"),
        ("longest module, lines", f"{longest.lines} ({longest.name})"),
        (
            "longest function, lines",
            f"{max((f.end_lineno or 0) - f.lineno + 1 for f in functions)}",
        ),
        ("functions typed", share(sum(map(_typed, functions)), len(functions))),
        (
            "public API documented",
            share(sum(map(_documented, public)), len(public)),
        ),
        ("most constructor arguments", f"{max(len(f.args.args) - 1 for f in made)}"),
        ("cycles", f"{len(cycles(modules))}"),
        ("duplicates of 6 lines", f"{duplicates(modules)}"),
        ("public classes of one name", ", ".join(_homonyms(modules)) or "none"),
        ("fmt: skip", f"{sum(m.source.count('fmt: ' + 'skip') for m in modules.values())}"),
    ]
    for package in PACKAGES:
        rooms = between_packages(graph, package)
        edges = sum(map(len, rooms.values()))
        rows.append((f"{package}: rooms, imports between them", f"{len(rooms)}, {edges}"))
    return rows


def module_map(root: Path) -> str:
    """Every package and module with the first line of its docstring, as Markdown."""
    lines: list[str] = []
    for package in PACKAGES:
        for name, module in read(root, package).items():
            said = (ast.get_docstring(module.tree) or "").partition("\n")[0]
            path = name.replace(".", "/") + ("/" if module.is_package else ".py")
            indent = "  " * name.count(".")
            lines.append(f"{indent}- `{path}` {said}")
    return "\n".join(lines)


def main() -> None:
    """Print the table, or the map."""
    if "--map" in sys.argv:
        print(module_map(Path(__file__).parents[1]))
        return
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    rows = figures(root)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}")


if __name__ == "__main__":
    main()
