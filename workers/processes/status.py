"""What a loop has done since it is up, in one line: added up from its workers' metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from workers.resources.samples import Rows, Sample, rows

_OUTCOMES = ("unmatched", "joined", "late", "corrected", "duplicate", "stale")
"""What becomes of a label; other outcomes are of windows, or of one that is counted already."""
_LABELS = 100
"""So many labels without an event are no chance."""


@dataclass
class Status:
    """The numbers of the status line."""

    decision: str = ""
    """What was decided last, in words."""
    scaling: str = ""
    """How many workers there are, and why, where that follows the load."""
    _latest: dict[str, dict[Sample, float]] = field(default_factory=dict)
    """By worker, and by sample with no value."""
    _before: Counter[tuple[str, Sample]] = field(default_factory=Counter)
    """What workers counted before they were started again."""

    def take(self, worker: str, text: str) -> None:
        """Take a worker's metrics in; those that it had before are replaced."""
        now = rows(text)
        for key, value in self._latest.get(worker, {}).items():
            if key.counts and now.get(key, 0.0) < value:
                self._before[worker, key] += int(value)
        self._latest[worker] = now

    def ended(self, worker: str) -> None:
        """A worker shows nothing any more: what it counted stays, and it lags behind nothing."""
        self.take(worker, "")

    def workers(self, role: str) -> dict[str, Rows]:
        """The numbers of each worker of a role that shows some."""
        found = self._latest.items()
        return {one: shown for one, shown in found if shown and one.partition("-")[0] == role}

    def warning(self) -> str:
        """What the numbers say is wrong; empty for nothing."""
        labels, unmatched = self._labels()
        if unmatched == labels >= _LABELS:
            return (
                f"none of {labels:,} labels has found its event - see that their event_id and key "
                "are the event's"
            )
        return ""

    def line(self) -> str:
        """The status line."""
        letters = self._by("dead_letters", "cause")
        predictions = self._by("predictions", "version")
        fallback = predictions.get("0", 0)
        labels, unmatched = self._labels()
        repeated = int(self._total("duplicates"))
        parts = [
            _counted(self._total("events", "score"), "event", {"repeated": repeated}),
            _counted(sum(predictions.values()), "prediction", {"by the fallback": fallback}),
            _counted(labels, "label", {"without an event": unmatched}),
            _counted(sum(letters.values()), "dead letter", letters),
            f"lag {int(self._total('lag_records') - self._total('lag_records', 'shadow')):,}",
            self._serving(),
        ]
        return " | ".join([*parts, *filter(None, (self.scaling, self.decision))])

    def _rows(self, name: str, worker: str = "") -> Iterator[tuple[Sample, float]]:
        for one, shown in self._latest.items():
            yield from (
                (key, value)
                for key, value in shown.items()
                if key.name == name and one.startswith(worker)
            )
        for (one, key), counted in self._before.items():
            if key.name == name and one.startswith(worker):
                yield key, counted

    def _total(self, name: str, worker: str = "") -> float:
        return sum(value for _, value in self._rows(name, worker))

    def _by(self, name: str, label: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for key, value in self._rows(name):
            found[dict(key.labels).get(label, "")] += int(value)
        return found

    def _labels(self) -> tuple[int, int]:
        """How many labels came, and how many of them have no event.

        One that came before its event, or on another partition, is counted there again.
        """
        found = self._by("labels", "outcome")
        again = found["awaited"] + found["passed_on"]
        labels = sum(found[outcome] for outcome in _OUTCOMES) - again
        return max(0, labels), max(0, found["unmatched"] - again)

    def _serving(self) -> str:
        scorers = [shown for worker, shown in self._latest.items() if worker.startswith("score")]
        if scorers and not any(scorers):
            return "nobody scores"
        version = int(
            max((value for _, value in self._rows("serving_version", "score")), default=0)
        )
        return f"version {version}" if version else "no version yet"


def _counted(count: float, what: str, of_them: Mapping[str, int] | None = None) -> str:
    plural = "" if int(count) == 1 else "s"
    among = ", ".join(f"{n:,} {name}" for name, n in sorted((of_them or {}).items()) if n)
    return f"{int(count):,} {what}{plural}" + (f" ({among})" if among else "")
