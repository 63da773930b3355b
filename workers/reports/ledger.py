"""What the ledger tells: how each candidate was judged, and every step of a roll-out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from streams.records import Action, LedgerEntry
from workers.releases.manifests import gate_rules
from workers.reports.over_time import Mark
from workers.reports.page import Rows
from workers.reports.series import Point
from workers.reports.tables import day

_CANDIDATES = 3
"""So many of the last candidates are shown rule by rule."""
_STEPS = 60
"""So many of the last entries are listed."""
_MARKED = {
    Action.PROMOTE: "version {}",
    Action.ROLLBACK: "back to {}",
    Action.SHADOW: "shadow {}",
    Action.CANARY: "canary {}",
}
_SUMMED_UP = re.compile(r"; [\w -]+ (passed|open|failed) \(.*", re.DOTALL)


def marks(entries: Sequence[LedgerEntry], points: Sequence[Point]) -> list[Mark]:
    """The steps of roll-outs that lie in the pictures, in their order.

    An entry says its event time, or has none: then a promotion counts from the first event that the
    version served, and a roll-back from when it was written, if events are that recent.
    """
    if not points:
        return []
    first, last = min(p.start for p in points), max(p.end for p in points)
    began = {point.version: point.start for point in reversed(points)}
    found = []
    for entry in entries:
        if entry.action not in _MARKED:
            continue
        served = began.get(entry.version) if entry.action is Action.PROMOTE else None
        at = entry.event_time or served or entry.at
        if first <= at <= last:
            label = _MARKED[entry.action].format(entry.version)
            if entry.action is Action.CANARY:
                label += f", {entry.share:.0%}"
            back = entry.action is Action.ROLLBACK
            found.append(Mark(at, label, back))
    return sorted(found, key=lambda mark: mark.at)


def verdicts(entries: Sequence[LedgerEntry]) -> list[Rows]:
    """The last candidates that the gate judged, the newest first: each rule with its number."""
    judged = [entry for entry in entries if entry.by == "gate" and entry.manifest is not None]
    return [
        Rows(
            f"Version {entry.version}: {entry.action}",
            _SUMMED_UP.sub("", entry.reason),
            ("Rule", "Verdict", "Number", "Bound"),
            gate_rules(entry.manifest.metrics if entry.manifest else {}),
        )
        for entry in reversed(judged[-_CANDIDATES:])
    ]


def history(entries: Sequence[LedgerEntry]) -> Rows:
    """Every step, the newest first."""
    rows = [
        (
            _written(entry.at),
            day(entry.event_time) if entry.event_time else "-",
            str(entry.version),
            str(entry.action),
            f"{entry.share:.0%}" if entry.share else "-",
            f"{entry.by} {entry.who}".strip(),
            _SUMMED_UP.sub("", entry.reason),
            "; ".join(f"{name} {value:.4g}" for name, value in entry.evidence.items()) or "-",
        )
        for entry in reversed(entries[-_STEPS:])
    ]
    head = ("Written", "Event time", "Version", "Step", "Share", "By", "Why", "Evidence")
    left = len(entries) - len(rows)
    said = f"{left} earlier entries are in the ledger." if left else ""
    return Rows("", said, head, rows)


def _written(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
