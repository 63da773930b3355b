"""`docs/architecture.md` names every package and module, as they describe themselves."""

from __future__ import annotations

import re
from pathlib import Path

from tests.house import PACKAGES, module_map

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_map_has_every_module_with_the_first_line_of_its_docstring() -> None:
    section = PAGE.partition("## Module map")[2]
    listed = re.findall(r"^ *- `.*", section, re.MULTILINE)
    assert listed == module_map(ROOT).splitlines()


def test_every_module_says_what_it_is() -> None:
    silent = [line for line in module_map(ROOT).splitlines() if line.endswith("`")]
    assert silent == []


def test_the_walks_name_modules_that_exist() -> None:
    walks = PAGE.partition("## Module map")[0]
    named = set(re.findall(rf"`((?:{'|'.join(PACKAGES)})/[\w/.]+)`", walks))
    assert len(named) > 30
    assert [path for path in named if not (ROOT / path).exists()] == []
