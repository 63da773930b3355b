"""The shadow's work: of what was served, what champion and challenger say, side by side.

A version's score of a logged vector is the same now and later. So nothing is remembered, and
nothing is joined: an event gives a record when it was served, and one with its label for each of
its examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from streams import telemetry
from streams.ports.batches import NO_HEADERS, MicroBatch, OutputRecord, Outputs
from streams.ports.models import Challenger, Scorer
from streams.records import Example, Shadowed, encode
from streams.shadowing.inference import Patience, ShadowInference
from streams.shadowing.reading import Served, ServedReader
from streams.spec import Pipeline
from streams.spec.layout import Rows, features_of

log = structlog.get_logger(__name__)

Scores = NDArray[np.float32]


class Shadowing:
    """Compares what was served with what a challenger says; one for all partitions."""

    def __init__(
        self, pipeline: Pipeline, scorer: Scorer, challenger: Challenger, patience: float = 60.0
    ) -> None:
        """`patience`: seconds for which a challenger that does not answer is waited for."""
        self._name = pipeline.name
        self._topic = pipeline.topics.shadow
        self._declared = pipeline.slices
        self._layout = pipeline.layout
        self._challenger = challenger
        self._reader = ServedReader(pipeline)
        self._inference = ShadowInference(pipeline, scorer)
        self._patience = Patience(pipeline, patience)
        self._version = 0

    async def open(self, committed: Mapping[str, int | None]) -> Mapping[str, int]:
        """Nothing is remembered: it goes on from what is committed."""
        del committed
        return {}

    async def process(self, batch: MicroBatch) -> Outputs:
        """Records of `P.shadow` for a micro-batch of either topic; none without a challenger."""
        telemetry.EVENTS.labels(self._name, str(batch.partition)).inc(len(batch.records))
        version = self._challenger.version
        if not version:
            return {}
        served, passed_over = self._reader.read(batch.records)
        for outcome, count in passed_over.items():
            self._count(outcome, count)
        unseen = self._challenger.unseen
        fresh = [one for one in served if one.logged.event_time >= unseen]
        self._count("seen", len(served) - len(fresh))
        if not fresh:
            return {}
        with telemetry.STAGE_SECONDS.labels(self._name, "shadow").time():
            found = await self._patience.answer(version, lambda: self._compared(version, fresh))
        if found is None:
            self._count("unanswered", len(fresh))
            return {}
        return {self._topic: found}

    async def commit(self) -> None:
        """Nothing is remembered between micro-batches."""

    async def close(self) -> None:
        """Nothing was opened."""

    def observe(self) -> None:
        """The ledger has new entries: say which challenger is shadowed, where that is another."""
        version = self._challenger.version
        telemetry.CHALLENGER_VERSION.labels(self._name).set(version)
        if version and version != self._version:
            log.info("shadowing", version=version, champion=self._challenger.champion)
        self._version = version

    async def _compared(self, version: int, served: Sequence[Served]) -> list[OutputRecord]:
        """One attempt; it finds nothing where this version is not the challenger any more."""
        challenger = self._challenger
        champion, since = challenger.champion, challenger.since
        if challenger.version != version:
            return []
        rows = self._layout.unpack([one.logged.vector for one in served])
        theirs = await self._scores(champion, served, rows)
        ours = await self._scores(version, served, rows)
        known = np.asarray(np.isfinite(theirs).all(axis=1))
        both = np.asarray(known & np.isfinite(ours).all(axis=1))
        self._count("compared", int(np.count_nonzero(both)))
        self._count("erred", int(np.count_nonzero(~both)))
        slices = self._slices(features_of(rows))
        return [
            _record(one, (champion, said), (version, says if answered else None), since, inside)
            for one, said, says, is_known, answered, inside in zip(
                served,
                _plain(theirs),
                _plain(ours),
                known.tolist(),
                both.tolist(),
                slices,
                strict=True,
            )
            if is_known
        ]

    def _slices(self, vectors: NDArray[np.float32]) -> list[list[str]]:
        """Of each vector the names of the declared slices that it is in."""
        found: list[list[str]] = [[] for _ in vectors]
        for one in self._declared:
            for row in np.flatnonzero(one.mask(vectors)).tolist():
                found[row].append(one.name)
        return found

    async def _scores(self, version: int, served: Sequence[Served], rows: Rows) -> Scores:
        """What a version says, float32 [n, outputs]: as it was served, else it is asked."""
        asked = np.fromiter((one.logged.version != version for one in served), bool, len(served))
        said = [one.logged.score for one in served]
        scores = np.array(said, np.float32).reshape(len(served), -1)
        scores[asked] = await self._inference.score(version, rows[asked])
        return scores

    def _count(self, outcome: str, records: int) -> None:
        if records:
            telemetry.SHADOWED.labels(self._name, outcome).inc(records)


def _plain(scores: Scores) -> list[Any]:
    """Of each event its score, or one score for each class."""
    found: list[Any] = (scores[:, 0] if scores.shape[1] == 1 else scores).tolist()
    return found


def _record(
    served: Served,
    champion: tuple[int, Any],
    challenger: tuple[int, Any],
    since: float,
    slices: list[str],
) -> OutputRecord:
    source, logged = served
    key = source.key or b""
    common: dict[str, Any] = {
        "event_id": logged.event_id,
        "event_time": logged.event_time,
        "champion": champion[0],
        "champion_score": champion[1],
        "challenger": challenger[0],
        "challenger_score": challenger[1],
        "served": logged.version,
        "key": key.decode(errors="replace"),
        "since": since,
    }
    if isinstance(logged, Example):
        common |= {
            "label": logged.label,
            "labelled_at": logged.labelled_at,
            "origin": logged.origin,
            "slices": slices,
        }
    else:
        common["entities"] = logged.entities
    return source.key, encode(Shadowed(**common)), NO_HEADERS
