"""What ends a worker is what its process says last, in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKER = """
import sys
from streams.engine.app import BatchApp, Work
from streams.engine.process import run
from streams.errors import TooManyInvalid, Unavailable
from streams.settings import Settings
from workers import roles

ERRORS = {
    "away": Unavailable("Redis", "far:6379", "DRIFTLOOP_REDIS", "gone"),
    "bug": KeyError("amount"),
    "halted": TooManyInvalid("p.events", 0, 0.9, 10, "malformed"),
}

async def start():
    raise error

async def stop():
    pass

def app():
    work = Work("p", "score", ("p.events",), True, lambda number: None, start, stop)
    return BatchApp(work, Settings(kafka="127.0.0.1:1"))

roles.run_role = lambda role, module: run(app, "INFO")
error, sys.argv = ERRORS[sys.argv[1]], ["roles", "score", "m"]
roles.main()
"""


@pytest.mark.parametrize(
    ("what", "code", "last", "lines"),
    [
        ("away", 1, "error: cannot reach Redis at far:6379 (gone) - start it", 1),
        ("halted", 3, "error: 90% of the last 10 records of p.events, partition 0", 1),
        ("bug", 1, "error: unforeseen: KeyError: 'amount'", 60),
    ],
)
def test_the_last_line_is_the_cause(what: str, code: int, last: str, lines: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKER, what],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stderr.splitlines()
    assert (done.returncode, said[-1][: len(last)]) == (code, last), done.stderr
    assert len(said) <= lines, done.stderr
    assert "We experienced a crash" not in done.stderr
