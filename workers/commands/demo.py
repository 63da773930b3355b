"""`driftloop demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table

from streams.errors import ConfigurationError
from workers.terminal import out

if TYPE_CHECKING:
    from workers.replays.figures import Figures, Outcome

_SIMULATED = ("card_fraud", "streams.pipelines.card_fraud")


def demo(
    days: Annotated[int, typer.Option(min=21, max=183, help="Days of payments to stream.")] = 84,
    minutes: Annotated[float, typer.Option(min=0.1, help="Minutes to spread them over.")] = 4.0,
    report: Annotated[Path, typer.Option(help="Where to write the curves.")] = Path(
        "demo-report.html"
    ),
    pipeline: Annotated[
        str, typer.Option(help="Another pipeline than card fraud, on its world of real data.")
    ] = "card_fraud",
    world: Annotated[
        str, typer.Option(help="Its world, where that is named otherwise than it.")
    ] = "",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Of the world, the first events only.")
    ] = None,
    since: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Judge from this share of the labels on.")
    ] = 0.4,
    json: Annotated[Path | None, typer.Option(help="Write what came out to a file.")] = None,
) -> None:
    """Stream a world through the whole loop, and judge what came out.

    Without --pipeline: twelve weeks of card payments. With one: all of its world, as fast as it can
    be learnt from, beside the first version left alone.
    """
    if pipeline not in _SIMULATED:
        _replay(pipeline, world, limit, since, json)
        return
    if world or limit or json:
        raise ConfigurationError(
            "--world, --limit and --json are of another --pipeline than card_fraud"
        )
    from workers.demo.progress import Plan
    from workers.demo.run import run_demo

    if not run_demo(Plan(days, minutes, report)):
        raise typer.Exit(1)


def _replay(module: str, world: str, limit: int | None, since: float, json: Path | None) -> None:
    from workers.replays.run import ReplayPlan, replay

    found = replay(ReplayPlan(module, world, limit, since))
    if found is None:
        raise typer.Exit(1)
    _print(found)
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    if found.early:
        raise typer.Exit(1)


def _print(found: Outcome) -> None:
    """A table of what was served beside the first version."""
    [everything, *_] = found.spans
    title = (
        f"{found.events:,} events, {found.judged:,} of them judged; "
        f"{len(found.promoted)} versions became champion"
    )
    table = Table(title=title, title_justify="left")
    for column in ("events", "", *everything.loop):
        table.add_column(column, justify="right" if column else "left")
    for span in found.spans:
        for who, figures in (("the loop", span.loop), ("first version alone", span.alone)):
            name = f"{span.name}: {span.events:,}" if who == "the loop" else ""
            table.add_row(name, who, *(_shown(figures, one) for one in everything.loop))
    out.print(table)
    said = "none" if not found.early else f"{found.early:,}"
    out.print(f"served by a version that had learnt a label before it was known: {said}")


def _shown(figures: Figures, name: str) -> str:
    return f"{figures[name]:.4f}" if name in figures else ""
