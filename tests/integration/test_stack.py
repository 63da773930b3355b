"""The embedded stack mends itself, keeps its data, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from streams.settings import Settings
from tests.waiting import until_sync
from workers.devstack.stack import Stack
from workers.devstack.state import read_stack, running

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", model_repository=tmp_path / "models")


def test_a_server_that_dies_is_reported_and_comes_back_with_its_port_and_data(
    settings: Settings,
) -> None:
    said: list[str] = []
    stack = Stack(settings, said.append)
    with stack as addresses:
        client = redis.Redis.from_url(addresses.redis)
        client.set("kept", "yes")
        time.sleep(1.1)  # what the last second wrote may go
        before = stack.pids()
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        until_sync(lambda: all(pid != before[name] for name, pid in stack.pids().items()))
        stack.wait_healthy()
        assert running(settings) == addresses
        assert client.get("kept") == b"yes"
        client.close()
        after = stack.pids()
    for name in before:
        assert any(f"{name} ended (SIGKILL" in line and "log: " in line for line in said)
    assert not any(psutil.pid_exists(pid) for pid in [*before.values(), *after.values()])
    assert running(settings) is None


def test_a_second_stack_keeps_ports_and_data_of_the_first(settings: Settings) -> None:
    with Stack(settings) as first:
        client = redis.Redis.from_url(first.redis)
        client.set("kept", "yes")
        client.close()
    with Stack(settings) as second:
        client = redis.Redis.from_url(second.redis)
        assert client.get("kept") == b"yes"
        client.close()
    assert first == second


@pytest.fixture
def foreground(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """`driftloop stack up`, healthy."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.cli", "stack", "up"],
        cwd=ROOT,
        env=environment(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until_sync(lambda: running(settings) is not None, within=60)
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


def environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "DRIFTLOOP_STATE_DIR": str(settings.state_dir),
        "DRIFTLOOP_MODEL_REPOSITORY": str(settings.model_repository),
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_parent(
    settings: Settings, foreground: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    children = psutil.Process(foreground.pid).children(recursive=True)
    assert len(children) >= 3
    foreground.send_signal(number)
    code = foreground.wait(30)
    assert code == (-number if number is signal.SIGKILL else 0)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    assert running(settings) is None


def test_up_detached_status_and_down(settings: Settings) -> None:
    def stack(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "workers.cli", "stack", *arguments],
            cwd=ROOT,
            env=environment(settings),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    assert "driftloop stack down" in stack("up", "--detach").stdout
    found = read_stack(settings)
    assert found is not None
    assert "already up" in stack("up").stdout
    shown = stack("status").stdout
    assert all(name in shown for name in ("kafka", "triton", "redis"))
    assert "data is kept" in stack("down").stdout
    assert not psutil.pid_exists(found.pid)
    assert "no stack is up" in stack("down").stdout
