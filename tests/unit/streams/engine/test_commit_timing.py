"""An estimate of how long something takes that is rarely exceeded, and follows what it sees."""

from __future__ import annotations

import random

import pytest

from streams.engine.commit_timing import DurationEstimate


def test_nothing_is_known_before_the_first() -> None:
    assert DurationEstimate().seconds == 0.0


def test_what_always_takes_as_long_takes_that_long() -> None:
    delay = DurationEstimate()
    for _ in range(100):
        delay.observe(0.02)
    assert delay.seconds == pytest.approx(0.02)


def test_it_is_rarely_exceeded() -> None:
    dice, delay, over = random.Random(1), DurationEstimate(), 0
    for _ in range(2000):
        seconds = dice.gammavariate(4, 0.005)  # 20 ms on average, 55 ms at the most
        over += seconds > delay.seconds
        delay.observe(seconds)
    assert over < 2000 * 0.15
    assert 0.02 < delay.seconds < 0.06


def test_it_follows() -> None:
    delay = DurationEstimate()
    for seconds in [0.02] * 50 + [0.1] * 50:
        delay.observe(seconds)
    assert delay.seconds == pytest.approx(0.1, rel=0.02)
    for _ in range(50):
        delay.observe(0.01)
    assert delay.seconds == pytest.approx(0.01, rel=0.2)
