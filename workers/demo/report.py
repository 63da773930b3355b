"""The demo's report: what the loop was worth by day, against versions that were left alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from streams.records import LedgerEntry
from workers.demo.quality import Alone, DayMetric, Quality, mean
from workers.demo.source import DAY
from workers.evaluation.daily import DayQuality
from workers.reports.drawing import CYCLE, FAINT, LINE, legend
from workers.reports.over_time import Mark, date_axis, draw_marks
from workers.reports.page import Page, Picture, Rows, Section

METRICS: tuple[tuple[str, DayMetric], ...] = (
    ("Average precision", lambda day: day.ap),
    ("AUC", lambda day: day.auc),
    ("Card precision @100", lambda day: day.cp100),
)
_BLOCKING = METRICS[-1][0]
"""The metric whose day depends on the days before."""


@dataclass(frozen=True)
class Run:
    """What the report is of."""

    quality: Quality
    promotions: Sequence[tuple[int, int]]
    """Version, and the day on which it began to serve."""
    rates: Sequence[tuple[float, float]]
    """Seconds, and predictions per second."""
    summary: Sequence[tuple[str, str]]
    mistake: Sequence[LedgerEntry]
    """What the ledger says of the bad version that was let in, oldest first."""
    start: float
    """The world's day 0, seconds since 1970."""


def demo_report(run: Run) -> Page:
    """The page."""
    found = run.quality
    return Page(
        title="Card fraud: the loop against versions left alone",
        says="Each day's payments as they were scored while they streamed, by whichever version "
        "served then, against the same vectors scored by one version on all later days. Dotted "
        f"lines are promotions. {first_weeks(found)}",
        sections=[
            Section("Quality by day", worth(found), [_curves(run, *one) for one in METRICS]),
            _mistake(run),
            Section("Pace", "", [_pace(run.rates)]),
            Section("Summary", "", (), [Rows("", "", (), run.summary)]),
        ],
    )


def _mistake(run: Run) -> Section:
    """The bad version: what was said of it, and when."""
    title = "A bad version, thrown out"
    if not run.mistake:
        return Section(title, "None was let in: the stream ended before.")
    version = run.mistake[0].version
    says = (
        f"Version {version} is the champion of its day, for amounts in cents. It was let in past "
        "the gate, as a version would be whose judges made the mistake of its makers. In the "
        "shadow it scores what the champion serves, and nobody is served its scores."
    )
    rows = [
        (
            f"{entry.action} by {entry.by}",
            f"day {(entry.event_time - run.start) / DAY:.1f}" if entry.event_time else "",
            entry.reason,
        )
        for entry in run.mistake
    ]
    return Section(title, says, (), [Rows("", "", ("Step", "When", "Why"), rows)])


def first_weeks(found: Quality) -> str:
    """Why the first weeks are as they are."""
    return (
        f"Until day {found.warm_day} (grey) the longest windows are still filling. A version that "
        "learns from half-filled windows misreads full ones, so each one soon does worse left "
        "alone, and most of what the loop wins over its first version is that windows warm up."
    )


def worth(found: Quality) -> str:
    """What the loop is worth against a version that learnt from full windows."""
    if found.warm is None:
        return (
            "No version has learnt from full windows only yet, and served: the loop has nothing "
            "to be compared with but its beginnings. Stream more days (--days 84)."
        )
    metric = METRICS[0][1]
    gain, low, high = found.warm.gain(metric)
    said = (
        f"On its {len(found.warm.alone)} days the first version has an average precision of "
        f"{mean(found.first_when_warm, metric):.3f}, version {found.warm.version}, the first that "
        f"learnt from full windows, left alone {mean(found.warm.alone, metric):.3f}, the loop "
        f"{mean(found.warm.loop, metric):.3f}: {gain:+.3f} (95 % interval {low:+.3f} to "
        f"{high:+.3f}) against the warm version. "
    )
    if low > 0:
        return f"{said}Retraining was worth that much."
    if high < 0:
        return f"{said}Retraining lost that much: the gate lets pass what is within its margin."
    return (
        f"{said}No difference is proven: these frauds do not change their ways, so once windows "
        "are full retraining has nothing to win, and must lose nothing."
    )


def quality_rows(found: Quality) -> Iterator[tuple[str, str]]:
    """The summary's rows: means per day, each of the same days."""
    for title, one in (("first version alone", found.first), ("warm version alone", found.warm)):
        if one is not None:
            for name, metric in METRICS:
                yield f"{name}, {title}", _row(one, metric)


def _row(one: Alone, metric: DayMetric) -> str:
    gain, low, high = one.gain(metric)
    return (
        f"version {one.version} {mean(one.alone, metric):.3f}, the loop "
        f"{mean(one.loop, metric):.3f}: {gain:+.3f} [{low:+.3f}, {high:+.3f}], "
        f"{len(one.loop)} days"
    )


def _curves(run: Run, name: str, metric: DayMetric) -> Picture:
    found, blocking = run.quality, name == _BLOCKING
    lines = [(f"version {found.first.version} alone", found.first.alone, FAINT)]
    if found.warm is not None and not blocking:
        lines.append((f"version {found.warm.version} alone", found.warm.alone, CYCLE[1]))
    lines.append(("the loop", found.first.loop, CYCLE[0]))
    marks = [
        Mark(run.start + day * DAY, f"version {version}", back=False)
        for version, day in run.promotions
    ]

    def draw(axes: Axes) -> None:
        first = run.start / DAY
        axes.axvspan(first, first + found.warm_day, color=LINE, alpha=0.4, lw=0)
        for label, days, colour in lines:
            values = [_value(day, metric) for day in days]
            axes.plot([first + day.day for day in days], values, color=colour, label=label)
        draw_marks(axes, marks)
        date_axis(axes)
        axes.set_xlim(left=first + min(found.warm_day, found.first.loop[0].day) - 3)
        legend(axes)

    said = (
        f"In the mean of these days the loop has {mean(found.first.loop, metric):.3f}, its first "
        f"version left alone {mean(found.first.alone, metric):.3f}."
    )
    if blocking:
        said += (
            " A card that was found is blocked, so that what begins later finds more: the warm "
            "version is compared in the summary."
        )
    return Picture(name.split(maxsplit=1)[0].lower(), name, said, draw)


def _value(day: DayQuality, metric: DayMetric) -> float:
    value = metric(day)
    return float("nan") if value is None else value


def _pace(rates: Sequence[tuple[float, float]]) -> Picture:
    def draw(axes: Axes) -> None:
        axes.plot([at for at, _ in rates], [rate for _, rate in rates], color=CYCLE[0])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("seconds")
        axes.set_ylabel("predictions per second")

    return Picture(
        "pace",
        "Predictions per second",
        "The feeder waits where the trainer has fallen behind, so that each candidate has its "
        "weeks: those are the gaps.",
        draw,
    )
