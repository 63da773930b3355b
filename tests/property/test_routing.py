"""Properties of the arms: sticky, monotone, uniform, and independent between versions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.ports.models import Beside
from streams.records import ARMS, CANARY, HOLDOUT
from streams.scoring.routing import Arms, places

NAMES = st.lists(st.binary(max_size=40), min_size=1, max_size=50)
SHARES = st.floats(0.0, 1.0)
VERSIONS = st.integers(0, 2**31)
FAMILIES = {
    "numbers": [b"%d" % n for n in range(50_000)],
    "padded": [b"customer-%09d" % n for n in range(50_000)],
    "big-endian": [n.to_bytes(8, "big") for n in range(50_000)],
    "long": [b"tenant/eu-west/account/%d/device" % n for n in range(50_000)],
}


def arms(names: list[bytes], share: float, version: int, arm: str = CANARY) -> Arms:
    return Arms.of(Beside(version, 0.5, arm, version, share), names)


@given(NAMES, SHARES, SHARES, VERSIONS)
def test_nobody_changes_arm_when_the_share_grows(
    names: list[bytes], one: float, two: float, version: int
) -> None:
    small, large = sorted([one, two])
    before, after = (arms(names, share, version).theirs for share in (small, large))
    assert not (before & ~after).any()


@given(NAMES, SHARES, VERSIONS)
def test_an_entity_is_in_one_arm_whatever_it_comes_with(
    names: list[bytes], share: float, version: int
) -> None:
    together = arms(names, share, version).theirs
    alone = [bool(arms([name], share, version).theirs[0]) for name in names]
    assert together.tolist() == alone


@given(NAMES, SHARES, VERSIONS)
def test_the_propensity_is_that_of_the_arm(names: list[bytes], share: float, version: int) -> None:
    found = arms(names, share, version)
    expected = [share if theirs else 1.0 - share for theirs in found.theirs]
    assert found.propensities.tolist() == expected
    assert (found.propensities > 0.0).all()


@given(NAMES, SHARES, VERSIONS)
def test_who_was_a_canary_is_in_no_holdout(names: list[bytes], share: float, version: int) -> None:
    """The holdout is what the last canary's share leaves, so that nobody goes back and forth."""
    canary, holdout = (arms(names, share, version, arm) for arm in (CANARY, HOLDOUT))
    assert (canary.theirs == ~holdout.theirs).all()
    assert canary.propensities.tolist() == holdout.propensities.tolist()
    assert {ARMS[arm] for arm in holdout.arms[holdout.theirs]} <= {HOLDOUT}
    assert not holdout.arms[~holdout.theirs].any()


@given(NAMES, VERSIONS)
def test_nobody_and_everybody(names: list[bytes], version: int) -> None:
    assert not arms(names, 0.0, version).theirs.any()
    assert arms(names, 1.0, version).theirs.all()


def test_an_empty_batch_has_no_arms() -> None:
    assert arms([], 0.5, 1).propensities.shape == (0,)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("version", [1, 2, 77])
def test_places_are_uniform(family: str, version: int) -> None:
    """By Kolmogorov and Smirnov's test: this distance is passed once in a thousand times."""
    found = np.sort(places(FAMILIES[family], version))
    distance = np.abs(found - (np.arange(len(found)) + 0.5) / len(found)).max()
    assert distance < 1.95 / np.sqrt(len(found))


@pytest.mark.parametrize("family", FAMILIES)
def test_small_shares_are_met(family: str) -> None:
    for version in range(1, 21):
        count = int(arms(FAMILIES[family], 0.01, version).theirs.sum())
        assert abs(count - 500) < 4.5 * np.sqrt(500 * 0.99)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_canaries_of_two_versions_are_independent(family: str) -> None:
    """By a chi-square test on 10 x 10 cells of the places under neighbouring versions."""
    for version in range(1, 6):
        first, second = (places(FAMILIES[family], salt) for salt in (version, version + 1))
        cells, _, _ = np.histogram2d(first, second, 10, [[0, 1], [0, 1]])
        statistic = float(((cells - 500) ** 2 / 500).sum())
        assert statistic < 162  # of 99 degrees of freedom: passed once in ten thousand times
