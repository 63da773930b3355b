"""The terminal: where commands print, how others' text is shown, and a common argument."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

console = Console(stderr=True, highlight=False)
"""Standard error: progress and errors."""
out = Console(highlight=False)
"""Standard output: what was asked for."""
_SELDOM = 10.0
"""Seconds between two status lines where there is no terminal."""


def plain(text: object) -> str:
    """Text that comes from elsewhere, to be printed: no markup, and control characters spelt out.

    A record's bytes, a log line or a reason must not move the cursor, nor colour what follows.
    """
    spelt = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return escape("".join(spelt))


def note(line: object) -> None:
    """A line about progress, on standard error."""
    console.print(f"[dim]{plain(line)}[/]", soft_wrap=True)


class StatusLine:
    """A line on standard error that is kept up to date below what is printed meanwhile.

    Where that is no terminal, it is printed when it has changed, every ten seconds at most.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._said, self._said_at = "", -_SELDOM

    def __enter__(self) -> StatusLine:
        if console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, line: str) -> None:
        """Show a line in place of the one before."""
        if console.is_terminal:
            self._live.update(Text(line), refresh=True)
        elif line != self._said and self._clock() - self._said_at >= _SELDOM:
            self._said, self._said_at = line, self._clock()
            note(line)


def spell_out() -> None:
    """Make standard output take any text: what the terminal has no sign for is spelt out."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


Module = Annotated[
    str,
    typer.Argument(
        envvar="DRIFTLOOP_PIPELINE",
        metavar="MODULE",
        help="Module that declares the pipeline, as in streams.pipelines.card_fraud, or its file.",
    ),
]
