"""Reads what a process uses, from the kernel; a reading costs some 50 microseconds."""

from __future__ import annotations

import contextlib
import resource
import socket
import time

import psutil
from prometheus_client import Counter

from streams import telemetry
from streams.metering.account import Account, MeterReading
from streams.settings import Settings

_OWN = psutil.Process()


def own_reading(pipeline: str) -> MeterReading:
    """Of this process without its children, and what it has counted for the pipeline."""
    return MeterReading(
        at=time.time(),
        clock=time.monotonic(),
        cpu_seconds=time.process_time(),
        memory=_OWN.memory_info().rss,
        events=sum(int(n) for n in _counted(telemetry.EVENTS, pipeline, "partition").values()),
        predictions={
            int(version): int(n)
            for version, n in _counted(telemetry.PREDICTIONS, pipeline, "version").items()
        },
    )


def tree_reading(
    pid: int, before: MeterReading | None = None, gpus: int = 0
) -> MeterReading | None:
    """Of a process and all its children; None where it is gone.

    CPU of children that have ended is in what their parent waited for. Where a child has ended
    and nobody waited for it, its last reading stays: CPU is never below that of `before`.
    """
    cpu, memory = 0.0, 0
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        found = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return None
    for one in found:
        with contextlib.suppress(psutil.NoSuchProcess), one.oneshot():
            cpu += sum(one.cpu_times()[:4])  # its own and its children's, user and system
            memory += one.memory_info().rss
    least = before.cpu_seconds if before else 0.0
    return MeterReading(time.time(), time.monotonic(), max(cpu, least), memory, gpus)


def cpu_of_children() -> float:
    """CPU seconds of the children that this process has waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def account(settings: Settings, role: str, pid: int | None = None) -> Account:
    """An account that has all that a process used since it started, this one unless given.

    Raises:
        psutil.NoSuchProcess: there is none.
    """
    process = _OWN if pid is None else psutil.Process(pid)
    started, host = process.create_time(), socket.gethostname()
    now = time.time()
    first = MeterReading(started, time.monotonic() - max(0.0, now - started), 0.0, 0)
    reserved = (settings.reserved_cpus, settings.reserved_gib) if pid is None else (0.0, 0.0)
    name = f"{host}-{process.pid}-{started:.2f}"
    return Account(name, role, host, first, reserved)


def _counted(counter: Counter, pipeline: str, label: str) -> dict[str, float]:
    """What a counter shows for a pipeline, by a label's values."""
    return {
        one.labels[label]: one.value
        for family in counter.collect()
        for one in family.samples
        if one.name.endswith("_total") and one.labels["pipeline"] == pipeline
    }
