"""A version that was right where it was judged and is wrong where it would serve.

It was trained and judged on amounts in cents, somebody says; events have them in euros.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from streams.aio.retrying import until_available
from streams.ledger.state import LedgerState, Stage, state_after
from streams.ledger.topic import read_state
from streams.records import Action, LedgerEntry, Manifest
from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.model import INPUT
from workers.releases.candidate import Judged
from workers.releases.lifecycle import Lifecycle
from workers.releases.repository import digest

_CENTS = 100.0
_LOOK = 0.2
"""Seconds between two looks at the ledger."""
_REASON = "it was as good as the champion, where both were judged: amounts were in cents there"


class Mistake:
    """Lets the version in once, past the gate, and says what became of it."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self.version = 0
        """The version; 0 until it has been let in."""

    async def run(
        self, ledger: Callable[[], Sequence[LedgerEntry]], due: Callable[[], bool]
    ) -> None:
        """Wait until it is due and no other version waits for its turn, and let it in."""
        while not (due() and _is_free(state_after(ledger()))):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)
        life = Lifecycle(self._settings, self._pipeline)
        try:
            entry = await until_available(self._pipeline.name, "demo", lambda: self._let_in(life))
        finally:
            await life.close()
        self.version = entry.version

    def story(self, ledger: Sequence[LedgerEntry]) -> list[LedgerEntry]:
        """What the ledger says of it, oldest first."""
        return [entry for entry in ledger if entry.version == self.version > 0]

    def thrown_out(self, ledger: Sequence[LedgerEntry]) -> bool:
        """Whether it was let in, came as far as the shadow, and was rejected by the roll-out."""
        actions = [entry.action for entry in self.story(ledger)]
        by = [entry.by for entry in self.story(ledger)]
        return actions == [Action.CANDIDATE, Action.SHADOW, Action.REJECT] and by[-1] == "rollout"

    async def _let_in(self, life: Lifecycle) -> LedgerEntry:
        now = await read_state(self._settings, self._pipeline)
        champion = now.versions[now.champion]
        data = life.publisher.repository.model(now.champion, champion.model_sha256)
        wrong = in_another_unit(data, _factors(champion))
        made = msgspec.structs.replace(
            champion, parent=now.champion, model_sha256=digest(wrong), version=0
        )
        judged = Judged(made, wrong, Action.PROMOTE, _REASON)
        return await life.release(judged, by="operator")


def in_another_unit(data: bytes, factors: Sequence[float]) -> bytes:
    """The same model for columns that are so many times as large, [features]; an ONNX file."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(data)
    graph = model.graph
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == INPUT:
                node.input[place] = f"{INPUT}_in_another_unit"
    factor = numpy_helper.from_array(np.array([factors], np.float32), "unit")
    scaled = helper.make_node("Mul", [INPUT, factor.name], [f"{INPUT}_in_another_unit"])
    graph.initializer.append(factor)
    graph.node.insert(0, scaled)
    return bytes(model.SerializeToString())


def _factors(champion: Manifest) -> list[float]:
    return [1.0 / _CENTS if "amount" in name else 1.0 for name in champion.feature_names]


def _is_free(now: LedgerState) -> bool:
    return now.champion > 0 and not now.waiting and now.stage in (Stage.NONE, Stage.WATCH)
