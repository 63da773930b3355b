"""A machine's sensors: NASA's space shuttle (Statlog), normal or not."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

from workers.worlds.clock import ticks
from workers.worlds.packages import Package
from workers.worlds.world import DataWorld, Happening

UNITS = 8
PER_MINUTE = 60.0
KNOWN_AFTER = 3600.0
"""Seconds until somebody has looked."""

_TABLE = Path("river", "datasets", "shuttle.csv.gz")


def read(home: Path) -> Iterator[Happening]:
    """All 49,097 readings, in the order of the file."""
    clock = ticks(PER_MINUTE, seed=9)
    with gzip.open(home / _TABLE, "rt", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines)):
            at, anomaly = next(clock), float(row.pop("anomaly"))
            sensors = {name: float(value) for name, value in row.items()}
            unit = f"unit-{number % UNITS}"
            yield Happening(f"reading-{number}", unit, at, sensors, anomaly, at + KNOWN_AFTER)


MACHINE = DataWorld(
    name="machine",
    key="unit",
    licence="CC BY 4.0 (UCI, Statlog Shuttle), as river (BSD-3-Clause) has it",
    schema="f1 to f9: sensors; label: 1 for an anomaly (7 %)",
    times=(
        "made: 60 readings a minute, in turn at one of 8 units, each looked at an hour later; the "
        "file is not in order of time"
    ),
    packages=(
        Package(
            name="river",
            version="0.26.1",
            sha256=("6a11e1a9749beec3ea138efeb0205b2c5cea8d424e9deee306c8980faec01bef",),
            megabytes=2.7,
            licence="BSD-3-Clause",
            built_for=("3.11", "x86_64-manylinux_2_28"),
        ),
    ),
    read=read,
)
