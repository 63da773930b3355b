"""A version's reference, as the ledger says."""

from __future__ import annotations

import asyncio

import msgspec
from structlog.testing import capture_logs

from streams.distributions import Reference
from streams.ledger.references import LedgerReferences
from streams.ledger.state import LedgerState
from tests.unit.pipelines import declare
from workers.releases.manifests import blank

PIPELINE = declare()
REFERENCE = Reference(86_400, 9, 100.0, {})
MADE = msgspec.structs.replace(blank(PIPELINE), reference=REFERENCE)


async def test_a_version_of_other_features_has_none() -> None:
    other = msgspec.structs.replace(MADE, schema_hash="other", columns={})
    state = LedgerState(versions={1: MADE, 2: other, 3: blank(PIPELINE)})
    references = LedgerReferences(PIPELINE, lambda: state)
    assert [await references.of(version) for version in (1, 2, 3)] == [REFERENCE, None, None]


async def test_a_ledger_that_is_behind_is_waited_for() -> None:
    state = LedgerState()
    references = LedgerReferences(PIPELINE, lambda: state)
    asked = asyncio.create_task(references.of(1))
    await asyncio.sleep(0)
    assert not asked.done()
    state = LedgerState(versions={1: MADE})
    assert await asked == REFERENCE


async def test_a_version_that_the_ledger_never_names_is_said_once() -> None:
    references = LedgerReferences(PIPELINE, LedgerState, patience=0.0)
    with capture_logs() as logs:
        assert [await references.of(7) for _ in range(2)] == [None, None]
    assert [(line["event"], line["version"]) for line in logs] == [
        ("a version served that the ledger does not name", 7)
    ]
