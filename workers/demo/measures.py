"""What the demo measures from outside: memory, failed requests."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil
from prometheus_client.parser import text_string_to_metric_families


@dataclass
class Memory:
    """Peak resident memory by process, its children included, in bytes."""

    peaks: dict[str, int] = field(default_factory=dict)
    total: int = 0
    """Peak of all of them together."""

    def sample(self, pids: Mapping[str, int]) -> None:
        """Look once."""
        now = 0
        for name, pid in pids.items():
            used = _resident(pid, own=name == "demo")
            now += used
            self.peaks[name] = max(self.peaks.get(name, 0), used)
        self.total = max(self.total, now)


def _resident(pid: int, own: bool) -> int:
    """Bytes of a process and, unless it is the demo itself, its children."""
    used = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        used = int(process.memory_info().rss)
        for child in [] if own else process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                used += int(child.memory_info().rss)
    return used


def failed_requests(port: int) -> int:
    """Inference requests that a scoring worker had to repeat, from its metrics endpoint."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return int(
        sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "driftloop_retries_total" and sample.labels["stage"] == "infer"
        )
    )
