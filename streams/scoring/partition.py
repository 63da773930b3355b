"""One partition's part in scoring: where it begins, what it folds, and how many records are bad."""

from __future__ import annotations

from collections.abc import Mapping

from streams.aio.coalescing import Coalescer
from streams.breaker import InvalidBreaker
from streams.ports.batches import MicroBatch, Outputs, PastPredictions
from streams.scoring.folding import Folding


class PartitionScoring:
    """The processor of one partition: its micro-batches are scored together with its siblings'."""

    def __init__(
        self,
        joint: JointScoring,
        folding: Folding,
        breaker: InvalidBreaker,
        predictions: PastPredictions | None = None,
    ) -> None:
        self._joint = joint
        self._predictions = predictions
        self.folding = folding
        self.breaker = breaker

    async def open(self, committed: Mapping[str, int | None]) -> Mapping[str, int]:
        """Bring the feature state in line with the committed offsets.

        Where nothing is committed though events were predicted, it goes on after them: not below
        the first offset of which the feature state still has the answer.
        """
        topic, partition = self.folding.topic, self.folding.partition
        resumed: dict[str, int] = {}
        if committed.get(topic) is None and self._predictions is not None:
            predicted = await self._predictions.end(partition)
            if at := max(predicted, await self.folding.answered()):
                resumed = {topic: at}
        await self.folding.open({**committed, **resumed})
        return resumed

    async def process(self, batch: MicroBatch) -> Outputs:
        """As `Scoring.score`, for one micro-batch."""
        return await self._joint.ask((self, batch))

    async def commit(self) -> None:
        """Nothing is remembered between micro-batches."""

    async def close(self) -> None:
        """Nothing was opened."""


JointScoring = Coalescer[tuple[PartitionScoring, MicroBatch], Outputs]
