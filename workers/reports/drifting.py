"""What a report shows of drift: how far what was served is from where each version was trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from workers.evaluation.live_drift import DriftRow
from workers.reports.drawing import BAD, CYCLE, FAINT, legend
from workers.reports.over_time import date_axis
from workers.reports.page import Picture, Rows, Section
from workers.reports.tables import day

_DAY = 86_400.0
_MOST_BUCKETS, _MOST_COLUMNS, _MOST_VERSIONS = 60, 12, 6


def section(rows: Sequence[DriftRow]) -> Section | None:
    """Drift of the latest buckets; None where nothing was counted."""
    starts = sorted({row.start for row in rows})[-_MOST_BUCKETS:]
    recent = [row for row in rows if starts and row.start >= starts[0]]
    if not recent:
        return None
    known = [row for row in recent if row.drift is not None]
    judged = [row for row in known if not row.unjudged]
    if not known:
        return Section("Drift", "No version that served has a reference to drift from.")
    latest = (judged or known)[-1]
    alarms = sum(row.alarm for row in judged)
    said = f"{alarms} of {len(judged)} buckets that were judged are alarms. It needs no label."
    pictures = [_shifts(judged)] if judged else []
    if math.isfinite(_ratio(latest)):
        pictures.append(_columns([row for row in known if row.version == latest.version], latest))
    return Section("Drift", said, pictures, [_table(latest)])


def _shifts(rows: Sequence[DriftRow]) -> Picture:
    """The largest shift of all columns, by version."""
    versions = sorted({row.version for row in rows})

    def draw(axes: Axes) -> None:
        for number, version in enumerate(versions):
            mine = [row for row in rows if row.version == version]
            times, ratios = [_middle(row) for row in mine], [_ratio(row) for row in mine]
            colour = CYCLE[number % len(CYCLE)]
            axes.plot(times, ratios, color=colour, marker="o", ms=3, label=f"version {version}")
        alarmed = [row for row in rows if row.alarm]
        axes.plot([*map(_middle, alarmed)], [*map(_ratio, alarmed)], "o", ms=6, color=BAD)
        axes.axhline(1, color=FAINT, lw=0.8, ls="--")
        axes.set_ylim(bottom=0)
        axes.set_ylabel("largest shift / level")
        date_axis(axes)
        if len(versions) <= _MOST_VERSIONS:
            legend(axes)

    return Picture(
        name="drift",
        title="Drift by version",
        says="The largest shift of all features and scores, over the level that a bucket without "
        "drift exceeds as seldom as is declared. Red is an alarm: above 1, and large enough to "
        "matter. The champion's first one makes a candidate.",
        draw=draw,
    )


def _columns(rows: Sequence[DriftRow], latest: DriftRow) -> Picture:
    """The columns that moved most in the latest bucket, over time."""
    assert latest.drift is not None
    names = [one.column for one in latest.drift.columns[: len(CYCLE)]]

    def draw(axes: Axes) -> None:
        times = [_middle(row) for row in rows]
        for colour, name in zip(CYCLE, names, strict=False):
            axes.plot(times, [_shift(row, name) for row in rows], color=colour, label=name)
        axes.axhline(1, color=FAINT, lw=0.8, ls="--")
        axes.set_ylim(bottom=0)
        axes.set_ylabel("shift / level")
        date_axis(axes)
        legend(axes)

    return Picture(
        name="drift-columns",
        title=f"What moved most: version {latest.version}",
        says="The shifts of the features and scores that moved most in the newest bucket, over the "
        "level of all. A line that jumps is a feature that broke, or a change of the world; one "
        "that climbs is a world that moves on.",
        draw=draw,
    )


def _table(row: DriftRow) -> Rows:
    assert row.drift is not None
    rows = [
        (
            one.column,
            "alarm" if one.alarm and row.alarm else "",
            f"{one.before:.4g}",
            f"{one.after:.4g}",
            f"{one.psi:.3f}",
            "-" if math.isnan(one.shift) else f"{one.shift / row.drift.level:.2f}",
            f"{one.outside:.2%}",
            "-" if math.isnan(one.missing) else f"{one.missing:.2%}",
        )
        for one in row.drift.columns[:_MOST_COLUMNS]
    ]
    head = ("Column", "", "Mean in training", "Now", "Index", "Shift / level", "Outside", "Missing")
    more = len(row.drift.columns) - len(rows)
    return Rows(
        f"Version {row.version}, {day(row.start)}",
        f"{row.events:,} events. Outside is the share beyond the training slice's range."
        + (f" {more} more columns: `driftloop models drift --json`." if more > 0 else ""),
        head,
        rows,
    )


def _middle(row: DriftRow) -> float:
    """Days since 1970: matplotlib's dates."""
    return (row.start + row.span / 2) / _DAY


def _ratio(row: DriftRow) -> float:
    return row.drift.ratio if row.drift is not None else math.nan


def _shift(row: DriftRow, name: str) -> float:
    """A column's shift over the level."""
    if row.drift is None:
        return math.nan
    found = (one.shift for one in row.drift.columns if one.column == name)
    return next(found, math.nan) / row.drift.level
