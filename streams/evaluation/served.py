"""What one partition served, counted by bucket and version: `P.scored` becomes `P.drift`.

It needs no label. A cell that a micro-batch changes is written whole, with the batch's offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from streams import telemetry
from streams.dead_letters import shrunk
from streams.distributions import PARTS, Binning, Distribution
from streams.ports.batches import NO_HEADERS, MicroBatch, OutputRecord, SourceRecord
from streams.ports.models import References
from streams.records import decoder, encode
from streams.spec import Pipeline
from streams.spec.layout import features_of

log = structlog.get_logger(__name__)

_BUCKETS = 8
"""Events are counted where they come no later than so many buckets after the newest."""


class _Logged(msgspec.Struct, frozen=True, gc=False):
    """What is read of `Scored`."""

    event_time: float
    vector: bytes
    score: float | list[float]
    version: int
    written: float | None = None
    schema: str = ""

    @property
    def happened(self) -> float:
        """Event time; of an event whose clock was fast, when it was written."""
        return self.event_time if self.written is None else self.written


_decode = decoder(_Logged).decode
_decode_cell = decoder(Distribution).decode


class ServedCounts:
    """Counts what one partition served."""

    def __init__(self, pipeline: Pipeline, references: References) -> None:
        self._pipeline = pipeline
        self._references = references
        self._span = pipeline.policies.evaluate.every_seconds
        self._layout = pipeline.layout
        self._ranks = pipeline.predicts.ranks
        self._cells: dict[tuple[int, int], Distribution] = {}
        """By start and version."""
        self._binnings: dict[int, Binning] = {}
        self._said = False

    def take_up(self, written: Sequence[SourceRecord]) -> None:
        """Go on from the cells as they were written, oldest first."""
        for record in written:
            if record.key and record.value:
                cell = _decode_cell(record.value)
                if cell.span == self._span:
                    self._cells[int(cell.start), cell.version] = cell
        self._forget()

    async def count(self, batch: MicroBatch) -> list[OutputRecord]:
        """The cells that a micro-batch of `P.scored` changes."""
        read = [(r.offset, one) for r in batch.records if (one := self._read(r)) is not None]
        if not read:
            return []
        happened = np.array([one.happened for _, one in read], np.float64)
        starts = (happened // self._span).astype(np.int64) * self._span
        versions = np.array([one.version for _, one in read], np.int64)
        offsets = np.array([offset for offset, _ in read], np.int64)
        # by the order of the partition, so that a batch more or less makes no difference
        newest = np.maximum(np.maximum.accumulate(starts), self._newest())
        in_time = starts >= newest - _BUCKETS * self._span
        if late := int(np.count_nonzero(~in_time)):
            telemetry.LATE_EVENTS.labels(self._pipeline.name).inc(late)
        pairs = np.stack([starts, versions], axis=1)
        changed: list[OutputRecord] = []
        for start, version in np.unique(pairs[in_time], axis=0).tolist():
            name = (start, version)
            cell = self._cells.get(name) or Distribution(start, self._span, version)
            rows = np.flatnonzero((pairs == name).all(axis=1) & in_time & (offsets >= cell.next))
            if len(rows):
                await self._add(cell, [read[row][1] for row in rows], happened[rows])
                cell.next = batch.next
                self._cells[name] = cell
                changed.append((encode(name), encode(cell), NO_HEADERS))
        self._forget()
        return changed

    def forget_all(self) -> None:
        """Forget the cells."""
        self._cells = {}

    def _read(self, record: SourceRecord) -> _Logged | None:
        """What a record says; None where it says nothing that can be counted."""
        if record.value is None:  # erased
            return None
        try:
            if shrunk(record):
                raise ValueError("it is too large to be read whole")
            one: _Logged = _decode(record.value)
            several = len(one.score) if isinstance(one.score, list) else 1
            outputs = self._pipeline.model.outputs
            wrong = several > outputs if self._ranks else several != outputs
            if one.schema in ("", self._pipeline.schema_hash) and (
                wrong or len(one.vector) != self._layout.size
            ):
                raise ValueError("its vector or its score has another length than the pipeline's")
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            self._say(record, str(error))
            return None
        return one

    async def _add(
        self, cell: Distribution, served: Sequence[_Logged], happened: NDArray[np.float64]
    ) -> None:
        cell.events += len(served)
        cell.newest = max(cell.newest, float(happened.max()))
        places = ((happened - cell.start) * PARTS / self._span).astype(np.int64)
        parts = np.bincount(np.minimum(places, PARTS - 1), minlength=PARTS)
        cell.parts = (parts + np.array(cell.parts or 0)).tolist()
        ours = [one for one in served if one.schema in ("", self._pipeline.schema_hash)]
        binning = await self._binning(cell.version)
        if binning is None or not ours:
            return
        scores: NDArray[Any] = np.empty((len(ours), 0), np.float32)
        if not self._ranks:  # a candidate's score is nothing without those of the others
            scores = np.array([one.score for one in ours], np.float32)
        vectors = features_of(self._layout.unpack([one.vector for one in ours]))
        vectors = vectors[:, list(map(self._pipeline.feature_names.index, binning.features))]
        binning.add(cell, binning.columns(vectors, scores.reshape(len(ours), -1)))

    async def _binning(self, version: int) -> Binning | None:
        """A version's bins; None where it has no reference, as the fallback."""
        if version and version not in self._binnings:
            reference = await self._references.of(version)
            if reference is None:
                return None
            self._binnings[version] = Binning(reference)
        return self._binnings.get(version)

    def _newest(self) -> int:
        """Where the newest bucket begins."""
        return max((start for start, _ in self._cells), default=0)

    def _forget(self) -> None:
        """Drop the cells, and the bins, that no event can be counted in any more."""
        before = self._newest() - _BUCKETS * self._span
        self._cells = {name: cell for name, cell in self._cells.items() if name[0] >= before}
        versions = {version for _, version in self._cells}
        self._binnings = {v: one for v, one in self._binnings.items() if v in versions}

    def _say(self, record: SourceRecord, problem: str) -> None:
        """One line for the first; the labeller sets each aside."""
        if not self._said:
            log.warning(
                "records cannot be read, drift passes over them",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                error=problem,
            )
        self._said = True
