"""A newcomer's machine: a path with a space and letters outside ASCII, and nothing there yet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streams.settings import Settings
from tests.models import linear
from tests.stack import own_stack
from workers.environment import environment

ROOT = Path(__file__).parents[2]
MODULE = """
from dataclasses import replace
from pathlib import Path
from tests.synthetic import declare
from streams.spec import Model
pipeline = replace(declare("own-model"), model=Model(onnx=Path("own model.onnx")))
"""


def train(folder: Path, settings: Settings) -> tuple[int, str]:
    """`driftloop train`, in the user's folder and a terminal that knows ASCII only."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DRIFTLOOP_")}
    ascii_only = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "workers.cli", "train", "own"],
        cwd=folder,
        env={**clean, **environment(settings), **ascii_only},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(240)
def test_a_model_serves_from_a_path_with_a_space_and_an_umlaut_and_again_after_a_restart(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "mein Übungs-Projekt 試"
    folder.mkdir()
    (folder / "own.py").write_text(MODULE)
    (folder / "own model.onnx").write_bytes(linear(4))
    with own_stack(folder / "state of it") as (_, settings):
        code, said = train(folder, settings)
        assert (code, "version 1 serves" in said) == (0, True), said
    with own_stack(folder / "state of it") as (_, settings):
        code, said = train(folder, settings)
        assert (code, "was published before" in said) == (0, True), said
