"""The figures as a table for people and as JSON for programs."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.contenders import CONTENDERS
from tests.bench.measuring import Span

OURS = "ours"
_OURS = ["aiokafka", "faust-streaming", "msgspec", "numpy", "redis", "tritonclient", "uvloop"]
_PEERS = [
    "aiokafka",
    "bytewax",
    "confluent-kafka",
    "faust-streaming",
    "hiredis",
    "msgspec",
    "numpy",
    "quixstreams",
    "tritonclient",
]


@dataclass
class Results:
    """What was measured on one workload."""

    events: int
    spans: dict[str, list[Span]]
    """One span per round, by contender."""
    agreement: dict[str, float] = field(default_factory=dict)
    """Share of events with the vector and score of the first contender, by contender."""

    def rate(self, name: str) -> float:
        """Median events per second."""
        return statistics.median(span.rate for span in self.spans[name])

    def ratio(self, name: str) -> float | None:
        """Our median rate over a contender's; None where ours was not measured."""
        return self.rate(OURS) / self.rate(name) if OURS in self.spans else None

    def cpu(self, name: str) -> dict[str, float]:
        """Median CPU microseconds per event, by process."""
        spans = self.spans[name]
        return {
            process: statistics.median(span.cpu[process] for span in spans)
            for process in spans[0].cpu
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "events": self.events,
            "contenders": {
                name: {
                    "title": CONTENDERS[name].title,
                    "events_per_second": {
                        "median": round(self.rate(name)),
                        "min": round(min(span.rate for span in spans)),
                        "max": round(max(span.rate for span in spans)),
                    },
                    "cpu_us_per_event": {k: round(v, 2) for k, v in self.cpu(name).items()},
                    "ours_over_this": _rounded(self.ratio(name)),
                    "agreement": round(self.agreement[name], 5),
                    "rounds": [
                        {
                            "events": span.events,
                            "seconds": round(span.seconds, 3),
                            "complete": span.complete,
                        }
                        for span in spans
                    ],
                }
                for name, spans in self.spans.items()
            },
        }


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 3)


@dataclass
class Report:
    """A run of the benchmark."""

    facts: dict[str, Any]
    workloads: dict[str, Results] = field(default_factory=dict)

    @classmethod
    def begin(cls, partitions: int, rounds: int, peers: Path | None) -> Report:
        """A report that says when, where and on what."""
        return cls(
            {
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": {
                    "cpu": cpu_model(),
                    "cpus": psutil.cpu_count(),
                    "memory_gib": round(psutil.virtual_memory().total / 2**30),
                    "system": platform.platform(),
                },
                "python": platform.python_version(),
                "versions": {
                    "ours": versions(sys.executable, _OURS),
                    "rivals": versions(str(peers), _PEERS) if peers else {},
                },
                "partitions": partitions,
                "rounds": rounds,
            }
        )

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        workloads = {name: results.as_dict() for name, results in self.workloads.items()}
        document = msgspec.json.encode({**self.facts, "workloads": workloads})
        path.write_bytes(msgspec.json.format(document, indent=2) + b"\n")


def cpu_model() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def versions(python: str, packages: list[str]) -> dict[str, str]:
    """Versions of packages in an environment."""
    code = (
        "import importlib.metadata as m, json, sys;"
        "print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run([python, "-c", code, *packages], capture_output=True, check=True)
    found: dict[str, str] = msgspec.json.decode(done.stdout)
    return found


def print_table(name: str, results: Results) -> None:
    """Print a workload's figures."""
    processes = list(next(iter(results.spans.values()))[0].cpu)
    table = Table(title=f"{name}: {results.events:,} events", caption="CPU in µs per event")
    table.add_column("contender")
    for heading in ("events/s", "min - max", *processes, "ours/this", "agrees"):
        table.add_column(heading, justify="right", no_wrap=True)
    for contender, spans in results.spans.items():
        rates, ratio = [span.rate for span in spans], results.ratio(contender)
        table.add_row(
            CONTENDERS[contender].title,
            f"{results.rate(contender):,.0f}",
            f"{min(rates):,.0f} - {max(rates):,.0f}",
            *(f"{cost:.1f}" for cost in results.cpu(contender).values()),
            "" if ratio is None else f"{ratio:.2f}",
            f"{results.agreement[contender]:.1%}",
        )
    console = Console(highlight=False)
    console.width = max(console.width, 120)
    console.print(table)
