"""Readings are of this process, or of a tree of them, and show what the kernel shows."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from streams import telemetry
from streams.metering.reading import account, cpu_of_children, own_reading, tree_reading
from streams.settings import Settings
from tests.waiting import until_sync

BUSY = "import time\nwhile time.process_time() < 0.3: pass\n"
TREE = f"""
import subprocess, sys, time
subprocess.run([sys.executable, '-c', '''{BUSY}'''])
other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
print('ready', flush=True)
time.sleep(60)
"""


@pytest.fixture
def tree() -> Iterator[int]:
    """A process that has a child, and has waited for another that was busy for 0.3 s."""
    with subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        for one in psutil.Process(process.pid).children():
            one.kill()
        process.kill()


def test_our_own_reading_has_what_was_counted_for_the_pipeline() -> None:
    telemetry.EVENTS.labels("metered", "0").inc(3)
    telemetry.EVENTS.labels("metered", "1").inc(4)
    telemetry.EVENTS.labels("another", "0").inc(9)
    telemetry.PREDICTIONS.labels("metered", "2").inc(5)
    found = own_reading("metered")
    assert (found.events, found.predictions) == (7, {2: 5})
    assert found.cpu_seconds == pytest.approx(time.process_time(), abs=0.1)
    assert found.memory == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_a_tree_has_the_cpu_of_children_that_have_ended(tree: int) -> None:
    found = tree_reading(tree)
    assert found is not None
    assert found.cpu_seconds >= 0.3
    memory = sum(one.memory_info().rss for one in psutil.Process(tree).children())
    assert found.memory > memory > 0


def test_cpu_never_falls_below_the_reading_before(tree: int) -> None:
    first = tree_reading(tree)
    assert first is not None
    again = tree_reading(tree, first._replace(cpu_seconds=500.0), gpus=2)
    assert again is not None
    assert (again.cpu_seconds, again.gpus) == (500, 2)


def test_there_is_no_reading_of_a_process_that_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    until_sync(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert tree_reading(process.pid) is None
    process.wait()
    assert tree_reading(process.pid) is None
    with pytest.raises(psutil.NoSuchProcess):
        account(Settings(), "kafka", process.pid)


def test_children_that_were_waited_for_are_counted_once_and_exactly() -> None:
    before = cpu_of_children()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert 0.3 <= cpu_of_children() - before < 3


def test_an_account_begins_with_the_process_and_names_it() -> None:
    mine = account(Settings(reserved_cpus=1.5), "score")
    mine.take(own_reading("metered"))
    found = mine.records
    assert sum(one.cpu_seconds for one in found) == pytest.approx(time.process_time(), abs=0.1)
    assert {one.cpus for one in found} == {1.5}
    assert f"-{os.getpid()}-" in found[0].process
    # what is reserved is this process's, not a server's
    assert account(Settings(reserved_cpus=1.5), "kafka", os.getppid())._reserved == (0, 0)
