"""The evaluator's work on one partition: `P.examples` become `P.metrics`, `P.scored` `P.drift`.

A cell that a micro-batch changes is written whole, with the batch's offsets: what is committed is
what was written. Cells that no label can change any more are forgotten here, and stay in the topic.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from streams import telemetry
from streams.breaker import FirstOfEachCause
from streams.dead_letters import Rejected, dead_letter
from streams.errors import BadRecord
from streams.evaluation.cells import Counted, add
from streams.evaluation.recent import BUCKETS
from streams.evaluation.served import ServedCounts
from streams.ports.batches import NO_HEADERS, MicroBatch, OutputRecord, Outputs, SourceRecord
from streams.ports.models import References
from streams.records import Example, decoder, encode
from streams.spec import Pipeline
from streams.spec.candidates import padded
from streams.spec.layout import features_of
from streams.spec.tasks import Task
from streams.sums import Cell

log = structlog.get_logger(__name__)

ReadCells = Callable[[str, int], Awaitable[Sequence[SourceRecord]]]
"""All records of a topic's partition, oldest first."""

_decode = decoder(Example).decode
_decode_cell = decoder(Cell).decode


class CellName(NamedTuple):
    """What a cell is of; the key of its record, as a JSON list."""

    start: int
    version: int
    arm: str
    slice: str


class Evaluation:
    """Counts one partition's examples, and what it served."""

    def __init__(
        self, pipeline: Pipeline, partition: int, read_cells: ReadCells, references: References
    ) -> None:
        self._pipeline = pipeline
        self._partition = partition
        self._read_cells = read_cells
        self._span = pipeline.policies.evaluate.every_seconds
        self._task = pipeline.predicts
        self._layout = pipeline.layout
        self._bad = FirstOfEachCause(pipeline.topics.examples)
        self._said = False
        self._cells: dict[CellName, Cell] = {}
        self._served = ServedCounts(pipeline, references)

    async def open(self, committed: Mapping[str, int | None]) -> Mapping[str, int]:
        """Take up the cells as they were written last."""
        topics = self._pipeline.topics
        for record in await self._read_cells(topics.metrics, self._partition):
            if record.key and record.value:
                cell = _decode_cell(record.value)
                name = CellName(int(cell.start), cell.version, cell.arm, cell.slice)
                if cell.span == self._span:
                    self._cells[name] = cell
        self._forget()
        self._served.take_up(await self._read_cells(topics.drift, self._partition))
        return {}

    async def process(self, batch: MicroBatch) -> Outputs:
        """The cells that a micro-batch changes, and dead letters for what is no example."""
        name, topics = self._pipeline.name, self._pipeline.topics
        telemetry.EVENTS.labels(name, str(self._partition)).inc(len(batch.records))
        if batch.topic == topics.scored:
            with telemetry.STAGE_SECONDS.labels(name, "drift").time():
                return {topics.drift: await self._served.count(batch)}
        with telemetry.STAGE_SECONDS.labels(name, "evaluate").time():
            examples, rejected = self._read(batch.records)
            changed = self._count(examples, batch.next)
        self._forget()
        self._bad.observe([error for _, error in rejected])
        for _, error in rejected:
            telemetry.DEAD_LETTERS.labels(name, error.cause).inc()
        return {
            topics.metrics: changed,
            topics.dead_letters: [dead_letter(*one) for one in rejected],
        }

    @property
    def cells(self) -> Collection[Cell]:
        """Those that may change, or are recent."""
        return self._cells.values()

    async def commit(self) -> None:
        """Nothing: what was written is all there is."""

    async def close(self) -> None:
        """Forget the cells."""
        self._cells = {}
        self._served.forget_all()

    def _read(self, records: Sequence[SourceRecord]) -> tuple[list[_Read], list[Rejected]]:
        found, rejected = [], []
        for record in records:
            if record.value is None:  # erased
                continue
            try:
                found.append(_Read(record.offset, self._checked(record.value)))
            except BadRecord as error:
                rejected.append((record, error))
        return found, rejected

    def _checked(self, value: bytes) -> Example:
        """An example whose scores can be the model's.

        Raises:
            BadRecord: it is none.
        """
        try:
            example: Example = _decode(value)
        except msgspec.ValidationError as error:
            raise BadRecord("invalid", str(error)) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise BadRecord("malformed", str(error)) from None
        classes = self._task.classes
        if classes and example.decision not in range(classes):
            raise BadRecord("invalid", f"{example.decision} is no class of {classes}")
        if not self._task.is_score(example.score):
            raise BadRecord("invalid", f"{example.score} is no score of this pipeline's model")
        return example

    def _count(self, read: Sequence[_Read], following: int) -> list[OutputRecord]:
        """Count examples into their cells; returns the records of those that have changed."""
        every = [(one, _label(one.example), 1) for one in read]
        every += [(o, _before(o.example), -1) for o in read if o.example.previous is not None]
        rows = [row for row in every if self._is_label(row[1])]
        if not rows:
            return []
        offsets = np.array([one.offset for one, _, _ in rows], np.int64)
        examples = [one.example for one, _, _ in rows]
        labels, weights = [label for _, label, _ in rows], [w for _, _, w in rows]
        counted = _counted(self._task, examples, labels, weights)
        starts = np.array([one.event_time // self._span for one in examples]).astype(np.int64)
        versions = np.array([one.version for one in examples], np.int64)
        arm_names, arms = np.unique([_arm(one) for one in examples], return_inverse=True)
        masks = self._masks(examples)
        groups, group_of = np.unique(
            np.stack([starts, versions, arms], axis=1), axis=0, return_inverse=True
        )
        changed: list[OutputRecord] = []
        for number, (start, version, arm) in enumerate(groups.tolist()):
            here = group_of.reshape(-1) == number
            for slice_name, mask in masks.items():
                name = CellName(start * self._span, version, str(arm_names[arm]), slice_name)
                cell = self._cells.get(name) or self._new(name)
                chosen = np.flatnonzero(here & mask & (offsets >= cell.next))
                if len(chosen):
                    top = 0 if slice_name else 2 * self._pipeline.policies.evaluate.top
                    add(cell, counted.select(chosen), self._task, top)
                    cell.next = following
                    self._cells[name] = cell
                    changed.append((encode(name), encode(cell), NO_HEADERS))
        return changed

    def _is_label(self, label: float | list[float]) -> bool:
        """Whether a label can be one: what a number says of a probability is not known."""
        if self._task.is_label(label):
            return True
        if not self._said:
            log.warning("labels that are no class are not measured", label=label)
        self._said = True
        return False

    def _new(self, name: CellName) -> Cell:
        return Cell(name.start, self._span, name.version, name.arm, name.slice)

    def _masks(self, examples: Sequence[Example]) -> dict[str, NDArray[np.bool_]]:
        """Which examples are in each slice, by its name; all are in the one without a name.

        Those of other features than the pipeline's are in no other.
        """
        masks = {"": np.ones(len(examples), bool)}
        if not self._pipeline.slices:
            return masks
        size, known = self._layout.size, ("", self._pipeline.schema_hash)
        ours = np.array([one.schema in known and len(one.vector) == size for one in examples])
        rows = [
            one.vector if is_ours else bytes(size)
            for one, is_ours in zip(examples, ours.tolist(), strict=True)
        ]
        vectors = features_of(self._layout.unpack(rows))
        return masks | {one.name: one.mask(vectors) & ours for one in self._pipeline.slices}

    def _forget(self) -> None:
        """Drop the cells that are older than any label that may come, and tell of nothing recent.

        What is recent is told of all events alone.
        """
        newest = max((name.start for name in self._cells), default=0)
        changing = newest - self._pipeline.feedback.keep_seconds - self._span
        recent = min(changing, newest - BUCKETS * self._span)
        for name in [*self._cells]:
            if name.start < (changing if name.slice else recent):
                del self._cells[name]


class _Read(NamedTuple):
    offset: int
    example: Example


def _label(example: Example) -> Any:
    return example.labels or example.label


def _before(example: Example) -> Any:
    return example.previous_labels or example.previous


def _arm(example: Example) -> str:
    return example.arm if example.version else "fallback"


def _counted(
    task: Task, examples: Sequence[Example], labels: Sequence[Any], weights: Sequence[int]
) -> Counted:
    scores: NDArray[Any]
    if task.ranks:
        scores = padded([one.score for one in examples], task.outputs, 0.0).astype(np.float64)
        labelled: NDArray[Any] = padded(labels, task.outputs, np.nan)
    else:
        scores = np.array([one.score for one in examples], np.float64).reshape(len(examples), -1)
        labelled = np.array(labels, np.float64)
    fed_back = np.array([one.origin == "feedback" for one in examples], np.int64)
    return Counted(
        labels=labelled,
        scores=scores,
        decisions=np.array([one.decision for one in examples], np.int64),
        weights=np.array(weights, np.int64),
        keys=[one.key for one in examples],
        fed_back=fed_back,
        delays=_delays(examples) * fed_back,
    )


def _delays(examples: Sequence[Example]) -> NDArray[np.float64]:
    return np.array([max(0.0, one.labelled_at - one.event_time) for one in examples], np.float64)
