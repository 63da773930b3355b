"""The layout's figures: what they find, and the bounds that this code keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house import PACKAGES, cycles, duplicates, figures, read

ROOT = Path(__file__).parents[3]
MODULES = {n: m for package in PACKAGES for n, m in read(ROOT, package).items()}
RUN = "\n".join(f"value_{n} = {n}" for n in range(6))


def write(root: Path, **sources: str) -> None:
    for name, source in sources.items():
        path = root / "streams" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(source)


def test_nothing_imports_in_a_circle() -> None:
    assert cycles(MODULES) == []


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_longer_than_300_lines(name: str) -> None:
    assert MODULES[name].lines <= 300


def test_no_two_public_classes_have_one_name() -> None:
    assert dict(figures(ROOT))["public classes of one name"] == "none"


def test_a_cycle_of_modules_is_found(tmp_path: Path) -> None:
    write(tmp_path, one="from streams.two import x", two="def f():\n    import streams.one")
    assert set(cycles(read(tmp_path, "streams"))[0]) == {"streams.one", "streams.two"}


def test_a_cycle_of_packages_is_found(tmp_path: Path) -> None:
    write(tmp_path, a__x="from streams.b.x import f", b__x="", b__y="import streams.a.y", a__y="")
    (tmp_path / "streams" / "__init__.py").touch()
    [found] = cycles(read(tmp_path, "streams"))
    assert set(found) == {"streams.a", "streams.b"}


def test_six_equal_lines_are_a_duplicate(tmp_path: Path) -> None:
    write(tmp_path, one=RUN, two=f"begin = 1\n{RUN}\nend = 2", three="other = 3")
    assert duplicates(read(tmp_path, "streams")) == 1
