"""Generated good and bad events: one prediction or one dead letter each, never an exception."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.ports.batches import MicroBatch
from tests.property.generated_events import PIPELINE, _record, new_scoring, run

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_generated_record_is_accounted_for_once(seed: int) -> None:
    account = await run(15_000, seed)
    assert account.wrong == []
    assert account.records == 15_000
    assert account.predictions + account.causes.total() + account.repeated == 15_000
    assert account.predictions > 7_000
    assert {"malformed", "invalid", "empty", "missing-key", "time"} <= set(account.causes)


@settings(max_examples=200)
@given(
    values=st.lists(
        st.binary() | json_values.map(lambda v: repr(v).encode()), min_size=1, max_size=20
    )
)
async def test_whatever_bytes_come_nothing_is_raised(values: list[bytes]) -> None:
    scoring = new_scoring()
    records = [_record(i, b"k", value) for i, value in enumerate(values)]
    outputs = await scoring.process(MicroBatch(PIPELINE.topics.events, 0, records, 0, 0))
    assert len(outputs[PIPELINE.topics.dead_letters]) == len(values)
