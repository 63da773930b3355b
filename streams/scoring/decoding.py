"""Raw records to clean columns and stateless features: a batch at a time, bad ones one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streams.dead_letters import Rejected
from streams.errors import BadRecord
from streams.ports.batches import SourceRecord
from streams.scoring.validation import Validator
from streams.spec import Columns, Pipeline
from streams.spec.durations import seconds
from streams.spec.events import base_type, epoch
from streams.spec.features import Block

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Decoded:
    """The good events of a micro-batch, in offset order."""

    records: list[SourceRecord]
    """[n] where they came from."""
    ids: list[str]
    """[n] event ids."""
    columns: Columns
    """Cleaned fields by name; the event time in seconds since 1970."""
    times: NDArray[np.float64]
    """[n] event time, seconds since 1970."""
    features: dict[int, Block]
    """Features that need no state, by their position: float64 [n, width] each."""
    rejected: list[Rejected]
    """The others, each with its cause."""

    def hashes(self) -> NDArray[np.uint64]:
        """[n] 64-bit hashes of the event ids."""
        encoded = map(str.encode, self.ids)
        return np.fromiter(map(xxh3_64_intdigest, encoded), np.uint64, len(self.ids))

    def select(self, keep: NDArray[np.bool_], rejected: list[Rejected]) -> Decoded:
        """The events where `keep` is set, with more rejected ones."""
        chosen = np.flatnonzero(keep).tolist()
        return Decoded(
            records=[self.records[i] for i in chosen],
            ids=[self.ids[i] for i in chosen],
            columns={name: column[keep] for name, column in self.columns.items()},
            times=self.times[keep],
            features={at: block[keep] for at, block in self.features.items()},
            rejected=[*self.rejected, *rejected],
        )


class Decoder:
    """Decodes, validates and cleans the events of one pipeline."""

    def __init__(self, pipeline: Pipeline, now: Callable[[], float] = time.time) -> None:
        self._pipeline = pipeline
        self._event = pipeline.event
        self._cleaning = pipeline.cleaning
        self._schema = pipeline.event.schema
        self._now = now
        self._validator = Validator(self._schema)
        self._fields = {name: attrgetter(name) for name in self._schema.model_fields}
        self._numeric = {
            name: base_type(self._schema, name) in (int, float, bool)
            for name in self._schema.model_fields
        }
        self._earliest = self._cleaning.earliest.replace(tzinfo=UTC).timestamp()
        self._ahead = seconds(self._cleaning.ahead, "cleaning.ahead")

    def decode(self, records: Sequence[SourceRecord]) -> Decoded:
        """The events of micro-batches; a bad record never costs the others."""
        decoded = self._clean(records)
        try:
            return replace(decoded, features=self._pipeline.stateless(decoded.columns))
        except Exception as error:
            log.warning("a feature failed, looking for the event", error=repr(error))
        return self._computable(decoded)

    def _computable(self, decoded: Decoded) -> Decoded:
        """Without the events on which a feature fails: they are not counted."""
        keep = np.ones(len(decoded.ids), bool)
        rejected: list[Rejected] = []
        for i, record in enumerate(decoded.records):
            try:
                self._pipeline.stateless({k: c[i : i + 1] for k, c in decoded.columns.items()})
            except Exception as error:
                keep[i] = False
                rejected.append((record, BadRecord("feature", repr(error))))
        decoded = decoded.select(keep, rejected)
        return replace(decoded, features=self._pipeline.stateless(decoded.columns))

    def _clean(self, records: Sequence[SourceRecord]) -> Decoded:
        kept, events, rejected = self._validate(records)
        columns, bad = self._columns(events)
        times = columns[self._event.time]
        decoded = Decoded(
            records=kept,
            ids=list(map(str, map(self._fields[self._event.id], events))),
            columns=columns,
            times=times,
            features={},
            rejected=rejected,
        )
        bad.update(self._bad_times(times))
        if not bad:
            return decoded
        keep = np.ones(len(kept), bool)
        keep[list(bad)] = False
        return decoded.select(keep, [(kept[i], error) for i, error in sorted(bad.items())])

    def _validate(
        self, records: Sequence[SourceRecord]
    ) -> tuple[list[SourceRecord], list[Any], list[Rejected]]:
        events = self._validator.all([record.value for record in records])
        if events is not None and all(record.key for record in records):
            return list(records), events, []
        kept: list[SourceRecord] = []
        events = []
        rejected: list[Rejected] = []
        for record in records:
            try:
                events.append(self._validate_one(record))
                kept.append(record)
            except BadRecord as error:
                rejected.append((record, error))
        return kept, events, rejected

    def _validate_one(self, record: SourceRecord) -> Any:
        if not record.key:
            raise BadRecord("missing-key", f"the record has no key; key it by {self._event.key}")
        if not record.value:
            raise BadRecord("empty", "the record has no value")
        return self._validator.one(record.value)

    def _columns(self, events: list[Any]) -> tuple[Columns, dict[int, BadRecord]]:
        columns: dict[str, NDArray[Any]] = {}
        bad: dict[int, BadRecord] = {}
        for name, read in self._fields.items():
            values = list(map(read, events))
            if None in values:
                values = self._fill(name, values, bad)
            columns[name] = self._column(name, values, bad)
        return columns, bad

    def _fill(self, name: str, values: list[Any], bad: dict[int, BadRecord]) -> list[Any]:
        if name in self._cleaning.missing:
            filler = self._cleaning.missing[name]
            return [filler if value is None else value for value in values]
        for i, value in enumerate(values):
            if value is None:
                bad[i] = BadRecord("missing", f"{name}: is null and has no replacement")
        known = next((value for value in values if value is not None), 0.0)
        return [known if value is None else value for value in values]

    def _column(self, name: str, values: list[Any], bad: dict[int, BadRecord]) -> NDArray[Any]:
        if name == self._event.time:
            return epoch(values)
        if not self._numeric[name]:
            column = np.empty(len(values), object)
            column[:] = values
            return column
        numbers = np.array(values, np.float64)
        for i in np.flatnonzero(~np.isfinite(numbers)).tolist():
            bad[i] = BadRecord("not-finite", f"{name}: {values[i]} is not a finite number")
        bounds = self._cleaning.outliers.get(name)
        return numbers if bounds is None else np.clip(numbers, bounds.low, bounds.high)

    def _bad_times(self, times: NDArray[np.float64]) -> dict[int, BadRecord]:
        latest = self._now() + self._ahead
        absurd = ~((times >= self._earliest) & (times <= latest))
        return {
            i: BadRecord("time", f"{self._event.time}: {_readable(times[i])} is out of range")
            for i in np.flatnonzero(absurd).tolist()
        }


def _readable(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return repr(float(at))
