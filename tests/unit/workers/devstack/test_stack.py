"""The parts of the embedded stack are checked; what a machine lacks is said in one line."""

from __future__ import annotations

import hashlib
import json
import sys
import sysconfig
from collections import namedtuple
from pathlib import Path
from typing import Any

import psutil
import pytest

from streams.errors import ConfigurationError
from streams.settings import Settings
from workers.devstack import cache
from workers.devstack.stack import Stack
from workers.devstack.state import Addresses, read_stack, running, write_stack

GOOD = b"a jar"
Version = namedtuple("Version", "major minor")


def silent(line: str) -> None:
    del line


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds the one jar that is pinned; returns the jar."""
    pins = tmp_path / "pins.txt"
    pins.write_text(f"org.example:thing:1.0 {hashlib.sha256(GOOD).hexdigest()}\n")
    monkeypatch.setattr(cache, "JARS", pins)
    home = tmp_path / "cache" / "kafka" / hashlib.sha256(pins.read_bytes()).hexdigest()[:12]
    home.mkdir(parents=True)
    jar = home / "thing-1.0.jar"
    jar.write_bytes(GOOD)
    return jar


def test_jars_that_are_there_and_as_pinned_are_used(pinned: Path, tmp_path: Path) -> None:
    assert cache.jars(tmp_path / "cache", silent) == [pinned]


@pytest.mark.parametrize("content", [b"another jar", None])
def test_a_jar_that_is_not_the_pinned_one_is_refused(
    pinned: Path, tmp_path: Path, content: bytes | None
) -> None:
    if content is None:
        pinned.unlink()
    else:
        pinned.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"org\.example:thing:1\.0 is not the pinned file"):
        cache.jars(tmp_path / "cache", silent)


def test_all_jars_and_packages_are_pinned_by_hash() -> None:
    lines = cache.JARS.read_text().splitlines()
    assert all(len(line.split()[1]) == 64 and line.count(":") == 2 for line in lines)
    requirements = cache.TRITON_REQUIREMENTS.read_text()
    assert requirements.count("==") <= requirements.count("--hash=sha256:")
    assert "numpy==1." in requirements  # with numpy 2 the Python backend answers nothing


def test_another_python_is_told_what_to_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", Version(3, 14))
    with pytest.raises(ConfigurationError, match=r"needs Python 3\.11 or 3\.12, this is 3\.14"):
        cache.triton(tmp_path, silent)


def test_a_python_without_its_library_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nowhere: dict[str, Any] = {"INSTSONAME": "libpython9.a", "MULTIARCH": "none"}
    monkeypatch.setattr(sysconfig, "get_config_var", nowhere.get)
    monkeypatch.setattr(Path, "exists", lambda self: False)
    with pytest.raises(ConfigurationError, match=f"libpython{sys.version_info.major}"):
        cache._libpython()


def test_a_cache_that_cannot_be_written_names_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="set DRIFTLOOP_CACHE_DIR"):
        cache.jars(tmp_path / "file" / "below", silent)


@pytest.mark.parametrize("started", [0.0, None])
def test_a_stack_file_that_another_process_left_counts_for_nothing(
    tmp_path: Path, started: float | None
) -> None:
    settings = Settings(state_dir=tmp_path)
    home = tmp_path / "stack"
    home.mkdir()
    write_stack(settings, Addresses("kafka:1", "triton:2", "redis:3"), {})
    assert read_stack(settings) is not None
    left = {**json.loads((home / "stack.json").read_text()), "started": started}
    (home / "stack.json").write_text(json.dumps(left) if started is not None else "{broken")
    assert read_stack(settings) is None
    assert running(settings) is None


def test_a_clock_that_is_stepped_does_not_hide_a_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path)
    (tmp_path / "stack").mkdir()
    write_stack(settings, Addresses("kafka:1", "triton:2", "redis:3"), {})
    # psutil reckons from the time of the boot, which Linux moves with the clock
    created = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + 3600.0)
    assert running(settings) is not None


def test_two_stacks_do_not_share_a_directory(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    first, second = Stack(settings), Stack(settings)
    first._home.mkdir()
    with first._lock, pytest.raises(ConfigurationError, match="already up"):
        second.start()
