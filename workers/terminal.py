"""The terminal: where commands print, how others' text is shown, and a common argument."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

console = Console(stderr=True, highlight=False)
"""Standard error: progress and errors."""
out = Console(highlight=False)
"""Standard output: what was asked for."""


def plain(text: object) -> str:
    """Text that comes from elsewhere, to be printed: no markup, and control characters spelt out.

    A record's bytes, a log line or a reason must not move the cursor, nor colour what follows.
    """
    spelt = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return escape("".join(spelt))


def note(line: object) -> None:
    """A line about progress, on standard error."""
    console.print(f"[dim]{plain(line)}[/]", soft_wrap=True)


Module = Annotated[
    str,
    typer.Argument(
        envvar="DRIFTLOOP_PIPELINE",
        metavar="MODULE",
        help="Module that declares the pipeline, as in streams.pipelines.card_fraud, or its file.",
    ),
]
