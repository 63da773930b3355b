"""A hash of what the vector means: it changes with what is computed, and with nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streams.spec import Cleaning, Clip, Column, OneHot, Transform
from streams.spec.meaning import meaning
from tests.unit.pipelines import declare

BASE = '''
import numpy as np
RATE = 1.5
TABLE = {"a": 1, "b": [1, 2]}
WEIGHTS = np.array([1.0, 2.0])

def helper(x):
    return x * RATE

def outer(scale):
    def inner(columns):
        return columns["amount"] * scale
    return inner

def amount(columns, power=2):
    """Say what it is."""
    # a comment
    return helper(columns["amount"]) ** power + TABLE["a"] + WEIGHTS.sum()

class Callable:
    def __init__(self, by): self.by = by
    def __call__(self, columns): return columns["amount"] / self.by

inner, called = outer(3), Callable(4)
first, second = lambda c: c["amount"], lambda c: c["amount"] + 1
'''
SAME = [
    ("# a comment", "# another"),
    ('"""Say what it is."""', '"""Say it otherwise."""'),
    ('helper(columns["amount"]) ** power', "(helper( columns['amount'] ))**power"),
    ("\ndef helper", "\n\n\nUNUSED = 7\n\ndef helper"),
]
OTHER = [
    ("RATE = 1.5", "RATE = 1.6", "amount"),
    ('"a": 1', '"a": 2', "amount"),
    ("[1.0, 2.0]", "[1.0, 2.5]", "amount"),
    ("return x * RATE", "return x / RATE", "amount"),
    ("power=2", "power=3", "amount"),
    ("** power", "* power", "amount"),
    ("outer(3)", "outer(4)", "inner"),
    ("Callable(4)", "Callable(5)", "called"),
    ("/ self.by", "// self.by", "called"),
    ('c["amount"] + 1', 'c["amount"] + 2', "second"),
]
NAMES = ("amount", "inner", "called", "first", "second")


def texts(folder: Path, source: str) -> dict[str, str]:
    """The meaning of each function of a module of this source."""
    (folder / "features_of_ours.py").write_text(source)
    code = (
        "import json, features_of_ours as m; from streams.spec.meaning import meaning;"
        f"print(json.dumps({{n: meaning(getattr(m, n)) for n in {NAMES!r}}}))"
    )
    import json

    path = os.pathsep.join([str(folder), str(Path(__file__).parents[4])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_what_changes_nothing_changes_no_text(tmp_path: Path) -> None:
    base = texts(tmp_path, BASE)
    assert len(set(base.values())) == len(NAMES)
    source = BASE
    for old, new in SAME:
        assert old in source
        source = source.replace(old, new)
    assert texts(tmp_path, source) == base


def test_what_is_computed_otherwise_has_another_text(tmp_path: Path) -> None:
    base = texts(tmp_path, BASE)
    for old, new, name in OTHER:
        assert old in BASE
        changed = texts(tmp_path, BASE.replace(old, new))
        assert {n for n in NAMES if changed[n] != base[n]} == {name}, (old, new)


def test_functions_without_source_and_odd_values_have_a_text() -> None:
    scope: dict[str, Any] = {}
    exec("def f(x): return x + 1\ndef g(x): return x + 2", scope)
    assert meaning(scope["f"]) != meaning(scope["g"])
    for value in (partial(max, 1, key=abs), np.log, len, object(), {1, 2}, "".join, Path):
        assert meaning(value) == meaning(value)
        assert "0x" not in meaning(value)

    def again(n: int) -> int:
        return again(n - 1) if n else 0

    assert meaning(again)


def hash_of(**changes: Any) -> str:
    return declare(**changes).schema_hash


def doubled(columns: Any) -> Any:
    return columns["amount"] * 2


def tripled(columns: Any) -> Any:
    return columns["amount"] * 3


@pytest.mark.parametrize(
    "changes",
    [
        {"cleaning": Cleaning(missing={"channel": "app"}, outliers={"amount": Clip(0, 1000)})},
        {"cleaning": Cleaning(missing={"channel": "web"}, outliers={"amount": Clip(0, 999)})},
        {"cleaning": Cleaning(missing={"channel": "web"}, duplicates="2h")},
        {"features": [Column("amount")]},
    ],
)
def test_cleaning_and_features_are_part_of_what_the_vector_means(changes: Any) -> None:
    assert hash_of(**changes) != hash_of()


def test_a_transforms_function_is_part_of_what_the_vector_means() -> None:
    def of(function: Callable[[Any], Any]) -> str:
        return hash_of(features=[Transform("x", function)])

    assert of(doubled) == of(doubled) != of(tripled)
    categories = [hash_of(features=[OneHot("basket", values)]) for values in ((1, 2), (1, 3))]
    assert categories[0] != categories[1]


def test_what_is_accepted_is_no_part_of_it() -> None:
    base = declare().cleaning
    later = Cleaning(base.missing, base.outliers, base.duplicates, ahead="2d")
    assert hash_of(cleaning=later) == hash_of()
