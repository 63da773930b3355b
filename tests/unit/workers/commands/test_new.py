"""What `driftloop new` writes is a pipeline that passes `check`, and a test that passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.errors import ConfigurationError
from workers.cli import app
from workers.commands.new import StarterKind, new


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", list(StarterKind))
def test_what_is_written_passes_check_and_its_own_test(kind: StarterKind, tmp_path: Path) -> None:
    written = CliRunner().invoke(app, ["new", f"my-{kind}", "--kind", kind])
    assert written.exit_code == 0, written.output
    module = f"my_{kind}"
    checked = CliRunner().invoke(app, ["check", f"{module}.py"])
    assert checked.exit_code == 0, checked.output
    assert f"ok my-{kind}" in checked.stdout
    done = subprocess.run(
        [sys.executable, "-c", f"import test_{module} as t; t.test_each_event_is_answered()"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_nothing_is_overwritten() -> None:
    Path("returns.py").write_text("mine")
    with pytest.raises(
        ConfigurationError, match=r"returns\.py is there already - use another name"
    ):
        new("returns", StarterKind.fraud)
    assert Path("returns.py").read_text() == "mine"
    assert not Path("test_returns.py").exists()


@pytest.mark.parametrize("name", ["Returns", "1st", "a b", "../up"])
def test_a_name_that_cannot_name_topics_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot name topics"):
        new(name, StarterKind.fraud)
    assert not list(Path().iterdir())
