"""Text that comes from elsewhere is shown, not obeyed."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from workers import terminal
from workers.terminal import note, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words, übung 名前", "plain words, übung 名前"),
        ("[/x] [red]x[/red] \\[a]", "[/x] [red]x[/red] \\[a]"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("abc\u202edcba\u2066", "abc\\u202edcba\\u2066"),
        ("ends with \\", "ends with \\"),
    ],
)
def test_markup_and_control_characters_are_spelt_out(text: str, shown: str) -> None:
    out = StringIO()
    Console(file=out, width=200, force_terminal=False).print(f"[bold]{plain(text)}[/]", end="")
    assert out.getvalue() == shown


def test_a_line_of_a_log_never_ends_who_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    out = StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=out, width=200, force_terminal=False))
    note("score-1 ended (exit code 1): [/x] \x1b[31m [link=")
    assert out.getvalue() == "score-1 ended (exit code 1): [/x] \\x1b[31m [link=\n"
