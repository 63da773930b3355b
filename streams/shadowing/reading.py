"""Records of `P.scored` and `P.examples` as what was served: ours, so a bad one is only counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import structlog

from streams.dead_letters import shrunk
from streams.ports.batches import SourceRecord
from streams.records import Example, Scored, decoder
from streams.spec import Pipeline

log = structlog.get_logger(__name__)


class Served(NamedTuple):
    """A record of either topic: both have a vector, a score and the version that gave it."""

    source: SourceRecord
    logged: Scored | Example


class ServedReader:
    """Reads records, and passes over those that cannot be compared."""

    def __init__(self, pipeline: Pipeline) -> None:
        topics = pipeline.topics
        self._decode = {
            topics.scored: decoder(Scored).decode,
            topics.examples: decoder(Example).decode,
        }
        self._schema = pipeline.schema_hash
        self._size = pipeline.layout.size
        self._outputs = pipeline.model.outputs
        self._said: set[str] = set()

    def read(self, records: Iterable[SourceRecord]) -> tuple[list[Served], Counter[str]]:
        """What was served, and how many records are passed over, by outcome.

        `unreadable` are no records of their topic; `other_features` have a vector that means
        something else than the pipeline's does today. Tombstones count for nothing.
        """
        found, passed_over = list[Served](), Counter[str]()
        for record in records:
            if record.value is None:
                continue
            logged, problem = self._logged(record)
            if logged is None:
                passed_over["unreadable"] += 1
                self._say(record, problem)
            elif logged.schema != self._schema:
                passed_over["other_features"] += 1
            else:
                found.append(Served(record, logged))
        return found, passed_over

    def _logged(self, record: SourceRecord) -> tuple[Scored | Example | None, str]:
        """A record's content, or what is wrong with it."""
        if shrunk(record):
            return None, "it is too large to be read whole"
        try:
            logged: Scored | Example = self._decode[record.topic](record.value or b"")
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            return None, str(error)
        if logged.schema != self._schema:
            return logged, ""
        several = logged.score if isinstance(logged.score, list) else [logged.score]
        if len(logged.vector) != self._size or len(several) != self._outputs:
            return None, "its vector or its score has another length than the pipeline's"
        return logged, ""

    def _say(self, record: SourceRecord, problem: str) -> None:
        """One line for the first of each topic."""
        if record.topic not in self._said:
            log.warning(
                "records cannot be read, the shadow passes over them",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                error=problem,
            )
        self._said.add(record.topic)
