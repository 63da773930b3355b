"""Doubles that tests hand to what they test."""

from __future__ import annotations

from collections.abc import Mapping

from streams.ports.features import FeatureState, FoldBatch, Folded, LabelBatch, LabelsFolded


class LosingState:
    """A `FeatureState` that can be set back to what it was: `held` is what it has now."""

    def __init__(self, held: FeatureState) -> None:
        self.held = held

    async def fold(self, batch: FoldBatch) -> Folded:
        return await self.held.fold(batch)

    async def fold_labels(self, batch: LabelBatch) -> LabelsFolded:
        return await self.held.fold_labels(batch)

    async def position(self, partition: int) -> int | None:
        return await self.held.position(partition)

    async def answered(self, partition: int) -> int | None:
        return await self.held.answered(partition)

    async def label_note(self, partition: int, stream: str = "feedback") -> bytes:
        return await self.held.label_note(partition, stream)

    async def reposition(self, partition: int, offset: int) -> None:
        await self.held.reposition(partition, offset)

    async def whole(self) -> bool:
        return await self.held.whole()

    async def declare_whole(self, ends: Mapping[int, int]) -> bool:
        return await self.held.declare_whole(ends)

    async def close(self) -> None:
        await self.held.close()
