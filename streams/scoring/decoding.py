"""Raw records to clean columns and stateless features: a batch at a time, bad ones one by one.

What becomes of a record depends on the record alone, never on the clock: read again, it is judged
as it was the first time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from streams.dead_letters import Rejected, shrunk
from streams.errors import BadRecord
from streams.ports.batches import SourceRecord
from streams.ports.features import LARGEST, LARGEST_SUMMED, LONGEST_NAME
from streams.scoring.decoded import Decoded, read_only
from streams.scoring.validation import Validator
from streams.spec import Pipeline
from streams.spec.fields import base_type, json_name, numeric, spelt
from streams.spec.loading import explained
from streams.spec.times import epoch, numbers

log = structlog.get_logger(__name__)

_key, _value = attrgetter("key"), attrgetter("value")
_SPELLING: dict[Any, Callable[[Any], str] | None] = {str: None, int: str}
_headers, _timestamp = attrgetter("headers"), attrgetter("timestamp")


class Decoder:
    """Decodes, validates and cleans the events of one pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._vectors = pipeline.vectors
        self._event = pipeline.event
        self._cleaning = pipeline.cleaning
        self._schema = pipeline.event.schema
        time = self._event.time
        self._validator = Validator(self._schema, {time, json_name(self._schema, time)})
        self._fields = {name: attrgetter(name) for name in self._schema.model_fields}
        self._numeric = {name: numeric(self._schema, name) for name in self._schema.model_fields}
        self._keys = tuple(dict.fromkeys(plan.key for plan in pipeline.plan.keys))
        self._named = {
            name: _SPELLING.get(base_type(self._schema, name), spelt)
            for name in (self._event.id, *self._keys)
        }
        """How the values of a field that names something are spelt; None for texts."""
        self._read = pipeline.fields_read
        self._times = self._cleaning.times
        self.halved = ""
        """What failed on several events at once and on none of them alone: that is slow."""

    def decode(self, records: Sequence[SourceRecord]) -> Decoded:
        """The events of micro-batches; a bad record never costs the others.

        An error that nobody foresaw costs the record that brings it about, with the cause `failed`.
        """
        try:
            return self._featured(self._clean(records))
        except Exception as error:
            cause, detail = "failed", f"{type(error).__name__}: {error}"
            if isinstance(error, BadRecord):
                cause, detail = error.cause, error.detail
            if len(records) > 1:
                middle = len(records) // 2
                found = self.decode(records[:middle]).followed_by(self.decode(records[middle:]))
                if not found.rejected and not self.halved:
                    self.halved = detail
                    log.error("events fail together and not alone, halving batches", error=detail)
                return found
            nothing = self._featured(self._clean([]))
            return replace(nothing, rejected=[(records[0], BadRecord(cause, detail))])

    def _featured(self, decoded: Decoded) -> Decoded:
        """With the features that need no state; without events of which one is not finite.

        Raises:
            BadRecord: a feature fails, on one of the events.
        """
        if not decoded.ids:  # a feature need not take a batch of nothing
            return replace(decoded, features=self._vectors.no_stateless())
        try:
            decoded = replace(decoded, features=self._vectors.stateless(decoded.columns))
        except (Exception, SystemExit) as error:
            raise BadRecord("feature", str(explained(error))) from error
        blocks = list(decoded.features.values())
        if not blocks or np.abs(np.concatenate(blocks, axis=1)).max() <= LARGEST:
            return decoded
        bad: dict[int, BadRecord] = {}
        for at, block in decoded.features.items():
            for i in np.flatnonzero(~(np.abs(block) <= LARGEST).all(axis=1)).tolist():
                name = self._pipeline.computed[at].names[0]
                bad[i] = BadRecord("not-finite", f"feature {name} is not a finite float32")
        return decoded.without(bad)

    def _clean(self, records: Sequence[SourceRecord]) -> Decoded:
        kept, events, rejected = self._validate(records)
        bad: dict[int, BadRecord] = {}
        names: dict[str, list[str]] = {}
        columns = self._columns(events, names, bad)
        inputs, unread = self._pipeline.read_inputs(columns)
        bad |= {row: BadRecord("input", said) for row, said in unread.items() if row not in bad}
        decoded = Decoded(
            records=kept,
            ids=names[self._event.id],
            entities={key: names[key] for key in self._keys},
            columns=read_only(columns),
            times=columns[self._event.time],
            features={},
            inputs=inputs,
            rejected=rejected,
        )
        self._check_names(decoded, bad)
        self._check_times(decoded, bad)
        return decoded.without(bad)

    def _validate(
        self, records: Sequence[SourceRecord]
    ) -> tuple[list[SourceRecord], list[Any], list[Rejected]]:
        events = self._validator.all(list(map(_value, records)))
        if events is not None and all(map(_key, records)) and not any(map(_headers, records)):
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
        if shrunk(record):
            raise BadRecord("too-large", "the record is too large to be read whole")
        return self._validator.one(record.value)

    def _columns(
        self, events: list[Any], names: dict[str, list[str]], bad: dict[int, BadRecord]
    ) -> dict[str, NDArray[Any]]:
        """The fields as columns; `names` takes the texts of those that name something."""
        columns: dict[str, NDArray[Any]] = {}
        for name, read in self._fields.items():
            values = list(map(read, events))
            if name in self._named:
                spelling = self._named[name]
                names[name] = values if spelling is None else list(map(spelling, values))
            if None in values:
                values = self._fill(name, values, bad)
            columns[name] = self._column(name, values, bad)
        return columns

    def _fill(self, name: str, values: list[Any], bad: dict[int, BadRecord]) -> list[Any]:
        if name in self._cleaning.missing:
            filler = self._cleaning.missing[name]
            return [filler if value is None else value for value in values]
        if name not in self._read:
            return values
        for i, value in enumerate(values):
            if value is None:
                bad[i] = BadRecord("missing", f"{name}: is null and has no replacement")
        known = next((value for value in values if value is not None), 0.0)
        return [known if value is None else value for value in values]

    def _column(self, name: str, values: list[Any], bad: dict[int, BadRecord]) -> NDArray[Any]:
        if name == self._event.time:
            return epoch(values)
        if not self._numeric[name]:
            return np.fromiter(values, object, len(values))
        try:
            column = numbers(values)  # a null that nobody reads is not a number
        except (TypeError, ValueError) as error:
            said = f"{name}: is no number after the schema's own validators ({error})"
            raise BadRecord("invalid", said) from None
        summed = name in self._pipeline.plan.values
        for i in np.flatnonzero(~np.isfinite(column)).tolist():
            if values[i] is not None:
                bad[i] = BadRecord("not-finite", f"{name}: {column[i]} is not a finite number")
        bounds = self._cleaning.outliers.get(name)
        if bounds is not None:
            column = np.clip(column, bounds.low, bounds.high)
        if summed:
            for i in np.flatnonzero(np.abs(column) > LARGEST_SUMMED).tolist():
                too_large = f"{name}: {column[i]:g} is too large to be summed"
                bad.setdefault(i, BadRecord("not-finite", too_large))
        return column

    def _check_names(self, decoded: Decoded, bad: dict[int, BadRecord]) -> None:
        named: list[tuple[str, Sequence[Any]]] = [
            (self._event.id, decoded.ids),
            *decoded.entities.items(),
            ("the record's key", list(map(_key, decoded.records))),
        ]
        for what, names in named:
            if names and max(map(len, names)) > LONGEST_NAME:
                for i, name in enumerate(names):
                    if len(name) > LONGEST_NAME:
                        said = f"{what}: is {len(name):,} characters long, at most {LONGEST_NAME:,}"
                        bad.setdefault(i, BadRecord("too-long", said))

    def _check_times(self, decoded: Decoded, bad: dict[int, BadRecord]) -> None:
        written = np.fromiter(map(_timestamp, decoded.records), np.float64) / 1000
        for i, complaint in self._times.outside(decoded.times, written).items():
            bad[i] = BadRecord("time", f"{self._event.time}: {complaint}")
