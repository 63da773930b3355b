"""The Makefile's promises that can be kept without running a set-up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
REQUIREMENTS = ROOT / "requirements"
MAKE = shutil.which("make") or "make"
TARGETS = {
    "help",
    "setup",
    "demo",
    "up",
    "test",
    "bench",
    "profile",
    "faults",
    "worlds",
    "house",
    "lint",
    "lock",
}


def make(
    *arguments: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    base = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    return subprocess.run(
        [MAKE, "--no-print-directory", "--file", str(ROOT / "Makefile"), *arguments],
        cwd=cwd,
        env={**base, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def phony_targets() -> set[str]:
    declared = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert declared
    return set(declared[1].split()) - {"FORCE"}


def test_help_is_the_default_and_describes_every_target() -> None:
    shown = make()
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == make("help").stdout
    described = dict(re.findall(r"^  make (\w+) +(\S.*)$", shown.stdout, re.MULTILINE))
    assert described.keys() == phony_targets() == TARGETS
    for knob in ("PYTHON=", "VENV=", "PIPELINE=", "ARGS="):
        assert f"\n  {knob}" in shown.stdout


def test_help_needs_nothing_on_the_path(tmp_path: Path) -> None:
    shown = make("help", env={"PATH": str(tmp_path)})
    assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize("target", sorted(TARGETS - {"help"}))
def test_every_target_sets_up_what_it_needs(target: str, tmp_path: Path) -> None:
    planned = make("--dry-run", target, f"VENV={tmp_path / 'fresh'}")
    assert planned.returncode == 0, planned.stderr
    assert "-m venv" in planned.stdout
    assert "--require-hashes -r requirements/uv.txt" in planned.stdout
    if target != "lock":
        assert "--require-hashes requirements/dev.txt" in planned.stdout


def stamped(directory: Path, made_in: Path) -> Path:
    """An environment as a finished set-up leaves it, of links and stamps only."""
    venv = directory / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    for stamp in (".driftloop-tools", ".driftloop-ready"):
        (venv / stamp).write_text(f"{made_in}\n")
    return venv


def test_set_up_is_not_repeated(tmp_path: Path) -> None:
    planned = make("--dry-run", "demo", f"VENV={stamped(tmp_path, ROOT)}")
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.splitlines() == [f"exec {tmp_path}/venv/bin/driftloop demo "]


def test_an_environment_of_a_moved_clone_is_made_anew(tmp_path: Path) -> None:
    planned = make("--dry-run", "demo", f"VENV={stamped(tmp_path, Path('/elsewhere'))}")
    assert "-m venv" in planned.stdout


def test_an_environment_without_an_interpreter_is_made_anew(tmp_path: Path) -> None:
    venv = stamped(tmp_path, ROOT)
    (venv / "bin" / "python").unlink()
    assert "-m venv" in make("--dry-run", "demo", f"VENV={venv}").stdout


def test_set_up_follows_a_changed_lock_file(tmp_path: Path) -> None:
    venv = stamped(tmp_path, ROOT)
    ready = (venv / ".driftloop-ready").stat().st_mtime
    assert ready > (REQUIREMENTS / "dev.txt").stat().st_mtime
    planned = make("--dry-run", "--what-if", "requirements/dev.txt", "demo", f"VENV={venv}")
    assert "uv pip sync" in planned.stdout
    assert "-m venv" not in planned.stdout


def test_up_takes_a_pipeline_and_arguments(tmp_path: Path) -> None:
    venv = stamped(tmp_path, ROOT)
    planned = make("--dry-run", "up", f"VENV={venv}", "PIPELINE=my.pipeline", "ARGS=--workers 2")
    assert planned.stdout.splitlines() == [f"exec {venv}/bin/driftloop up my.pipeline --workers 2"]


@pytest.mark.parametrize(
    ("alone", "served", "faults", "code"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 1),
        (0, 1, 0, 1),
        (0, 0, 1, 1),
        (5, 0, 5, 0),
        (0, 5, 5, 0),
        (5, 5, 0, 0),
        (5, 5, 5, 5),
        (2, 5, 5, 2),
    ],
)
def test_tests_pass_where_all_parts_do_and_some_may_have_none(
    alone: int, served: int, faults: int, code: int, tmp_path: Path
) -> None:
    venv = stamped(tmp_path, ROOT)
    script = f"""#!/bin/sh
case "$*" in
*"pytest -n 2 tests/unit "*) exit {alone};;
*"--ignore=tests/unit "*) exit {served};;
*"pytest tests/faults"*) exit {faults};;
esac
"""
    for name in ("python", "ruff", "lint-imports"):
        (venv / "bin" / name).unlink(missing_ok=True)
        (venv / "bin" / name).write_text(script)
        (venv / "bin" / name).chmod(0o755)
    done = make("test", f"VENV={venv}")
    assert (done.returncode != 0) == (code != 0), done.stderr
    assert code == 0 or f"Error {code}" in done.stderr


def interpreter(directory: Path, script: str) -> Path:
    path = directory / "python-of-test"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('test "$1" = --version && echo Python 3.9.2; exit 1', "needs Python 3.11, 3.12 or 3.13"),
        ('case "$2" in *ensurepip*) exit 1;; esac; echo Python 3.12.1', "lacks its venv module"),
    ],
)
def test_an_unfit_python_is_refused_in_one_line(script: str, message: str, tmp_path: Path) -> None:
    python = interpreter(tmp_path, script)
    refused = make("demo", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
    assert refused.returncode == 2
    ours = [line for line in refused.stderr.splitlines() if line.startswith("make: ")]
    assert len([line for line in ours if "***" not in line]) == 1
    assert message in ours[0]
    assert str(python) in ours[0]
    assert not (tmp_path / "venv").exists()


def test_a_missing_python_is_named_in_one_line(tmp_path: Path) -> None:
    refused = make("demo", "PYTHON=python-of-nobody", f"VENV={tmp_path / 'venv'}")
    assert refused.returncode == 2
    assert refused.stderr.startswith("make: no `python-of-nobody` on the PATH: install Python")


def test_ci_runs_what_people_run() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert lines[-1] == "exec make test"


def pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==(\S+)", (REQUIREMENTS / name).read_text(), re.MULTILINE)
    return dict(found)


def test_lock_files_agree_and_carry_hashes() -> None:
    everything = pins("dev.txt")
    for name in ("runtime.txt", "uv.txt"):
        assert pins(name).items() <= everything.items(), f"{name} is stale: run `make lock`"
    for path in REQUIREMENTS.glob("*.txt"):
        for entry in re.split(r"\n(?=[a-z0-9])", path.read_text()):
            assert entry.startswith("#") or "--hash=sha256:" in entry, f"{path.name}: {entry[:60]}"


def test_lock_files_name_no_place() -> None:
    for path in REQUIREMENTS.glob("*.txt"):
        text = path.read_text()
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links|file:", text), path.name
