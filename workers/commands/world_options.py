"""The options of commands that take the events and labels of a world."""

from __future__ import annotations

from typing import Annotated

import typer

from workers.worlds.catalogue import WORLDS

WorldName = Annotated[
    str | None,
    typer.Option(
        "--world", help=f"Events and labels of real data, fetched once: {', '.join(WORLDS)}."
    ),
]
WorldLimit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Of a world, its first events and their labels."),
]
