"""What the demo measures from outside: memory, failed requests, quality by day."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from streams.spec.model import INPUT
from workers.demo.observer import Seen
from workers.evaluation.daily import DayQuality, daily_quality


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


@dataclass(frozen=True)
class Quality:
    """Daily quality of the loop's served scores, and of its first version left alone."""

    loop: list[DayQuality]
    first: list[DayQuality]


def quality(world: pd.DataFrame, seen: Seen, repository: Path, first_version: int) -> Quality:
    """Both, for each day after the one on which the first version began to serve."""
    served = np.flatnonzero(seen.versions == first_version)
    days = world["day"].to_numpy()
    rows = np.flatnonzero((days > days[served[0]]) & (seen.times > 0))
    alone = _scores(repository / str(first_version) / "model.onnx", seen.vectors[rows])
    labels = world["is_fraud"].to_numpy()[rows]
    customers = world["customer_id"].to_numpy()[rows]
    return Quality(
        loop=daily_quality(days[rows], customers, seen.scores[rows], labels),
        first=daily_quality(days[rows], customers, alone, labels),
    )


def _scores(model: Path, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    parts = [
        session.run(None, {INPUT: vectors[start : start + 8192]})[0][:, 0]
        for start in range(0, len(vectors), 8192)
    ]
    return np.concatenate(parts)
