"""The application that has a challenger score what was served, into `P.shadow`."""

from __future__ import annotations

from streams.adapters.triton.endpoints import TritonEndpoints
from streams.engine.app import BatchApp
from streams.kafka.topic_watch import TopicWatch
from streams.ledger.challenger import LedgerChallenger
from streams.ledger.topic import LedgerFollower
from streams.settings import Settings
from streams.shadowing.processor import Shadowing
from streams.spec import Pipeline
from streams.wiring.application import Parts, application, unhurried


def shadowing_app(settings: Settings, pipeline: Pipeline) -> BatchApp:
    """The application that compares `P.scored` and `P.examples` with a challenger.

    Nobody waits for it: it takes larger and fewer batches, which leaves more to the others.
    """
    relaxed = unhurried(settings)
    parts = _ShadowingParts(relaxed, pipeline)
    return application(relaxed, pipeline, parts, "shadow")


class _ShadowingParts(Parts):
    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        topics = pipeline.topics
        read = (topics.scored, topics.examples, topics.models)
        super().__init__(settings, pipeline, TopicWatch(settings, pipeline, read, (topics.shadow,)))
        self._ledger = LedgerFollower(settings, pipeline, self._observe)
        # to load what a Triton lacks is the publisher's: it would touch the champion, too
        self._scorer = TritonEndpoints.of(
            settings, pipeline, lambda: self._ledger.state.versions, repairing=False
        )
        challenger = LedgerChallenger(pipeline, lambda: self._ledger.state)
        self._scorer.expect(lambda: (challenger.version,) if challenger.version else ())
        self._shadowing = Shadowing(pipeline, self._scorer, challenger, settings.shadow_patience)

    async def start(self) -> None:
        await super().start()
        await self._connected(self._ledger.start)

    async def stop(self) -> None:
        await self._ledger.stop()
        await self._scorer.close()
        await super().stop()

    def _observe(self) -> None:
        self._shadowing.observe()

    def processor(self, partition: int) -> Shadowing:
        del partition
        return self._shadowing
