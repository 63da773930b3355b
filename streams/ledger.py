"""The ledger `P.models`: which version serves, folded from every promotion and rollback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams import telemetry
from streams.cancelling import cancel
from streams.records import LedgerEntry, Manifest, decoder
from streams.settings import Settings
from streams.spec import Pipeline
from streams.transport.clients import away, reader

log = structlog.get_logger(__name__)

_decode = decoder(LedgerEntry).decode
PROMOTIONS = ("promote", "rollback")


@dataclass(frozen=True)
class Serving:
    """What the ledger says at some point."""

    champion: int = 0
    """0 while no version was promoted."""
    previous: int = 0
    """The champion before; 0 for none."""
    threshold: float = 0.5
    versions: dict[int, Manifest] = field(default_factory=dict)
    """Manifest by version, of every candidate that was ever decided on."""
    promoted: tuple[int, ...] = ()
    """Versions that have been champion, the latest stay last; each once."""
    decided: float = 0.0
    """Largest label watermark that a candidate was decided on; its window is not tried again."""

    @property
    def manifest(self) -> Manifest | None:
        """The champion's."""
        return self.versions.get(self.champion)


def fold(serving: Serving, entry: LedgerEntry) -> Serving:
    """What the ledger says after one more entry."""
    manifest = entry.manifest
    if manifest is not None:
        serving = replace(
            serving,
            versions={**serving.versions, entry.version: manifest},
            decided=max(serving.decided, manifest.label_watermark),
        )
    if entry.action not in PROMOTIONS:
        return serving
    before = tuple(version for version in serving.promoted if version != entry.version)
    return replace(
        serving,
        champion=entry.version,
        previous=serving.champion,
        threshold=entry.threshold,
        promoted=(*before, entry.version),
    )


def serving(entries: Iterable[LedgerEntry]) -> Serving:
    """What the ledger says after these entries."""
    found = Serving()
    for entry in entries:
        found = fold(found, entry)
    return found


async def read_ledger(settings: Settings, pipeline: Pipeline) -> list[LedgerEntry]:
    """Every entry so far, oldest first.

    Raises:
        Unavailable: no broker answered.
    """
    tail = LedgerTail(settings, pipeline)
    await tail.start()
    try:
        return await tail.catch_up() if await tail.exists() else []
    finally:
        await tail.stop()


class LedgerTail:
    """Reads a pipeline's ledger from its beginning on."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._partition = TopicPartition(pipeline.topics.models, 0)
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Connect. Raises `Unavailable`."""
        consumer = reader(self._settings)
        try:
            await consumer.start()
        except (KafkaError, OSError) as error:
            await consumer.stop()
            raise away(self._settings, error) from None
        self._consumer = consumer

    async def exists(self) -> bool:
        """Whether there is a ledger yet; connected first. Raises `Unavailable`."""
        assert self._consumer is not None
        try:
            return self._partition.topic in await self._consumer.topics()
        except KafkaError as error:
            raise away(self._settings, error) from None

    async def catch_up(self) -> list[LedgerEntry]:
        """All entries up to the end of the ledger as it is now. Raises `Unavailable`."""
        assert self._consumer is not None
        entries: list[LedgerEntry] = []
        self._consumer.assign([self._partition])
        try:
            end = (await self._consumer.end_offsets([self._partition]))[self._partition]
            while await self._consumer.position(self._partition) < end:
                entries += await self.following()
        except KafkaError as error:
            raise away(self._settings, error) from None
        return entries

    async def following(self) -> list[LedgerEntry]:
        """The next entries; none when there were none within half a second."""
        assert self._consumer is not None
        found = await self._consumer.getmany(self._partition, timeout_ms=500)
        entries = []
        for record in found.get(self._partition, []):
            try:
                entries.append(_decode(record.value or b""))
            except msgspec.MsgspecError as error:
                log.error("ledger entry cannot be read, passing over it",
                          offset=record.offset, error=str(error))  # fmt: skip
        return entries

    async def stop(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()


class LedgerFollower:
    """Keeps `current` up to date while it runs; a `Champion` for the scoring path."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._tail = LedgerTail(settings, pipeline)
        self._task: asyncio.Task[None] | None = None
        self.current = Serving()

    @property
    def version(self) -> int:
        """The champion's version; 0 while there is none that fits the pipeline's features."""
        return self.current.champion if self._fits() else 0

    @property
    def threshold(self) -> float:
        """The pipeline's own threshold, else the champion's."""
        own = self._pipeline.decision.threshold
        return self.current.threshold if own is None else own

    async def start(self) -> None:
        """Read the ledger to its end, then follow it. Raises `Unavailable`."""
        await self._tail.start()
        try:
            self._take(await self._tail.catch_up())
        except BaseException:
            await self._tail.stop()
            raise
        self._task = asyncio.create_task(self._follow(), name="ledger")

    async def stop(self) -> None:
        """Stop following; `current` stays as it is."""
        task, self._task = self._task, None
        if task is not None:
            await cancel(task)
        await self._tail.stop()

    async def _follow(self) -> None:
        while True:
            try:
                self._take(await self._tail.following())
            except KafkaError as error:
                log.warning("ledger cannot be read, retrying", error=repr(error))
                await asyncio.sleep(1.0)

    def _take(self, entries: list[LedgerEntry]) -> None:
        before = self.version
        for entry in entries:
            self.current = fold(self.current, entry)
        telemetry.SERVING_VERSION.labels(self._pipeline.name).set(self.version)
        if entries and not self._fits():
            log.error("champion learnt from other features, serving the fallback",
                      version=self.current.champion, pipeline=self._pipeline.name)  # fmt: skip
        elif self.version != before:
            log.info("serving", pipeline=self._pipeline.name, version=self.version,
                     threshold=self.threshold)  # fmt: skip

    def _fits(self) -> bool:
        manifest = self.current.manifest
        return manifest is None or manifest.schema_hash == self._pipeline.schema_hash
