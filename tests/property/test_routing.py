"""Properties of the arms: sticky, monotone, uniform, and independent between versions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.scoring.routing import arms, places

NAMES = st.lists(st.binary(max_size=40), min_size=1, max_size=50)
SHARES = st.floats(0.0, 1.0)
VERSIONS = st.integers(0, 2**31)
FAMILIES = {
    "numbers": [b"%d" % n for n in range(50_000)],
    "padded": [b"customer-%09d" % n for n in range(50_000)],
    "big-endian": [n.to_bytes(8, "big") for n in range(50_000)],
    "long": [b"tenant/eu-west/account/%d/device" % n for n in range(50_000)],
}


@given(NAMES, SHARES, SHARES, VERSIONS)
def test_nobody_changes_arm_when_the_share_grows(
    names: list[bytes], one: float, two: float, version: int
) -> None:
    small, large = sorted([one, two])
    before, after = (arms(names, share, version).challenger for share in (small, large))
    assert not (before & ~after).any()


@given(NAMES, SHARES, VERSIONS)
def test_an_entity_is_in_one_arm_whatever_it_comes_with(
    names: list[bytes], share: float, version: int
) -> None:
    together = arms(names, share, version).challenger
    alone = [bool(arms([name], share, version).challenger[0]) for name in names]
    assert together.tolist() == alone


@given(NAMES, SHARES, VERSIONS)
def test_the_propensity_is_that_of_the_arm(names: list[bytes], share: float, version: int) -> None:
    found = arms(names, share, version)
    expected = [share if challenger else 1.0 - share for challenger in found.challenger]
    assert found.propensity.tolist() == expected
    assert (found.propensity > 0.0).all()


@given(NAMES, VERSIONS)
def test_nobody_and_everybody(names: list[bytes], version: int) -> None:
    assert not arms(names, 0.0, version).challenger.any()
    assert arms(names, 1.0, version).challenger.all()


def test_an_empty_batch_has_no_arms() -> None:
    assert arms([], 0.5, 1).propensity.shape == (0,)


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
        count = int(arms(FAMILIES[family], 0.01, version).challenger.sum())
        assert abs(count - 500) < 4.5 * np.sqrt(500 * 0.99)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_canaries_of_two_versions_are_independent(family: str) -> None:
    """By a chi-square test on 10 x 10 cells of the places under neighbouring versions."""
    for version in range(1, 6):
        first, second = (places(FAMILIES[family], salt) for salt in (version, version + 1))
        cells, _, _ = np.histogram2d(first, second, 10, [[0, 1], [0, 1]])
        statistic = float(((cells - 500) ** 2 / 500).sum())
        assert statistic < 162  # of 99 degrees of freedom: passed once in ten thousand times
