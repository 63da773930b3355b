"""What the workers' logs say is told once, whoever says it, and again when it comes again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workers.processes.notices import Notices, last_words, parsed

AWAY = "cannot reach Redis at far:6379 (gone) - start it, or set DRIFTLOOP_REDIS to its address"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def notices(clock: Clock) -> Notices:
    return Notices(clock)


def said(event: str, level: str = "warning", **fields: Any) -> dict[str, Any]:
    common = {"level": level, "logger": "streams.x", "pipeline": "p", "role": "score"}
    return {"event": event, "timestamp": "now", **common, **fields}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            said("candidate decided", "info", version=3, action="promote", reason="AUC +0.02"),
            "trainer: candidate decided (version 3, action promote): AUC +0.02",
        ),
        (
            said("roll-out", "info", version=3, action="canary", share=0.05, reason="harmless"),
            "trainer: roll-out (version 3, action canary, share 0.05): harmless",
        ),
        (
            said("no candidate", "error", watermark=1.0, error="too few\npositives"),
            "trainer: no candidate: too few positives",
        ),
        (
            said(
                "champion was trained on other features, serving the fallback", "error", version=2
            ),
            "trainer: champion was trained on other features, serving the fallback (version 2)",
        ),
        (
            said(
                "bad records become dead letters, see `driftloop dlq list`",
                topic="p.feedback",
                cause="invalid",
                error="?",
            ),
            "trainer: bad records become dead letters, see `driftloop dlq list` "
            "(topic p.feedback, cause invalid): ?",
        ),
        (
            said("serving", "info", version=3, threshold=0.5),
            "trainer: serving (version 3, threshold 0.5)",
        ),
        (said("serving metrics", "info", at="http://x"), None),
        (said("partitions assigned", "info"), None),
        (said("[^-BatchApp]: Crashed reason=x", "error"), None),
        (said("Unable connect to node", "error") | {"logger": "aiokafka"}, None),
        (said("lane failed", "error", error="whoever keeps the worker says so"), None),
        ({}, None),
    ],
)
def test_what_is_told(notices: Notices, line: dict[str, Any], told: str | None) -> None:
    assert notices.of("trainer", line) == told


def test_a_thing_is_told_once_while_it_lasts_and_by_one_worker(
    notices: Notices, clock: Clock
) -> None:
    line = said("waiting", stage="train", error="the model is unfit", attempt=1)
    assert notices.of("score-1", line) == "score-1: waiting (stage train): the model is unfit"
    for number in range(100):
        clock.now += 2.0
        assert notices.of(f"score-{number % 3}", line | {"attempt": number}) is None
    assert notices.of("score-1", said("waiting", stage="fold", error="x")) is not None
    clock.now += 61.0
    assert notices.of("score-1", line) is not None


def test_what_ended_is_told_and_may_come_again(notices: Notices) -> None:
    begins, ends = said("degraded", error="no answer"), said("no longer degraded", "info")
    for _ in range(2):
        assert notices.of("score-1", begins) == "score-1: degraded: no answer"
        assert notices.of("score-1", begins) is None
        assert notices.of("score-1", ends) == "score-1: no longer degraded"
    waits, goes_on = (
        said("waiting", stage="infer", error="unfit"),
        said("no longer waiting", "info", stage="infer", error="unfit"),
    )
    assert notices.of("score-1", goes_on) is None  # nobody was told that it waited
    assert notices.of("score-1", waits) is not None
    assert notices.of("score-1", goes_on) == "score-1: no longer waiting (stage infer)"
    assert notices.of("score-2", goes_on) is None


def test_another_cause_is_another_thing(notices: Notices) -> None:
    few, more, loss = (
        said("no candidate", "error", error=error)
        for error in ("3 examples, 20 are needed", "4 examples, 20 are needed", "the loss is nan")
    )
    assert notices.of("trainer", few) is not None
    assert notices.of("trainer", more) is None
    assert notices.of("trainer", loss) == "trainer: no candidate: the loss is nan"
    waits = said("waiting", stage="fold", error="Redis is full")
    goes_on = said("no longer waiting", "info", stage="fold", error="Redis is a replica")
    assert notices.of("score-1", waits) is not None
    assert notices.of("score-1", waits | {"error": "Redis is a replica"}) is not None
    assert notices.of("score-1", goes_on) is not None
    assert notices.of("score-1", waits) is not None


def test_each_of_several_tritons_is_told_of(notices: Notices) -> None:
    fails = said("a Triton fails, others get its requests until it answers", endpoint="t1")
    back = said("a Triton gets requests again", "info", endpoint="t1")
    assert notices.of("score-1", back) is None  # nobody was told that it failed
    assert notices.of("score-1", fails) is not None
    assert notices.of("score-2", fails) is None
    assert notices.of("score-1", fails | {"endpoint": "t2"}) is not None
    assert notices.of("score-1", back) == "score-1: a Triton gets requests again (endpoint t1)"
    assert notices.of("score-2", back) is None
    assert notices.of("score-1", back | {"endpoint": "t2"}) is not None


def test_a_version_that_serves_again_is_told_again(notices: Notices) -> None:
    for version in (1, 2, 1):
        line = said("serving", "info", version=version)
        assert notices.of("score-1", line) == f"score-1: serving (version {version})"
        assert notices.of("score-2", line) is None


def test_a_server_that_goes_and_comes_back_is_told_once_by_whoever_sees_it_first(
    notices: Notices,
) -> None:
    waits = said("waiting", stage="fold", error=AWAY)
    goes_on = said("no longer waiting", "info", stage="fold", error=AWAY)
    assert notices.server("Redis", "far:6379", up=True) is None
    assert "Redis at far:6379 does not answer" in (
        notices.server("Redis", "far:6379", up=False) or ""
    )
    assert notices.of("score-1", waits) is None
    assert notices.server("Redis", "far:6379", up=False) is None
    assert notices.of("score-1", goes_on) is None
    assert notices.server("Redis", "far:6379", up=True) == "Redis at far:6379 answers again"
    assert notices.server("Redis", "far:6379", up=True) is None
    # one that hangs accepts connections: only the workers see it
    assert AWAY in (notices.of("score-1", waits) or "")
    assert notices.of("label", said("waiting", stage="open", error=AWAY)) is None
    assert "Redis answers again" in (notices.of("score-1", goes_on) or "")
    assert notices.of("label", goes_on) is None


def test_what_fails_because_kafka_is_away_is_told_with_it(notices: Notices, clock: Clock) -> None:
    fails = said("Kafka takes no commit", error="TimeoutError()")
    assert notices.of("score-1", fails) is not None
    clock.now += 61.0
    notices.server("Kafka", "far:9092", up=False)
    assert notices.of("score-1", fails) is None
    assert notices.server("Kafka", "far:9092", up=True) is not None
    assert notices.of("score-1", fails) is None
    clock.now += 61.0
    assert notices.of("score-1", fails) is not None


def test_a_worker_that_hangs_is_told_once_and_that_it_goes_on(notices: Notices) -> None:
    assert notices.worker("label", 7, hangs=False) is None
    said = notices.worker("label", 7, hangs=True) or ""
    assert said.startswith("label (process 7) runs and does not answer")
    assert notices.worker("label", 7, hangs=True) is None
    assert notices.worker("score-1", 8, hangs=True) is not None
    assert notices.worker("label", 7, hangs=False) == "label answers again"


def test_why_a_worker_ended() -> None:
    failed = json.dumps(said("lane failed", "error", error="topic p.events was deleted"))
    crash = json.dumps(said("[^Worker]: We experienced a crash!", "critical"))
    assert last_words(["error: old", failed, "error: the cause"]) == "the cause"
    assert last_words([failed, crash]) == "lane failed: topic p.events was deleted"
    assert last_words(["Traceback", "KeyError: 'amount'", "", crash]) == "KeyError: 'amount'"
    assert last_words([]) == "it said nothing"


def test_a_line_is_read_behind_what_faust_tells_a_terminal() -> None:
    assert parsed('\x08\x1b[?25h{"event": "x"}') == {"event": "x"}
    assert parsed("[1]") == parsed("{") == parsed("") == {}


def test_a_challenger_that_does_not_answer_is_told_and_that_it_answers_again(
    notices: Notices,
) -> None:
    silent = said(
        "the challenger does not answer, the shadow goes on without its scores",
        "error",
        version=4,
        waited=60.0,
        error=f"version 4: {AWAY}",
    )
    back = said("the challenger answers again", "info", version=4)
    assert notices.of("shadow", back) is None
    assert (notices.of("shadow", silent) or "").startswith("shadow: the challenger does not answer")
    assert notices.of("shadow", silent) is None
    assert notices.of("score-1", said("waiting", stage="fold", error=AWAY)) is not None
    assert notices.of("shadow", back) == "shadow: the challenger answers again (version 4)"
    assert notices.of("shadow", silent) is not None
