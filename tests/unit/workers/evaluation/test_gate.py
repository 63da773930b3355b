"""The gate's rules, one by one; its properties are in tests/property/test_gate.py."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
import pytest

from streams.spec import Gate
from tests.unit.workers.evaluation.cases import case, noisy, world
from workers.evaluation.case import Case, Contender
from workers.evaluation.gate import GateDecision, decide
from workers.evaluation.history import Gain, History
from workers.evaluation.metrics import measures
from workers.evaluation.rules import Rule

LABELS, SCORES = world()
RULES = {
    "support",
    "worse",
    "anchor-worse",
    "floor",
    "threshold",
    "margin",
    "anchor-margin",
    "alerts",
    "calibration",
}


def judge(found: Case, gate: Gate | None = None, **more: Any) -> GateDecision:
    return decide(gate or Gate(), found, **more)


def rule(found: GateDecision, name: str) -> Rule:
    return next(one for one in found.rules if one.name == name)


def deciding(found: GateDecision) -> tuple[str, str]:
    return found.action.value, found.rules[0].name


def test_a_better_candidate_is_promoted_and_every_rule_has_its_number() -> None:
    found = judge(case(LABELS, SCORES, noisy(SCORES, 3)))
    assert deciding(found) == ("promote", "margin")
    assert {one.name for one in found.rules} == RULES
    assert "champion 3" in found.reason
    assert "\n" not in found.reason
    assert all(name in found.reason for name in RULES)
    assert {f"gate.{name}.verdict" for name in RULES} <= set(found.as_metrics())
    assert found.as_metrics()["gate.margin"] > 0
    assert found.as_metrics()["gate"] == 1


def test_the_same_model_is_promoted_within_the_margin() -> None:
    found = judge(case(LABELS, SCORES, SCORES))
    gain = found.evidence.champion.gain
    assert (found.action, gain.value, gain.error) == ("promote", 0.0, 0.0)


@pytest.mark.parametrize("margin", [0.05, 1.0])
def test_what_is_proven_worse_is_rejected_whatever_the_margin(margin: float) -> None:
    found = judge(case(LABELS, noisy(SCORES, 3), SCORES), Gate(margin=margin))
    assert deciding(found) == ("reject", "worse")
    assert rule(found, "worse").number < 0


def test_the_margin_is_a_share_of_the_champions_metric() -> None:
    found = judge(case(LABELS, SCORES, noisy(SCORES, 3)), Gate(margin=0.1))
    assert rule(found, "margin").bound == pytest.approx(-0.1 * found.evidence.champion.metric)


def test_what_cannot_be_told_apart_is_inconclusive() -> None:
    labels, scores = world(count=800)
    found = judge(case(labels, noisy(scores, 2, 1), noisy(scores, 2)), Gate(margin=0.01))
    assert deciding(found) == ("inconclusive", "margin")
    gain = found.evidence.champion.gain
    assert gain.low(2) < 0 < gain.high(2)


def test_without_support_nothing_else_is_judged() -> None:
    labels, scores = world(count=300, rate=0.02)
    for champion in (None, scores):
        found = judge(case(labels, scores, champion))
        assert deciding(found) == ("inconclusive", "support")
        assert "20 are needed" in found.reason
        assert len(found.rules) == 1


def test_nothing_to_evaluate_on_is_inconclusive() -> None:
    found = judge(case(np.empty(0, np.float32), np.empty((0, 1), np.float32)))
    assert deciding(found) == ("inconclusive", "support")


def test_one_positive_is_no_threshold() -> None:
    found = judge(case(LABELS, SCORES, SCORES, validation=1))
    assert deciding(found) == ("inconclusive", "threshold")


@pytest.mark.parametrize(("floor", "action"), [(0.1, "promote"), (0.99, "reject")])
def test_the_first_version_must_reach_the_floor(floor: float, action: str) -> None:
    found = judge(case(LABELS, SCORES), Gate(floor=floor))
    assert deciding(found) == (action, "floor")
    assert "first version" in found.reason
    assert "gain" not in found.as_metrics()


@pytest.mark.parametrize("name", ["average_precision", "roc_auc", "accuracy"])
def test_noise_is_not_proven_better_than_chance_with_a_bad_champion_or_none(
    name: Literal["average_precision", "roc_auc", "accuracy"],
) -> None:
    labels, scores = world(count=1000)
    gate = Gate(metric=name, resamples=100)
    for seed in range(20):
        random = np.random.default_rng(seed)
        noise = random.random((len(labels), 1)).astype(np.float32) * 0.1
        poor = noisy(scores, 30, seed)  # a champion that is hardly better than chance
        for champion in (None, poor):
            found = judge(case(labels, noise, champion), gate, seed=seed)
            assert found.action != "promote", (seed, found.reason)


def test_constant_scores_are_rejected() -> None:
    for level in (0.0, 0.05, 1.0):
        found = judge(case(LABELS, np.full_like(SCORES, level)))
        assert deciding(found) == ("reject", "floor")


def test_a_champion_with_nothing_to_compare_leaves_the_floor() -> None:
    champion = Contender(4, None, problem="it was trained on other features")
    found = judge(case(LABELS, SCORES, champion))
    assert deciding(found) == ("promote", "floor")
    assert "champion 4 cannot be compared (it was trained on other features)" in found.reason


def test_a_champion_whose_file_is_gone_is_compared_by_what_it_served() -> None:
    served = np.arange(len(LABELS)) % 2 == 0
    logged = np.where(served[:, None], SCORES, np.nan).astype(np.float32)
    gone = Contender(4, logged, served=served, problem="its file is gone")
    found = judge(case(LABELS, noisy(SCORES, 4), gone))
    assert deciding(found) == ("reject", "worse")
    assert "by the scores that it served (its file is gone)" in found.reason
    half = judge(case(LABELS[served], noisy(SCORES, 4)[served], SCORES[served]))
    assert found.evidence.champion.gain.value == pytest.approx(
        half.evidence.champion.gain.value, abs=1e-9
    )


def test_too_little_that_it_served_leaves_the_candidate_open() -> None:
    served = np.arange(len(LABELS)) < 100
    gone = Contender(4, SCORES, served=served, problem="its file is gone")
    found = judge(case(LABELS, SCORES, gone))
    assert found.action == "inconclusive"
    assert "20 are needed" in found.reason


def test_small_losses_do_not_add_up() -> None:
    """A candidate like the champion, which is itself proven worse than the anchor."""
    champion, anchor = Contender(9, noisy(SCORES, 3)), Contender(2, SCORES)
    twin = noisy(SCORES, 3)
    found = judge(case(LABELS, twin, champion, anchor=anchor, earlier=History(anchor=2)))
    assert deciding(found) == ("reject", "anchor-worse")
    assert "of anchor 2" in found.reason
    better = noisy(SCORES, 1.0)
    found = judge(case(LABELS, better, champion, anchor=anchor, earlier=History(anchor=2)))
    assert found.action == "promote"
    assert "no descent" in found.reason


def test_an_anchor_that_cannot_be_compared_is_named() -> None:
    anchor = Contender(2, None, problem="its file is gone")
    found = judge(case(LABELS, SCORES, SCORES, anchor=anchor, earlier=History(anchor=2)))
    assert found.action == "promote"
    assert "anchor 2 cannot be compared (its file is gone)" in found.reason


def test_evidence_adds_up_over_windows() -> None:
    labels, scores = world(count=800)
    ours, theirs = noisy(scores, 2, 4), noisy(scores, 2, 99)
    alone = judge(case(labels, ours, theirs))
    assert deciding(alone) == ("inconclusive", "margin")
    gain = alone.evidence.champion.gain
    run = tuple(Gain((i, i + 1), 0.05, gain.error) for i in range(20))
    found = judge(case(labels, ours, theirs, earlier=History(looks=20, run=run)))
    assert deciding(found) == ("promote", "margin")
    assert found.evidence.champion.windows == 21
    worse = tuple(msgspec.structs.replace(one, gain=-0.05) for one in run)
    found = judge(case(labels, ours, theirs, earlier=History(looks=20, run=worse)))
    assert deciding(found) == ("reject", "worse")


def test_every_look_at_a_champion_asks_for_more() -> None:
    lows = [
        rule(
            judge(case(LABELS, noisy(SCORES, 1), SCORES, earlier=History(looks=looks))), "margin"
        ).number
        for looks in (0, 1, 5)
    ]
    assert lows == sorted(lows, reverse=True)
    assert lows[0] > lows[2]


def test_alerts_are_held_against_the_champions() -> None:
    def at(threshold: float) -> GateDecision:
        theirs = Contender(3, SCORES, threshold=0.5)
        return judge(Case(LABELS, Contender(0, SCORES, threshold), theirs))

    assert at(0.5).action == "promote"
    assert deciding(at(0.0)) == ("reject", "alerts")
    assert deciding(at(1.1)) == ("reject", "alerts")


def test_fewer_alerts_than_a_champions_who_cries_wolf_are_as_good() -> None:
    theirs = Contender(3, noisy(SCORES, 2), threshold=0.0)
    found = judge(Case(LABELS, Contender(0, SCORES, 0.5), theirs))
    assert found.action == "promote"
    assert rule(found, "alerts").number < 1 / 3
    silent = judge(Case(LABELS, Contender(0, SCORES, 1.1), theirs))
    assert deciding(silent) == ("reject", "alerts")


def test_scores_that_are_no_probabilities_are_rejected() -> None:
    for factor in (0.1, 10.0):
        found = judge(case(LABELS, SCORES * np.float32(factor), SCORES))
        assert deciding(found)[0] == "reject"
        assert rule(found, "calibration").verdict == "failed"


def test_worse_in_one_slice_is_rejected() -> None:
    web = np.arange(len(LABELS)) % 5 == 0
    ours = np.where(web[:, None], noisy(SCORES, 4), SCORES).astype(np.float32)
    theirs = np.where(web[:, None], SCORES, noisy(SCORES, 4)).astype(np.float32)
    slices = {"web": web, "app": ~web, "empty": np.zeros(len(LABELS), bool)}
    assert judge(case(LABELS, ours, theirs)).action == "promote"
    found = judge(case(LABELS, ours, theirs), slices=slices)
    assert deciding(found) == ("reject", "slice web")
    assert "slice app passed" in found.reason
    assert "not judged" in found.reason
    assert found.as_metrics()["gate.slice web.verdict"] == -1


def test_resampling_by_entity_sees_that_examples_of_one_resemble_each_other() -> None:
    """Every example five times over: as single ones they look like five times the evidence."""
    labels, ours, theirs = (np.repeat(one, 5, axis=0) for one in (LABELS, noisy(SCORES, 1), SCORES))
    entities = np.repeat(np.arange(len(LABELS)), 5)
    once = judge(case(LABELS, ours[::5], theirs[::5])).evidence
    single = judge(case(labels, ours, theirs)).evidence
    by_entity = judge(case(labels, ours, theirs, entities=entities)).evidence
    expected = once.champion.gain.error
    assert by_entity.champion.gain.error == pytest.approx(expected, rel=0.15)
    assert single.champion.gain.error == pytest.approx(expected / 5**0.5, rel=0.15)
    assert by_entity.support == once.support


@pytest.mark.parametrize("name", ["average_precision", "roc_auc", "accuracy"])
def test_each_metric_with_several_classes(
    name: Literal["average_precision", "roc_auc", "accuracy"],
) -> None:
    random = np.random.default_rng(2)
    labels = random.integers(0, 3, 600).astype(np.float32)
    scores = random.random((600, 3)) + 0.5 * (labels[:, None] == np.arange(3))
    scores = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    worse = (scores + random.normal(0, 0.4, scores.shape)).astype(np.float32)
    found = judge(case(labels, scores, worse), Gate(metric=name))
    assert found.action == "promote"
    assert found.evidence.champion.gain.value > 0


def test_measures_of_perfect_probabilities() -> None:
    random = np.random.default_rng(0)
    scores = random.random((20_000, 1)).astype(np.float32)
    labels = (random.random(20_000) < scores[:, 0]).astype(np.float32)
    found = measures(scores, labels)
    assert found["calibration_error"] < 0.02
    assert found["brier"] == pytest.approx(1 / 6, abs=0.01)  # the mean of p(1-p)
