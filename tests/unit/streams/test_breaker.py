"""A run of bad records stops the worker before they are dead letters; single ones never do."""

from __future__ import annotations

import pytest
import structlog

from streams.breaker import FirstOfEachCause, InvalidBreaker
from streams.errors import BadRecord, Halted, PipelineError, TooManyInvalid
from streams.spec import Invalid, Policies
from streams.testing import Rehearsal
from tests.unit.pipelines import declare, order

BAD = BadRecord("malformed", "no JSON")


def breaker(ratio: float = 0.5, over: int = 100) -> InvalidBreaker:
    return InvalidBreaker(declare(policies=Policies(invalid=Invalid(ratio, over))), "p.events", 3)


def test_a_small_sample_says_nothing() -> None:
    judge = breaker()
    judge.observe(50, [BAD] * 50)
    judge.observe(49, [BAD] * 49)
    with pytest.raises(
        TooManyInvalid,
        match=r"100% of the last 100 .*p\.events, partition 3.*\(malformed: no JSON\)",
    ):
        judge.observe(1, [BAD] * 1)


def test_a_share_at_the_limit_is_allowed() -> None:
    judge = breaker()
    for _ in range(100):
        judge.observe(10, [BAD] * 5)
    with pytest.raises(TooManyInvalid):
        judge.observe(10, [BAD] * 6)


def test_old_records_are_forgotten() -> None:
    judge = breaker()
    judge.observe(1000, [BAD] * 0)
    judge.observe(50, [BAD] * 50)
    with pytest.raises(TooManyInvalid, match="of the last 100 "):
        judge.observe(50, [BAD] * 50)


def test_a_batch_without_bad_records_never_stops() -> None:
    judge = breaker(over=10)
    judge.observe(9, [BAD] * 9)
    judge.observe(5, [BAD] * 0)
    assert isinstance(TooManyInvalid("p", 0, 0.6, 10, "x"), Halted)


@pytest.mark.parametrize("judges", [True, False])
def test_each_cause_is_said_once(judges: bool) -> None:
    judge, first = breaker(), FirstOfEachCause("p.events")
    with structlog.testing.capture_logs() as said:
        for errors in ([BAD, BAD, BadRecord("time", "none")], [BAD]):
            if judges:
                judge.observe(10, errors)
            else:
                first.observe(errors)
    assert [(one["cause"], one["topic"], one["log_level"]) for one in said] == [
        ("malformed", "p.events", "warning"),
        ("time", "p.events", "warning"),
    ]


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
