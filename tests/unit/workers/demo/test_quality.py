"""What the demo says of versions that were left alone, on a world whose figures are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from streams.pipelines.card_fraud import pipeline
from streams.records import Action, LedgerEntry
from tests.models import manifest
from workers.demo import quality as measured
from workers.demo.observer import Seen
from workers.demo.quality import Alone, Quality, mean, quality
from workers.demo.report import Run, demo_report, quality_rows, worth
from workers.demo.source import DAY
from workers.evaluation.daily import DayQuality

START = 17_622.0 * DAY
DAYS, A_DAY = 90, 200


def ap(day: DayQuality) -> float | None:
    return day.ap


def promoted(version: int, train: int) -> LedgerEntry:
    """A version that learnt from 11 days from day `train` on, of labels up to 16 days later."""
    at = START + train * DAY
    slices = {"train": [at, at + 11 * DAY], "evaluate": [at + 13 * DAY, at + 16 * DAY]}
    made = manifest(pipeline, version, b"", slices=slices)
    made = msgspec.structs.replace(made, label_watermark=at + 16 * DAY)
    return LedgerEntry(Action.PROMOTE, version, version - 1, 1.0, "good", "gate", 0.5, made)


@pytest.fixture
def world() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "day": np.repeat(np.arange(DAYS), A_DAY),
            "is_fraud": (rng.random(DAYS * A_DAY) < 0.05).astype(int),
            "customer_id": rng.integers(0, 10_000, DAYS * A_DAY),
        }
    )


@pytest.fixture
def seen(world: pd.DataFrame) -> Seen:
    """Three versions serve, each from the day after its labels had matured."""
    found = Seen.of(len(world), 1)
    found.times[:] = 1
    found.vectors[:, 0] = world["is_fraud"]
    for version, day in ((1, 31), (2, 51), (3, 71)):
        found.versions[world["day"] >= day] = version
    found.ledger = [promoted(1, 7), promoted(2, 27), promoted(3, 47)]
    return found


def noisy(vectors: Any, noise: float) -> np.ndarray:
    rng = np.random.default_rng(int(noise * 100))
    found: np.ndarray = vectors[:, 0] + rng.normal(0, noise, len(vectors))
    return found.astype(np.float32)


@pytest.fixture
def compared(world: pd.DataFrame, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> Quality:
    """The loop and the warm version know as much, the first version less."""

    def scores(model: Path, vectors: Any) -> np.ndarray:
        return noisy(vectors, {"1": 1.0, "3": 0.5}[model.parent.name])

    monkeypatch.setattr(measured, "_scores", scores)
    seen.scores[:] = noisy(seen.vectors, 0.52)
    return quality(pipeline, world, START, seen, Path("models"))


def test_the_warm_version_is_the_first_that_learnt_from_full_windows_only(
    compared: Quality,
) -> None:
    assert compared.warm_day == 37  # terminals: 30 days that end 7 days before the event
    assert compared.first.version == 1
    assert compared.first.loop[0].day == 32
    assert compared.warm is not None
    assert compared.warm.version == 3
    # labels of day 62 are known on day 70: before, it could not have been made
    assert [one.day for one in compared.warm.loop] == [*range(70, DAYS)]
    assert [one.day for one in compared.first_when_warm] == [*range(70, DAYS)]


def test_the_gain_is_over_the_same_days_with_an_interval(compared: Quality) -> None:
    assert compared.warm is not None
    gain, low, high = compared.warm.gain(ap)
    expected = mean(compared.warm.loop, ap) - mean(compared.warm.alone, ap)
    assert gain == pytest.approx(expected)
    assert low < 0 < high
    gain, low, high = compared.first.gain(ap)
    assert 0.1 < low < gain < high
    assert "No difference is proven" in worth(compared)


def test_a_constant_gain_is_certain_and_no_day_has_none() -> None:
    def days(value: float) -> list[DayQuality]:
        return [DayQuality(day, 10, 1, 0.5, value + day / 100, 0.1) for day in range(20)]

    assert Alone(1, days(0.2), days(0.3)).gain(ap) == pytest.approx((0.1, 0.1, 0.1))
    assert Alone(1, days(0.2)[:5], days(0.3)[:5]).gain(ap) == pytest.approx((0.1, -1, 1))
    assert np.isnan(Alone(1, [], []).gain(ap)[0])


@pytest.mark.parametrize(("alike", "most"), [(0.0, 0.08), (0.4, 0.13)])
def test_the_interval_errs_about_as_seldom_as_it_says(alike: float, most: float) -> None:
    """On 18 days of which each resembles the one before, and no gain."""
    wrong = 0
    for seed in range(400):
        steps = np.random.default_rng(seed).normal(0, 0.01, 60)
        for day in range(1, 60):
            steps[day] += alike * steps[day - 1]
        alone = [DayQuality(day, 10, 1, 0.5, 0.5, 0.1) for day in range(18)]
        loop = [DayQuality(day, 10, 1, 0.5, 0.5 + steps[42 + day], 0.1) for day in range(18)]
        _, low, high = Alone(1, alone, loop).gain(ap)
        wrong += not low < 0 < high
    assert wrong / 400 < most


def test_without_a_warm_version_it_is_said(world: pd.DataFrame, compared: Quality) -> None:
    cold = Quality(compared.first, None, compared.warm_day)
    assert "No version has learnt from full windows only" in worth(cold)
    assert len(list(quality_rows(cold))) == 3


def test_the_report_names_the_weeks_that_warm_up(compared: Quality) -> None:
    rows = [*quality_rows(compared)]
    page = demo_report(Run(compared, [(1, 31), (2, 51)], [(0.0, 1.0), (1.0, 2.0)], rows, [], START))
    assert "Until day 37" in page.says
    html = page.html()
    assert len(html) < 1_000_000
    assert html.count("<svg") == 4
    assert "Average precision, warm version alone" in html
