"""A worker that ends is started again, and why it ended is said once while that does not change."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.waiting import until
from workers.processes import supervisor
from workers.processes.supervisor import Command, Supervisor


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Workers are programs that do what the file `now` in this folder says."""
    (tmp_path / "python").write_text(f"#!/bin/sh\ncd {tmp_path}\necho run >> runs\n. ./now\n")
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "runs").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return tmp_path


def say(home: Path, words: str, code: int) -> None:
    """What workers say from now on, and the code that they end with."""
    (home / "next").write_text(f"echo '{words}'\nexit {code}\n")
    (home / "next").rename(home / "now")


async def test_a_worker_that_keeps_ending_is_told_once_for_each_cause(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_pause(delay: float, stopping: asyncio.Event) -> None:
        del delay, stopping

    monkeypatch.setattr(supervisor, "_pause", no_pause)
    told = list[str]()

    def runs() -> int:
        return (home / "runs").read_text().count("run")

    (home / "now").write_text('echo "error: no Redis $$"\nexit 1\n')
    async with Supervisor([Command("score-1", [], {})], home / "logs", told.append):
        await until(lambda: runs() >= 3)
        assert len(told) == 1
        assert re.match(r"score-1 ended \(exit code 1\): no Redis \d+ - restarting", told[0])
        (home / "now").write_text("echo 'error: from before'\nkill -9 $$\n")
        await until(lambda: len(told) == 2)
        assert told[1].startswith("score-1 ended (SIGKILL, out of memory?) - restarting")
        say(home, "error: too many bad records", 3)
        await until(lambda: any("not restarted" in line for line in told))
        known = runs()
    assert told[-1] == "score-1 has stopped and is not restarted: too many bad records"
    assert runs() == known
