"""What a run found: as data, as Markdown, and whether a guarantee was broken."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from tests.faults.judge import OFFENCES


@dataclass(frozen=True)
class Recovery:
    """How long it took until outputs flowed again."""

    what: str
    seconds: float
    limit: float


@dataclass
class Report:
    """One run."""

    seed: int
    delivery: str
    command: str
    date: str
    faults: list[str] = field(default_factory=list)
    """The kinds, in the order they came."""
    recoveries: list[Recovery] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    """Workers that ended without a fault that ends them, and were started again."""
    verdict: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    load: float = 0.0
    """Load average over the last quarter of an hour of the run, whoever caused it."""
    machine: str = field(
        default_factory=lambda: f"{os.cpu_count()} CPUs, {platform.machine()}, {platform.system()}"
    )

    @property
    def broken(self) -> list[str]:
        """Each guarantee that was broken, in a line; empty where all were kept."""
        return self.offences + self.late

    @property
    def offences(self) -> list[str]:
        """What was lost, doubled, or wrong, a line for each kind."""
        named = self.verdict["named"]
        return [
            f"{count} {name} ({OFFENCES[name]}): {', '.join(named.get(name, []))}"
            for name, count in self.verdict["offences"].items()
            if count
        ]

    @property
    def late(self) -> list[str]:
        """Recoveries that took longer than their limit."""
        return [
            f"{one.what}: recovered after {one.seconds:.1f} s, the limit is {one.limit:g} s"
            for one in self.recoveries
            if one.seconds > one.limit
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        return asdict(self) | {"broken": self.broken}

    def markdown(self) -> str:
        """A section for `docs/guarantees.md`."""
        counts, offences = self.verdict["counts"], self.verdict["offences"]
        rows = [
            f"### {len(self.faults)} faults, seed {self.seed}, {self.delivery}, {self.date}",
            "",
            f"`{self.command}` on {self.machine}, load average {self.load:.1f}; "
            f"{self.seconds / 60:.0f} minutes.",
            "",
            "| Sent | Good | Repeated | Bad | Predictions | Dead letters | Examples | Versions |",
            "|---|---|---|---|---|---|---|---|",
            f"| {self.verdict['sent']:,} | {self._good:,} | {counts.get('repeated', 0):,} "
            f"| {counts.get('bad', 0):,} | {counts.get('predicted', 0):,} "
            f"| {counts.get('dead letters', 0):,} | {counts.get('examples', 0):,} "
            f"| {', '.join(self.verdict['versions'])} |",
            "",
            "| " + " | ".join(offences) + " |",
            "|" + "---|" * len(offences),
            "| " + " | ".join(map(str, offences.values())) + " |",
            "",
        ]
        if self.delivery == "at_least_once":
            rows += [
                f"{counts.get('repeats', 0):,} predictions came again, each with its first "
                "id and content.",
                "",
            ]
        rows += ["| Fault | Times | Recovery p50 | Longest | Limit |", "|---|---|---|---|---|"]
        return "\n".join([*rows, *self._recovery_rows(), ""])

    @property
    def _good(self) -> int:
        counts = self.verdict["counts"]
        return int(counts["source"] - counts.get("bad", 0) - counts.get("repeated", 0))

    def _recovery_rows(self) -> list[str]:
        found: dict[str, list[Recovery]] = defaultdict(list)
        for one in self.recoveries:
            found[one.what].append(one)
        rows = [
            f"| {what} | {len(ones)} | {median(o.seconds for o in ones):.1f} s "
            f"| {max(o.seconds for o in ones):.1f} s | {ones[0].limit:g} s |"
            for what, ones in sorted(found.items())
        ]
        unmeasured = sorted(set(self.faults) - {what.partition(",")[0] for what in found})
        rows += [f"| {kind} | {self.faults.count(kind)} | - | - | - |" for kind in unmeasured]
        return rows
