"""What `P.shadow` says of the version on its way, as evidence that the policy decides by.

Sums only: what a stage's records say does not depend on how they are read, nor on who reads them.
So a controller that starts anew reads them again, and knows what the one before it knew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from streams.ledger.state import LedgerState, Stage
from streams.records import Manifest, Shadowed
from streams.spec import Pipeline
from streams.spec.tasks import Task
from workers.evaluation.sequential import Balance, ConfidenceSequence
from workers.evaluation.values import LOSS_BOUND, BoundedLosses
from workers.releases.rollout import StageEvidence

log = structlog.get_logger(__name__)

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


class PairedLosses:
    """Which records are evidence in a stage, and by how much the challenger's losses are larger."""

    def __init__(self, pipeline: Pipeline, state: LedgerState) -> None:
        """`state`: what the ledger says in this stage."""
        self.name = StageName.of(state)
        self._task = pipeline.predicts
        self._watched = state.stage is Stage.WATCH
        self.trained_on = trained_on(self._task, state.versions.get(state.challenger))
        """What the challenger was trained on; None where that is not known."""
        self._loss = _loss(self._task, state, self.trained_on)
        self.unit = self._loss.unit if self._loss else 1.0
        """What to divide a mean difference by, so that it reads as one of balanced classes."""
        self.least = 10 * max(2, self._task.classes)
        """Labelled events from which a slice says anything."""

    def is_ours(self, one: Shadowed) -> bool:
        """Whether it was made in this stage."""
        return StageName(one.challenger, one.champion, one.since) == self.name

    def is_evidence(self, one: Shadowed) -> bool:
        """Whether it is of this stage, an event's first label, and both versions have scored it.

        What happened before the stage began is evidence, too: neither version has seen it. But a
        champion is watched for what happens while it serves.
        """
        return (
            self.is_ours(one)
            and self._loss is not None
            and one.label is not None
            and self._task.is_label(one.label)
            and one.origin != "correction"
            and one.challenger_score is not None
            and (not self._watched or one.event_time >= one.since)
        )

    def differences(self, found: Sequence[Shadowed]) -> NDArray[np.float64]:
        """The challenger's loss minus the champion's, [n] in [-1, 1], of evidence."""
        assert self._loss is not None, "there is no evidence"
        labels = np.array([one.label for one in found], np.float32)
        theirs = self.scores([one.champion_score for one in found])
        ours = self.scores([one.challenger_score for one in found])
        return self._loss.losses(ours, labels) - self._loss.losses(theirs, labels)

    def scores(self, said: Sequence[float | list[float] | None]) -> NDArray[np.float64]:
        """Scores [n, outputs] as records have them; not finite where there is none."""
        outputs = self._task.outputs
        nothing = np.nan if outputs == 1 else [np.nan] * outputs
        rows = [nothing if one is None else one for one in said]
        return np.array(rows, np.float64).reshape(len(said), outputs)


class StageTally:
    """What the records of one stage come to."""

    def __init__(self, pipeline: Pipeline, state: LedgerState) -> None:
        """`state`: what the ledger says in this stage."""
        self.losses = PairedLosses(pipeline, state)
        slices = [one.name for one in pipeline.slices]
        confidence = pipeline.policies.rollout.step_confidence(1 + len(slices))
        self._all = ConfidenceSequence(confidence)
        self._by_slice = dict.fromkeys(slices, self._all)
        self._lately: deque[Shadowed] = deque(maxlen=LATELY)

    def add(self, records: Sequence[Shadowed]) -> None:
        """Take in what is of this stage; the rest is of another."""
        losses = self.losses
        self._lately.extend(one for one in records if one.label is None and losses.is_ours(one))
        found = [one for one in records if losses.is_evidence(one)]
        if not found:
            return
        worse = losses.differences(found)
        self._all = self._all.update(worse)
        for name, sequence in self._by_slice.items():
            inside = np.array([name in one.slices for one in found])
            self._by_slice[name] = sequence.update(worse[inside])

    def lately(self) -> Lately:
        """Scores of the newest events."""
        return Lately(
            self.losses.scores([one.champion_score for one in self._lately]),
            self.losses.scores([one.challenger_score for one in self._lately]),
        )

    def evidence(self, latest_label: float, failed: tuple[str, ...] = ()) -> StageEvidence:
        """What it comes to, with what is known from elsewhere."""
        least = self.losses.least
        return StageEvidence(
            version=self.losses.name.challenger,
            since=self.losses.name.since,
            labelled=self._all.count,
            latest_label=latest_label,
            interval=self._read(self._all),
            slices={
                name: self._read(one) for name, one in self._by_slice.items() if one.count >= least
            },
            failed=failed,
        )

    def _read(self, sequence: ConfidenceSequence) -> tuple[float, float]:
        low, high = sequence.interval
        unit = self.losses.unit
        return max(-1.0, low / unit), min(1.0, high / unit)


def trained_on(task: Task, made: Manifest | None) -> Sequence[float] | None:
    """The share of each class in what a version was trained on, or a value's mean and scale."""
    if task.classes:
        return class_shares(made, task.classes)
    return made.normalisation.get("label") if made else None


def _loss(
    task: Task, state: LedgerState, known: Sequence[float] | None
) -> Balance | BoundedLosses | None:
    """By what versions are compared; None where nobody knows how large a value's loss may be.

    That is known by the version that is compared with, else by the challenger.
    """
    if task.classes:
        return Balance.of(known or [1.0 / task.classes] * task.classes)
    for version in (state.incumbent, state.challenger):
        made = state.versions.get(version)
        if made is not None and (bound := made.metrics.get(LOSS_BOUND, 0.0)) > 0.0:
            return BoundedLosses(bound, task.quantiles)
    log.error(
        "versions cannot be compared: neither knows the errors of its training",
        champion=state.incumbent,
        challenger=state.challenger,
    )
    return None


def class_shares(made: Manifest | None, classes: int) -> Sequence[float] | None:
    """The share of each class in what a version was trained on.

    None where its manifest does not say: of more than two classes, or of a file that was trained
    elsewhere. Then all are weighed as equally frequent.
    """
    counted = [counts[:2] for counts in made.counts.values()] if made else []
    examples, positives = np.sum(counted or [[0, 0]], axis=0)
    if classes != 2 or not 0 < positives < examples:
        return None
    share = float(positives / examples)
    return [1.0 - share, share]
