"""Text that comes from elsewhere is shown, not obeyed."""

from __future__ import annotations

import sys
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from rich.console import Console

from workers import terminal
from workers.terminal import StatusLine, note, plain, spell_out


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


def test_a_terminal_that_is_not_utf_8_gets_what_it_has_no_sign_for_spelt_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(sent, encoding="ascii"))
    spell_out()
    Console().print("Übung │ 名", end="")
    sys.stdout.flush()
    assert sent.getvalue() == b"\\xdcbung \\u2502 \\u540d"


def test_the_status_is_printed_seldom_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, now = StringIO(), [50.0]
    monkeypatch.setattr(terminal, "console", Console(file=out, width=200, force_terminal=False))
    with StatusLine(lambda: now[0]) as line:
        for now[0], text in zip(
            (50.0, 51.0, 59.0, 61.0, 99.0), ("one", "two", "three", "three", "three"), strict=True
        ):
            line.show(text)
    assert out.getvalue() == "one\nthree\n"


def test_on_a_terminal_it_is_one_line_below_what_is_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(terminal, "console", console)
    with StatusLine() as line:
        line.show("1 event")
        note("serving (version 3)")
        line.show("2 events")
    assert "serving (version 3)\n" in out.getvalue()
    assert out.getvalue().rindex("2 events") > out.getvalue().index("serving")
