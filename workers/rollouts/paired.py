"""What `P.shadow` says of the version on its way, as evidence that the policy decides by.

Sums only: what a stage's records say does not depend on how they are read, nor on who reads them.
So a controller that starts anew reads them again, and knows what the one before it knew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from streams.ledger.state import LedgerState, Stage
from streams.ports.batches import SourceRecord
from streams.records import Manifest, Shadowed, decoder
from streams.spec import Pipeline
from workers.evaluation.sequential import Balance, ConfidenceSequence
from workers.releases.rollout import StageEvidence

log = structlog.get_logger(__name__)

_decode = decoder(Shadowed).decode
LATELY = 2000
"""Events without a label that are looked at together, the newest."""


class StageName(NamedTuple):
    """A stage of a roll-out, as its records name it."""

    challenger: int
    champion: int
    since: float

    @classmethod
    def of(cls, state: LedgerState) -> StageName:
        """The stage that the ledger is in."""
        return cls(state.challenger, state.incumbent, state.since)


class Lately(NamedTuple):
    """Both versions' scores of the newest events, side by side; float64 [n, outputs] each."""

    champion: NDArray[np.float64]
    challenger: NDArray[np.float64]
    """Not finite where it gave no score."""


class StageTally:
    """What records of one stage say so far."""

    def __init__(self, pipeline: Pipeline, state: LedgerState) -> None:
        """`state`: what the ledger says in this stage."""
        self.name = StageName.of(state)
        self._outputs = pipeline.model.outputs
        self._classes = max(2, self._outputs)
        self._watched = state.stage is Stage.WATCH
        shares = class_shares(state.versions.get(state.challenger), self._classes)
        self._balance = Balance.of(shares)
        slices = [one.name for one in pipeline.slices]
        confidence = pipeline.policies.rollout.step_confidence(1 + len(slices))
        self._all = ConfidenceSequence(confidence)
        self._by_slice = dict.fromkeys(slices, self._all)
        self._lately: deque[Shadowed] = deque(maxlen=LATELY)

    def add(self, records: Iterable[Shadowed]) -> None:
        """Take in what is of this stage; the rest is of another."""
        ours = [one for one in records if self._is_ours(one)]
        self._lately.extend(one for one in ours if one.label is None)
        self._add_labelled([one for one in ours if self._is_evidence(one)])

    def lately(self) -> Lately:
        """Scores of the newest events."""
        return Lately(
            self._scores([one.champion_score for one in self._lately]),
            self._scores([one.challenger_score for one in self._lately]),
        )

    def evidence(self, latest_label: float, failed: tuple[str, ...] = ()) -> StageEvidence:
        """What it comes to, with what is known from elsewhere."""
        least = self._classes * 10
        return StageEvidence(
            version=self.name.challenger,
            since=self.name.since,
            labelled=self._all.count,
            latest_label=latest_label,
            interval=self._read(self._all),
            slices={
                name: self._read(one) for name, one in self._by_slice.items() if one.count >= least
            },
            failed=failed,
        )

    def _is_ours(self, one: Shadowed) -> bool:
        return StageName(one.challenger, one.champion, one.since) == self.name

    def _is_evidence(self, one: Shadowed) -> bool:
        """Whether it is an event's first label, and both versions have scored the event.

        What happened before the stage began is evidence, too: neither version has seen it. But a
        champion is watched for what happens while it serves.
        """
        return (
            one.label in range(self._classes)
            and one.origin != "correction"
            and one.challenger_score is not None
            and (not self._watched or one.event_time >= one.since)
        )

    def _add_labelled(self, found: Sequence[Shadowed]) -> None:
        if not found:
            return
        labels = np.array([one.label for one in found], np.float32)
        theirs = self._scores([one.champion_score for one in found])
        ours = self._scores([one.challenger_score for one in found])
        worse = self._balance.losses(ours, labels) - self._balance.losses(theirs, labels)
        self._all = self._all.update(worse)
        for name, sequence in self._by_slice.items():
            inside = np.array([name in one.slices for one in found])
            self._by_slice[name] = sequence.update(worse[inside])

    def _scores(self, said: Sequence[float | list[float] | None]) -> NDArray[np.float64]:
        nothing = np.nan if self._outputs == 1 else [np.nan] * self._outputs
        rows = [nothing if one is None else one for one in said]
        return np.array(rows, np.float64).reshape(len(said), self._outputs)

    def _read(self, sequence: ConfidenceSequence) -> tuple[float, float]:
        low, high = sequence.interval
        unit = self._balance.unit
        return max(-1.0, low / unit), min(1.0, high / unit)


def read_shadowed(records: Iterable[SourceRecord]) -> list[Shadowed]:
    """What records of `P.shadow` say; one that cannot be read is logged and passed over."""
    found = []
    for record in records:
        if record.value is None:
            continue
        try:
            found.append(_decode(record.value))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            log.error(
                "a compared event cannot be read, passing over it",
                partition=record.partition,
                offset=record.offset,
                error=str(error),
            )
    return found


def class_shares(made: Manifest | None, classes: int) -> Sequence[float]:
    """The share of each class in what a version was trained on.

    All are taken to be equal where its manifest does not say: of more than two classes, or of a
    file that was trained elsewhere.
    """
    counted = [counts[:2] for counts in made.counts.values()] if made else []
    examples, positives = np.sum(counted or [[0, 0]], axis=0)
    if classes != 2 or not 0 < positives < examples:
        return [1.0 / classes] * classes
    share = float(positives / examples)
    return [1.0 - share, share]
