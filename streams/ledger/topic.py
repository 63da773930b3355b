"""The ledger as a topic: read, followed, and written."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec
import structlog

from streams import telemetry
from streams.aio.cancelling import cancel
from streams.errors import Unavailable
from streams.kafka import writing
from streams.kafka.reading import TopicFollower, read_topic
from streams.ledger.state import LedgerState, Stage, state_after
from streams.ports.batches import SourceRecord
from streams.ports.models import Beside
from streams.records import CANARY, HOLDOUT, Action, LedgerEntry, Manifest, decoder, encode
from streams.settings import Settings
from streams.spec import Pipeline
from streams.versions import fits, lacks

log = structlog.get_logger(__name__)

_AGAIN = 1.0
"""Seconds until a ledger that cannot be followed is asked again."""

_decode = decoder(LedgerEntry).decode


async def read_entries(settings: Settings, pipeline: Pipeline) -> list[LedgerEntry]:
    """Every entry so far, oldest first. Raises `Unavailable`."""
    return decode(await read_topic(settings, pipeline.topics.models))


async def read_state(settings: Settings, pipeline: Pipeline) -> LedgerState:
    """What the ledger says now. Raises `Unavailable`."""
    return state_after(await read_entries(settings, pipeline))


async def append(settings: Settings, pipeline: Pipeline, entry: LedgerEntry) -> None:
    """Add an entry; returns when every replica has it. Raises `Unavailable`."""
    await writing.append(settings, pipeline.topics.models, encode(entry), partition=0)
    log.info(
        "ledger",
        action=entry.action,
        version=entry.version,
        previous=entry.previous,
        by=entry.by,
        reason=entry.reason,
    )


def new_entry(
    action: Action,
    manifest: Manifest,
    now: LedgerState,
    reason: str,
    *,
    by: Literal["gate", "operator"] = "gate",
) -> LedgerEntry:
    """An entry about a version, dated now; an operator's says which user on which host."""
    return LedgerEntry(
        action=action,
        version=manifest.version,
        previous=now.champion,
        at=round(time.time(), 3),
        reason=reason,
        by=by,
        threshold=manifest.threshold,
        manifest=manifest,
        who=user() if by == "operator" else "",
    )


def user() -> str:
    """Who runs this process, and where: `user@host`."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def decode(records: Iterable[SourceRecord]) -> list[LedgerEntry]:
    """The entries in records of the ledger; one that cannot be read is logged and passed over.

    So is an action that this version of the code does not know. A tombstone is no entry.
    """
    entries = []
    for record in records:
        if record.value is None:
            continue
        try:
            entries.append(_decode(record.value))
        except msgspec.MsgspecError as error:
            log.error(
                "ledger entry cannot be read, passing over it",
                offset=record.offset,
                error=str(error),
            )
    return entries


class LedgerFollower:
    """Keeps `state` up to date while it runs; a `Champion` for the scoring path."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        changed: Callable[[], None] | None = None,
    ) -> None:
        """`changed` is called after new entries, in place of saying which version serves."""
        self._pipeline = pipeline
        self._changed = changed
        self._topic = TopicFollower(settings, pipeline.topics.models)
        self._task: asyncio.Task[None] | None = None
        self._complained = ""
        self.state = LedgerState()

    @property
    def version(self) -> int:
        """The champion's version; 0 while there is none that fits the pipeline's features."""
        return self.state.champion if self._fits() else 0

    @property
    def served(self) -> tuple[int, ...]:
        """The versions that are asked, the champion first; none while the fallback serves."""
        if not self.version:
            return ()
        beside = [one for one in self.state.kept(1) if one != self.version and self._takes(one)]
        return (self.version, *beside)

    @property
    def threshold(self) -> float:
        """The pipeline's own threshold, else the champion's."""
        own = self._pipeline.decision.threshold
        return self.state.threshold if own is None else own

    @property
    def beside(self) -> Beside | None:
        """The version on its way while it is a canary; the one before it while that is watched."""
        state = self.state
        if state.stage is Stage.CANARY:
            version, arm = state.challenger, CANARY
        elif state.stage is Stage.WATCH and state.share < 1.0:
            version, arm = state.incumbent, HOLDOUT
        else:
            return None
        manifest = state.versions.get(version)
        if manifest is None or not self._takes(version):
            return None
        own = self._pipeline.decision.threshold
        threshold = manifest.threshold if own is None else own
        return Beside(version, threshold, arm, state.challenger, state.share)

    async def start(self) -> None:
        """Read the ledger to its end, then follow it. Raises `Unavailable`."""
        await self._topic.start()
        try:
            self.take(decode(await self._topic.read_to_end()))
        except BaseException:
            await self._topic.stop()
            raise
        if self._changed is None and self.state.champion == 0:
            log.info("no version serves yet, the fallback answers until the trainer publishes one")
        self._task = asyncio.create_task(self._follow(), name="ledger")

    async def stop(self) -> None:
        """Stop following; `state` stays as it is."""
        task, self._task = self._task, None
        if task is not None:
            await cancel(task)
        await self._topic.stop()

    async def _follow(self) -> None:
        while True:
            try:
                self.take(decode(await self._topic.poll()))
                self._complained = ""
            except Unavailable as error:
                log.warning("ledger cannot be read, retrying", error=str(error))
                await asyncio.sleep(_AGAIN)
            except Exception as error:
                self._complain(error)
                await asyncio.sleep(_AGAIN)

    def _complain(self, error: Exception) -> None:
        """Once for each cause: a champion that no longer follows the ledger must not go unseen."""
        if (said := repr(error)) != self._complained:
            log.error("ledger cannot be followed, retrying", error=said, exc_info=error)
        self._complained = said

    def take(self, entries: Sequence[LedgerEntry]) -> None:
        """Bring the state up to date with the next entries."""
        before = self.version
        for entry in entries:
            self.state = self.state.after(entry)
        if self._changed is not None:
            self._changed()
            return
        telemetry.SERVING_VERSION.labels(self._pipeline.name).set(self.version)
        if entries and not self._fits():
            manifest = self.state.versions[self.state.champion]
            log.error(
                "champion was trained on other features, serving the fallback",
                version=self.state.champion,
                lacks=lacks(self._pipeline, manifest),
                pipeline=self._pipeline.name,
            )
        elif self.version != before:
            log.info(
                "serving",
                pipeline=self._pipeline.name,
                version=self.version,
                threshold=self.threshold,
            )

    def _fits(self) -> bool:
        return self._takes(self.state.champion)

    def _takes(self, version: int) -> bool:
        """Whether the pipeline makes what a version takes; of one that nobody knows it may."""
        return fits(self._pipeline, self.state.versions.get(version))
