"""The terminal: where commands print, and the argument that most of them take."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

console = Console(stderr=True, highlight=False)
"""Standard error: progress and errors."""
out = Console(highlight=False)
"""Standard output: what was asked for."""

Module = Annotated[
    str,
    typer.Argument(
        envvar="DRIFTLOOP_PIPELINE",
        metavar="MODULE",
        help="Module that declares the pipeline, as in streams.pipelines.card_fraud.",
    ),
]
