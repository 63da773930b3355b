"""The command line, from within a test that has an event loop of its own."""

from __future__ import annotations

import threading

import pytest
from typer.testing import CliRunner

from streams.settings import Settings
from workers.cli import app
from workers.environment import environment
from workers.terminal import out


def shown(settings: Settings, monkeypatch: pytest.MonkeyPatch, *asked: str) -> str:
    """What a command prints, which has to succeed."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(out, "width", 200)
    found = []

    def invoke() -> None:
        found.append(CliRunner().invoke(app, [*asked]))

    thread = threading.Thread(target=invoke)
    thread.start()
    thread.join()
    assert found[0].exit_code == 0, found[0].output
    said: str = found[0].output
    return said
