"""The demo's report: one HTML file with its curves, readable without a network."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workers.demo.measures import Quality
from workers.evaluation.daily import DayQuality

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse }
th { text-align: left; font-weight: 500; padding: .15rem 1.5rem .15rem 0 }
td { font-variant-numeric: tabular-nums }
"""
LOOP, FIRST = "#1f77b4", "#b8b8b8"
METRICS: tuple[tuple[str, Callable[[DayQuality], float | None]], ...] = (
    ("AUC", lambda day: day.auc),
    ("Average precision", lambda day: day.ap),
    ("Card precision @100", lambda day: day.cp100),
)


@dataclass(frozen=True)
class Moment:
    """A version's promotion, for the marks on the curves."""

    version: int
    day: int


def mean(days: Sequence[DayQuality], metric: Callable[[DayQuality], float | None]) -> float:
    """Mean over the days that have the metric."""
    found = [value for day in days if (value := metric(day)) is not None]
    return sum(found) / len(found) if found else float("nan")


def write_report(
    path: Path,
    quality: Quality,
    promotions: Sequence[Moment],
    rates: Sequence[tuple[float, float]],
    summary: Sequence[tuple[str, str]],
    start: date,
) -> None:
    """Write the page; `rates` are (seconds, events per second)."""
    curves = _curves(quality, promotions, start).to_html(full_html=False, include_plotlyjs=True)
    pace = _pace(rates).to_html(full_html=False, include_plotlyjs=False)
    rows = "".join(
        f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in summary
    )
    path.write_text(
        f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Driftloop demo</title>
<style>{_STYLE}</style></head><body>
<h1>Card fraud: the loop against its first version</h1>
<p>Each day's payments as they were scored while they streamed, by whichever version served then,
against the same vectors scored by the first version left alone. Dotted lines: promotions.</p>
{curves}<h2>Pace</h2>{pace}<h2>Summary</h2><table>{rows}</table></body></html>"""
    )


def _curves(quality: Quality, promotions: Sequence[Moment], start: date) -> Any:
    figure = make_subplots(
        rows=len(METRICS),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.06,
        subplot_titles=[name for name, _ in METRICS],
    )
    for row, (_, metric) in enumerate(METRICS, 1):
        for name, days, colour in (
            ("first version", quality.first, FIRST),
            ("the loop", quality.loop, LOOP),
        ):
            figure.add_trace(
                go.Scatter(
                    x=[start + timedelta(days=day.day) for day in days],
                    y=[metric(day) for day in days],
                    name=name,
                    line={"color": colour, "width": 2.5},
                    legendgroup=name,
                    showlegend=row == 1,
                ),
                row=row,
                col=1,
            )
        for moment in promotions:
            figure.add_vline(
                x=str(start + timedelta(days=moment.day)),
                line_dash="dot",
                line_color="#999",
                row=row,
                col=1,
            )
    figure.update_layout(
        height=780,
        template="plotly_white",
        margin={"t": 40, "b": 20},
        legend={"orientation": "h", "y": 1.08},
    )
    return figure


def _pace(rates: Sequence[tuple[float, float]]) -> Any:
    figure = go.Figure(
        go.Scatter(x=[at for at, _ in rates], y=[rate for _, rate in rates], line={"color": LOOP})
    )
    figure.update_layout(
        height=260,
        template="plotly_white",
        margin={"t": 10},
        xaxis_title="seconds",
        yaxis_title="predictions per second",
    )
    return figure
