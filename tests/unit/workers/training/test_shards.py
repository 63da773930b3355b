"""Each rank reads its own partitions; the first has all examples, or hears what went wrong."""

from __future__ import annotations

import numpy as np
import pytest

from streams.errors import TrainingError, Unavailable
from streams.settings import Settings
from tests.synthetic import in_columns, made, pipeline
from workers.examples.reading import OffsetRanges, Reading
from workers.training import shards
from workers.training.ranks import OneRank
from workers.training.shards import _packed, _unpacked, read_together, shard

WINDOW = OffsetRanges({partition: (0, 10 * partition) for partition in (0, 1, 3, 4, 7)})
EXAMPLES = in_columns(made(1.0, per_day=90))


class Several(OneRank):
    """A rank of three; the first hears what the others send."""

    size = 3

    def __init__(self, rank: int, heard: list[bytes] | None = None) -> None:
        self.rank = rank
        self.heard = heard or []
        self.sent = list[bytes]()

    def gather(self, data: bytes) -> list[bytes]:
        self.sent.append(data)
        return [] if self.rank else [data, *self.heard]


def part(number: int) -> Reading:
    """Every third example; a watermark of its own."""
    return Reading(EXAMPLES.take(np.arange(number, len(EXAMPLES), 3)), 100.0 + number)


async def read(monkeypatch: pytest.MonkeyPatch, rank: Several, found: Reading | Exception):  # type: ignore[no-untyped-def]
    async def read_examples(*_: object) -> Reading:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(shards, "read_examples", read_examples)
    return await read_together(Settings(), pipeline, WINDOW, rank)


def test_every_partition_is_one_ranks() -> None:
    parts = [shard(WINDOW, Several(rank)).ranges for rank in range(3)]
    assert [list(one) for one in parts] == [[0, 4], [1, 7], [3]]
    assert {**parts[0], **parts[1], **parts[2]} == WINDOW.ranges


def test_examples_arrive_as_they_were_sent() -> None:
    sent = part(1)
    found = _unpacked(_packed(sent))
    assert found.watermark == sent.watermark
    for name in EXAMPLES.__dataclass_fields__:
        there, here = getattr(found.examples, name), getattr(sent.examples, name)
        assert there.dtype == here.dtype
        assert np.array_equal(there, here)


async def test_the_first_has_what_one_process_would_have_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = Several(0, [_packed(part(1)), _packed(part(2))])
    own, whole = await read(monkeypatch, first, part(0))
    assert whole.watermark == 100.0
    assert np.array_equal(own.event_time, part(0).examples.event_time)
    for name in EXAMPLES.__dataclass_fields__:
        assert np.array_equal(getattr(whole.examples, name), getattr(EXAMPLES, name))
    other = Several(1)
    assert (await read(monkeypatch, other, part(1)))[1] is None
    assert other.sent == [_packed(part(1))]


@pytest.mark.parametrize(
    "error", [TrainingError("offsets are gone"), Unavailable("Kafka", "k:1", "DRIFTLOOP_KAFKA")]
)
async def test_what_went_wrong_elsewhere_is_the_firsts_error(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    other = Several(2)
    with pytest.raises(type(error)):
        await read(monkeypatch, other, error)
    with pytest.raises(type(error)) as told:
        await read(monkeypatch, Several(0, other.sent), part(0))
    assert str(told.value) == str(error)
