"""`driftloop demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    days: Annotated[int, typer.Option(min=21, max=183, help="Days of payments to stream.")] = 84,
    minutes: Annotated[float, typer.Option(min=0.1, help="Minutes to spread them over.")] = 4.0,
    report: Annotated[Path, typer.Option(help="Where to write the curves.")] = Path(
        "demo-report.html"
    ),
) -> None:
    """Stream twelve weeks of card payments through the whole loop, and judge what came out."""
    from workers.demo.progress import Plan
    from workers.demo.run import run_demo

    if not run_demo(Plan(days, minutes, report)):
        raise typer.Exit(1)
