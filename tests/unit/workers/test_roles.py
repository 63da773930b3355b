"""A worker and the training process load only what they need."""

from __future__ import annotations

import subprocess
import sys

import pytest

REPORT = "import sys, {module}; print(*sys.modules)"


@pytest.mark.parametrize("module", ["workers.roles", "workers.training.child"])
def test_neither_the_command_line_nor_an_engine_is_loaded(module: str) -> None:
    command = [sys.executable, "-c", REPORT.format(module=module)]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert module in loaded
    assert not {"typer", "click", "faust", "torch"} & set(loaded)
