"""Quality lately, as gauges: of each version, over the last complete buckets of event time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from streams import telemetry
from streams.evaluation.totals import Total
from streams.sums import Cell

BUCKETS = 7
"""Complete buckets that are looked at: a week, where a bucket is a day."""
_OF_CLASSES = {"average_precision", "roc_auc", "precision", "recall", "bias"}
MEASURES = _OF_CLASSES | {"mae", "wape", "ndcg", "mrr", "hit_rate"}
"""And the coverage of each quantile."""


class RecentQuality:
    """Sets `driftloop_live_quality` from the cells of the partitions that a worker has."""

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._counted: dict[int, int] = {}
        """By partition, the offset up to which the gauges tell of its examples."""
        self._set: set[tuple[str, str]] = set()
        """Versions and measures that have a gauge."""

    def observe(self, partitions: Mapping[int, Collection[Cell]]) -> None:
        """Set the gauges anew, where examples were counted since."""
        counted = {
            partition: max(cell.next for cell in cells)
            for partition, cells in partitions.items()
            if cells
        }
        if counted == self._counted:
            return
        self._counted = counted
        groups = defaultdict[int, list[Cell]](list)
        for cell in _recent(partitions.values()):
            groups[cell.version].append(cell)
        found = {str(version): Total.of(cells) for version, cells in groups.items()}
        self._show(found)

    def _show(self, found: Mapping[str, Total]) -> None:
        shown = set[tuple[str, str]]()
        for version, total in found.items():
            telemetry.LIVE_EVENTS.labels(self._pipeline, version).set(total.events)
            measures = total.measures()
            for name, value in measures.items():
                if name in MEASURES or name.startswith("below_"):
                    telemetry.LIVE_QUALITY.labels(self._pipeline, version, name).set(value)
                    shown.add((version, name))
        for version, name in self._set - shown:
            telemetry.LIVE_QUALITY.remove(self._pipeline, version, name)
        for version in {one for one, _ in self._set} - found.keys():
            telemetry.LIVE_EVENTS.remove(self._pipeline, version)
        self._set = shown


def _recent(partitions: Collection[Collection[Cell]]) -> list[Cell]:
    """Cells of all events, of the last buckets that every event of their partition has left."""
    complete = []
    for cells in partitions:
        newest = max((cell.start for cell in cells), default=0.0)
        complete += [cell for cell in cells if not cell.slice and cell.start < newest]
    last = sorted({cell.start for cell in complete})[-BUCKETS:]
    return [cell for cell in complete if cell.events and cell.start in last]
