"""A run of bad records stops the worker before they are dead letters; single ones never do."""

from __future__ import annotations

import pytest

from streams.errors import Halted, PipelineError, TooManyInvalid
from streams.scoring.breaker import InvalidBreaker
from streams.spec import Invalid, Policies
from streams.testing import Rehearsal
from tests.unit.pipelines import declare, order


def breaker(ratio: float = 0.5, over: int = 100) -> InvalidBreaker:
    return InvalidBreaker(declare(policies=Policies(invalid=Invalid(ratio, over))), 3)


def test_a_small_sample_says_nothing() -> None:
    judge = breaker()
    judge.observe(50, 50, "bad")
    judge.observe(49, 49, "bad")
    with pytest.raises(TooManyInvalid, match=r"100% of the last 100 .*partition 3.*\(bad\)"):
        judge.observe(1, 1, "bad")


def test_a_share_at_the_limit_is_allowed() -> None:
    judge = breaker()
    for _ in range(100):
        judge.observe(10, 5, "bad")
    with pytest.raises(TooManyInvalid):
        judge.observe(10, 6, "bad")


def test_old_records_are_forgotten() -> None:
    judge = breaker()
    judge.observe(1000, 0, "")
    judge.observe(50, 50, "bad")
    with pytest.raises(TooManyInvalid, match="of the last 100 "):
        judge.observe(50, 50, "bad")


def test_a_batch_without_bad_records_never_stops() -> None:
    judge = breaker(over=10)
    judge.observe(9, 9, "bad")
    judge.observe(5, 0, "")
    assert isinstance(TooManyInvalid("p", 0, 0.6, 10, "x"), Halted)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"ratio": 0.0}, "ratio"), ({"ratio": 1.1}, "ratio"), ({"over": 0}, "over")],
)
def test_limits_that_cannot_be_are_named(arguments: dict[str, float], field: str) -> None:
    with pytest.raises(PipelineError, match=rf"policies\.invalid\.{field}"):
        Invalid(**arguments)  # type: ignore[arg-type]


async def test_scoring_stops_before_the_batch_is_written() -> None:
    pipeline = declare(policies=Policies(invalid=Invalid(0.5, 4)))
    rehearsal = Rehearsal(pipeline)
    good = order(1, 1_700_000_000.0, basket=1)
    assert len((await rehearsal.score([good, b"{", b"["])).dead_letters) == 2
    with pytest.raises(TooManyInvalid, match="malformed"):
        await rehearsal.score([b"{"])
