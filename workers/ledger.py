"""Writing the ledger `P.models`: the only place that says which version serves."""

from __future__ import annotations

import time

import structlog
from aiokafka.errors import KafkaError

from streams.ledger import Serving, read_ledger, serving
from streams.records import LedgerEntry, Manifest, encode
from streams.settings import Settings
from streams.spec import Pipeline
from streams.transport.clients import away, producer

log = structlog.get_logger(__name__)


async def current(settings: Settings, pipeline: Pipeline) -> Serving:
    """What the ledger says now. Raises `Unavailable`."""
    return serving(await read_ledger(settings, pipeline))


async def append(settings: Settings, pipeline: Pipeline, entry: LedgerEntry) -> None:
    """Add an entry; returns when every replica has it. Raises `Unavailable`."""
    writing = producer(settings)
    try:
        await writing.start()
        await writing.send_and_wait(pipeline.topics.models, encode(entry), partition=0)
    except (KafkaError, OSError) as error:
        raise away(settings, error) from None
    finally:
        await writing.stop()
    log.info("ledger", action=entry.action, version=entry.version, previous=entry.previous,
             by=entry.by, reason=entry.reason)  # fmt: skip


def entry(
    action: str, manifest: Manifest, now: Serving, reason: str, *, by: str = "gate"
) -> LedgerEntry:
    """An entry about a version, dated now."""
    return LedgerEntry(
        action=action,
        version=manifest.version,
        previous=now.champion,
        at=round(time.time(), 3),
        reason=reason,
        by=by,
        threshold=manifest.threshold,
        manifest=manifest,
    )
