"""Whatever comes on any topic, of any kind of field: nothing crashes, each has one way out."""

from __future__ import annotations

import pytest

from tests.property.fuzz import run


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_comes_has_one_way_out_and_spoils_nothing_else(seed: int) -> None:
    for pipeline, account in await run(12_000, seed):
        assert account.wrong == [], pipeline.name
        assert account.records >= 3_000
        assert account.ways["predicted"] > 300
        causes = {"malformed", "invalid", "empty", "missing-key", "time", "not-finite"}
        assert causes <= set(account.ways), pipeline.name
