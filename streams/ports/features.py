"""The feature state: what is kept per entity, and what a fold takes and returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

LONGEST_NAME = 1024
"""Most characters of an event's id, and of an entity's name; bytes of a record's key."""
LARGEST = float(np.finfo(np.float32).max)
LARGEST_SUMMED = LARGEST / 2**32
"""A window counts fewer than 2^32 events, so no sum of such values leaves float32."""
MOST_EVENTS = 1 << 15
"""So many events of an entity are kept. One that gets more, a merchant "unknown" of all shops,
would cost ever more: it forgets its oldest, and its windows count only what is left."""
LEFT_EVENTS = MOST_EVENTS // 8 * 7
"""What is left when an entity had too many."""


@dataclass(frozen=True)
class FoldBatch:
    """Events of one partition, in offset order, to be counted into the feature state once.

    `n` events out of the span [first, next) of offsets; the others of the span were bad records.
    """

    partition: int
    first: int
    next: int
    offsets: NDArray[np.int64]
    """[n], ascending, each in [first, next)."""
    ids: NDArray[np.uint64]
    """[n] 64-bit hashes of the event ids."""
    times: NDArray[np.uint32]
    """[n] event time, seconds since 1970 (UTC)."""
    entities: Sequence[Sequence[bytes]]
    """One list of n entity names per key plan, in the plan's order."""
    values: NDArray[np.float64]
    """[n, len(plan.values)]."""
    committed: int = 0
    """Offsets below this are committed: the state may drop their answers."""
    whole: bool = False
    """Fold into a state that is whole, or not at all: see `FeatureState.whole`."""


@dataclass(frozen=True)
class Folded:
    """What a fold returns: the same answer for the same offset, however often it is asked."""

    aggregates: NDArray[np.float64]
    """[n, plan.width]: for each key plan, by window the count, the sums, the sum of labels and the
    labels of each class; then the scans, NaN where a window has too few events."""
    duplicate: NDArray[np.bool_]
    """[n] True where the key had this event id within the plan's `remember` seconds."""


def label_stream(topic_ids: str = "") -> str:
    """The stream in which a labeller folds; `topic_ids` names the topics that it joins."""
    return f"met{topic_ids}"


def concatenate(parts: Sequence[Folded]) -> Folded:
    """Answers to several batches, or parts of one, as one."""
    return Folded(
        np.concatenate([part.aggregates for part in parts]),
        np.concatenate([part.duplicate for part in parts]),
    )


@dataclass(frozen=True)
class LabelBatch:
    """Label changes of one partition, to be added to the windows of the events they belong to.

    An entry names one entity for each key plan that has labels. `stream` names a sequence of
    positions, such as the offsets of a topic, or the sum of two topics' offsets.
    """

    partition: int
    next: int
    """The position after the batch's last; becomes the stream's fence."""
    offsets: NDArray[np.int64]
    """[n] positions, ascending; entries below the fence were added before and are left out."""
    times: NDArray[np.uint32]
    """[n] event time of the labelled event, seconds since 1970."""
    entities: Sequence[Sequence[bytes]]
    """One list of n entity names per key plan that has `labels`, in the plan's order."""
    deltas: NDArray[np.float64]
    """[n] the label, or the difference from an earlier one that it corrects."""
    by_class: NDArray[np.float64] | None = None
    """[n, len(plan.classes)]: 1 where the label is of that class now, -1 where it was before, else
    0; of class 0, which no label stands for too, those of the other classes. None without such."""
    stream: str = "feedback"
    """Each stream has its own fence."""
    first: int = 0
    """The fence must be at least this: a state whose fence is lower lacks earlier labels."""
    note: bytes = b""
    """Stored with the fence; returned by `label_note`."""


@dataclass(frozen=True)
class LabelsFolded:
    """How many label entries were added in time, how many late, how many found no event."""

    added: int
    late: int
    """Added after some window had already counted the event: that window is not corrected."""
    expired: int
    """The event is no longer in any window."""


class FeatureState(Protocol):
    """Per-entity window state. One call per micro-batch, atomic and fenced by offset."""

    async def fold(self, batch: FoldBatch) -> Folded:
        """Count events in and return the aggregates as of each event.

        Offsets below the partition's fence were folded before: their first answer is returned
        and nothing changes. Raises `StateBehind` when the fence is below `batch.first` although
        offsets from the fence on may hold events (a state that was lost has its fence at 0), or
        when `batch.whole` asks for a state that is, and it is not; `Unavailable` when the server is
        away.
        """
        ...

    async def fold_labels(self, batch: LabelBatch) -> LabelsFolded:
        """Add labels, each position once.

        Raises `StateBehind` when the fence is below `batch.first`, and nothing changes then;
        `Unavailable` when the server is away.
        """
        ...

    async def position(self, partition: int) -> int | None:
        """The next offset that the partition's fold expects; None when it never folded."""
        ...

    async def answered(self, partition: int) -> int | None:
        """The first offset of which the answer is kept, or the next one where none is kept; None
        when the partition never folded."""
        ...

    async def label_note(self, partition: int, stream: str = "feedback") -> bytes:
        """The note of the batch that moved a stream's fence last; empty when none did."""
        ...

    async def reposition(self, partition: int, offset: int) -> None:
        """Move the fence over offsets that hold no events (first start in mid-topic, retention)."""
        ...

    async def whole(self) -> bool:
        """Whether the state has been declared whole: nothing that was committed is missing.

        Partitions share entities. So after a loss no partition's windows are right before all
        partitions' events, and their labels, are back. A state that was lost is not whole.
        """
        ...

    async def declare_whole(self, ends: Mapping[int, int]) -> bool:
        """Declare it whole, unless a partition's fence is below its end: it was lost meanwhile."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
