"""Pictures over event time: quality with its intervals and roll-outs, alerts, labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from workers.reports import of_values
from workers.reports.drawing import BAD, CYCLE, FAINT, legend
from workers.reports.page import Picture
from workers.reports.series import Ints, Point, interval, support

WORDS = {
    "average_precision": "average precision",
    "roc_auc": "AUC",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
}
_DAY = 86_400.0
_MOST_NAMED = 6
"""More versions than colours are told apart by the marks of their promotions alone."""
_MOST_LABELS = 8


@dataclass(frozen=True)
class Mark:
    """A step of a roll-out in a picture."""

    at: float
    """Event time, seconds since 1970."""
    label: str
    back: bool
    """Whether a version was taken back."""


def quality(
    points: Sequence[Point], marks: Sequence[Mark], name: str, version: int
) -> Picture | None:
    """A measure by version with its 95 % interval; None where it is defined nowhere.

    The sentence is about `version`, if that has the measure.
    """
    lines = _lines(points, lambda point: _measured(point, name))
    if not lines:
        return None
    word = WORDS.get(name) or of_values.word(name) or name
    worse, digits = ("above", ".4g") if of_values.errs(name) else ("below", ".3f")
    bands = [
        [interval(p.total, name, value) for p, value in zip(line.points, line.values, strict=True)]
        for line in lines
    ]

    def draw(axes: Axes) -> None:
        for line, band in zip(lines, bands, strict=True):
            _draw_line(axes, line)
            low, high = zip(*band, strict=True)
            axes.fill_between(line.times, low, high, color=line.colour, alpha=0.18, linewidth=0)
            if len(band) == 1:  # a band of one point has no width
                axes.vlines(line.times, low, high, color=line.colour, alpha=0.4)
        draw_marks(axes, marks)
        _finish(axes, word, named=len(lines) <= _MOST_NAMED)

    line, band = max(
        zip(lines, bands, strict=True),
        key=lambda one: (one[0].version == version, one[0].points[-1].start),
    )
    ripe = [i for i, point in enumerate(line.points) if not point.young]
    last = ripe[-1] if ripe else -1
    value, low, high = (f"{one:{digits}}" for one in (line.values[last], *band[last]))
    return Picture(
        name=name.replace("_", "-"),
        title=f"{word[0].upper()}{word[1:]} by version",
        says=f"{_called(line.version).capitalize()} has {value} (95 % interval "
        f"{low} to {high}) in its latest {'complete ' if ripe else ''}step. The band "
        "narrows as labels mature; hollow points are of a step whose labels still come. Where the "
        f"band of a version lies {worse} that of the one before: `driftloop rollback`.",
        draw=draw,
    )


def alerts(points: Sequence[Point], classes: Sequence[str]) -> Picture | None:
    """The share of events that each class but the first was decided for, and had as its label."""
    steps = _totals(points)
    if not steps:
        return None
    shown = list(range(1, min(len(classes), 1 + len(CYCLE))))

    def draw(axes: Axes) -> None:
        for number, one in enumerate(shown):
            times = [_date(at) for at, _ in steps]
            events = np.array([confusion.sum() for _, confusion in steps])
            decided = np.array([confusion[:, one].sum() for _, confusion in steps]) / events
            labelled = np.array([confusion[one].sum() for _, confusion in steps]) / events
            colour, of = CYCLE[number], f" {classes[one]}" if len(shown) > 1 else ""
            axes.plot(times, decided, color=colour, marker="o", ms=3, label=f"decided{of}")
            axes.plot(times, labelled, color=colour, ls=":", label=f"labelled{of}")
        axes.set_ylim(bottom=0)
        _finish(axes, "share of events", named=len(shown) <= _MOST_NAMED // 2)

    _, last = steps[-1]
    decided, labelled = float(last[:, 1:].sum()), float(last[1:].sum())
    names = classes[1] if len(classes) == 2 else f"other than {classes[0]}"
    return Picture(
        name="alerts",
        title="Alert volume",
        says=f"In the newest step {decided / last.sum():.2%} of the events were decided {names}, "
        f"and {labelled / last.sum():.2%} were it. Where the two lines part, the threshold has "
        "grown old: a new version brings its own.",
        draw=draw,
    )


def coverage(points: Sequence[Point], missing: str) -> Picture | None:
    """The share of matured events whose label came as feedback; `missing` is what others get."""
    return _counted(
        points,
        "coverage",
        "Label coverage",
        lambda p: p.total.fed_back / p.total.events,
        "share with a label",
        lambda value: (
            f"{value:.1%} of the events of the newest step had a label when their horizon passed; "
            f"the others {missing}. A fall means that feedback does not arrive: look at who sends "
            "it, and at `driftloop dlq list`."
        ),
    )


def delay(points: Sequence[Point]) -> Picture | None:
    """The mean time from an event to its label."""
    return _counted(
        [point for point in points if point.total.fed_back > 0],
        "label-delay",
        "Label delay",
        lambda p: p.total.delay / p.total.fed_back / _DAY,
        "days",
        lambda value: (
            f"A label came {value:.2g} days after its event, in the mean of the newest step. "
            "Where this nears the horizon, labels will be missed: lengthen `feedback.horizon`."
        ),
    )


def _counted(
    points: Sequence[Point],
    name: str,
    title: str,
    value: Callable[[Point], float],
    unit: str,
    says: Callable[[float], str],
) -> Picture | None:
    lines = _lines(points, value)
    if not lines:
        return None

    def draw(axes: Axes) -> None:
        for line in lines:
            _draw_line(axes, line)
        axes.set_ylim(bottom=0)
        _finish(axes, unit, named=len(lines) <= _MOST_NAMED)

    newest = max(points, key=lambda point: (point.start, point.total.events))
    return Picture(name, title, says(value(newest)), draw)


@dataclass(frozen=True)
class _Line:
    """A version's values, in the order of event time."""

    version: int
    colour: str
    points: list[Point]
    values: list[float]

    @property
    def times(self) -> list[float]:
        return [_date(point.middle) for point in self.points]


def _lines(points: Sequence[Point], value: Callable[[Point], float | None]) -> list[_Line]:
    """A line for each version that has a value."""
    lines = dict[int, _Line]()
    for point in points:
        found = value(point)
        if found is not None:
            number = len(lines.keys() - {0})
            colour = CYCLE[number % len(CYCLE)] if point.version else FAINT
            line = lines.setdefault(point.version, _Line(point.version, colour, [], []))
            line.points.append(point)
            line.values.append(found)
    return list(lines.values())


def _measured(point: Point, name: str) -> float | None:
    """A measure; None where it is not defined, or of no event at all."""
    return point.total.measures().get(name) if support(point.total, name) else None


def _totals(points: Sequence[Point]) -> list[tuple[float, Ints]]:
    """Each step's middle and confusion, of all versions together."""
    steps = dict[float, Ints]()
    for point in points:
        before = steps.get(point.middle, np.zeros_like(point.total.confusion))
        steps[point.middle] = before + point.total.confusion
    return sorted(steps.items(), key=lambda step: step[0])


def _draw_line(axes: Axes, line: _Line) -> None:
    axes.plot(line.times, line.values, color=line.colour, label=_called(line.version))
    for young, face in ((False, line.colour), (True, "none")):
        rows = [i for i, point in enumerate(line.points) if point.young is young]
        if rows:
            times, values = [line.times[i] for i in rows], [line.values[i] for i in rows]
            axes.plot(times, values, "o", ms=4, color=line.colour, markerfacecolor=face)


def draw_marks(axes: Axes, marks: Sequence[Mark]) -> None:
    """Lines at the steps of roll-outs; the latest are named."""
    for number, mark in enumerate(reversed(marks)):
        colour = BAD if mark.back else FAINT
        axes.axvline(_date(mark.at), color=colour, lw=0.8, ls="--" if mark.back else ":")
        if number < _MOST_LABELS:
            axes.annotate(
                mark.label,
                (_date(mark.at), 1),
                xycoords=("data", "axes fraction"),
                xytext=(2, -2),
                textcoords="offset points",
                rotation=90,
                va="top",
                fontsize=7,
                color=colour,
            )


def date_axis(axes: Axes) -> None:
    """Show the days since 1970 along a picture as dates."""
    axes.xaxis_date("UTC")
    locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _finish(axes: Axes, unit: str, named: bool) -> None:
    date_axis(axes)
    axes.set_ylabel(unit)
    if named:
        legend(axes)


def _called(version: int) -> str:
    return f"version {version}" if version else "the fallback"


def _date(at: float) -> float:
    """Days since 1970: matplotlib's dates."""
    return at / _DAY
