"""The gate on predicted numbers: lower errors are better, in every rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.spec import Gate
from streams.spec.tasks import Task
from tests import amounts
from workers.evaluation.case import Case, Contender
from workers.evaluation.gate import GateDecision, decide
from workers.evaluation.rules import Rule
from workers.evaluation.values import constant, error_metric, losses, measured

TASK = Task("value", 4, amounts.QUANTILES)
METRICS = TASK.metrics
Floats = NDArray[np.float64]


def world(noise: float = 0.0, count: int = 2000, seed: int = 3) -> tuple[Any, Any]:
    """Labels, and scores that are the truth with some noise, in units of the label's own."""
    vectors, labels = amounts.drawn(count, seed)
    middle, spread = amounts.truth(vectors.astype(np.float64))
    middle = middle + np.random.default_rng(seed + 1).normal(0, 1 + noise, count)
    return labels.astype(np.float32), scores(middle, spread)


def scores(middle: Floats, spread: Floats) -> Any:
    """The point and its quantiles, [n, 4]."""
    ends = middle[:, None] + spread[:, None] * np.array(amounts.TRUE)
    return np.column_stack([middle, ends]).astype(np.float32)


LABELS, SCORES = world()
TRAINED = world(seed=20)[0]


def judge(candidate: Any, champion: Any = None, metric: Any = "wape", **more: Any) -> GateDecision:
    found = Case(
        labels=LABELS,
        candidate=Contender(0, candidate),
        champion=Contender() if champion is None else Contender(3, champion),
        task=TASK,
        constant=constant(metric, TRAINED, TASK.quantiles),
        **more,
    )
    return decide(Gate(metric=metric), found, more.get("slices"))


def rule(found: GateDecision, name: str) -> Rule:
    return next(one for one in found.rules if one.name == name)


@pytest.mark.parametrize("metric", METRICS)
def test_the_better_one_is_promoted_and_the_worse_one_rejected(metric: str) -> None:
    worse = world(noise=40)[1]
    promoted, rejected = judge(SCORES, worse, metric), judge(worse, SCORES, metric)
    assert promoted.action == "promote"
    assert (rejected.action, rejected.rules[0].name) == ("reject", "worse")
    there, back = promoted.evidence.champion.gain, rejected.evidence.champion.gain
    assert there.value == pytest.approx(-back.value)
    assert there.low(2) > 0
    kept = promoted.as_metrics()
    assert kept[metric] < kept[f"champion_{metric}"]
    assert kept[f"champion_{metric}"] - kept[metric] == pytest.approx(kept["gain"])
    assert "\n" not in promoted.reason
    assert f"{kept[metric]:.4f} against {kept[f'champion_{metric}']:.4f}" in promoted.reason


def test_the_same_model_is_promoted_within_the_margin_of_its_error() -> None:
    found = judge(SCORES, SCORES)
    gain = found.evidence.champion.gain
    assert (found.action, gain.value, gain.error) == ("promote", 0.0, 0.0)
    bound = rule(found, "margin").bound
    assert bound == pytest.approx(-0.05 * found.evidence.champion.metric)
    assert bound < 0


@pytest.mark.parametrize("metric", METRICS)
def test_what_knows_no_more_than_a_constant_serves_nobody(metric: str) -> None:
    same = np.broadcast_to(constant(metric, TRAINED, TASK.quantiles), SCORES.shape)
    found = judge(same, metric=metric)
    assert (found.action, found.rules[0].name) == ("reject", "floor")
    first = judge(SCORES, metric=metric)
    assert first.action == "promote"
    assert "better than a constant by" in first.reason
    assert rule(first, "floor").number > 0


def test_the_constant_is_the_best_by_its_metric() -> None:
    labels = np.random.default_rng(0).lognormal(3, 1, 999).astype(np.float32)
    for metric in ("mae", "rmse"):
        best = constant(metric, labels, ())
        ones = np.ones((1, len(labels)))

        def error(value: float, metric: str = metric, ones: Floats = ones) -> float:
            said = np.full((len(labels), 1), value)
            return float(error_metric(metric, said, labels, ())(ones)[0])

        assert error(best[0]) <= min(error(best[0] * 0.97), error(best[0] * 1.03))


def test_quantiles_that_do_not_cover_what_they_say_are_rejected() -> None:
    vectors, _ = amounts.drawn(2000, 3)
    middle, spread = amounts.truth(vectors.astype(np.float64))
    for factor in (0.5, 2.0):
        found = judge(scores(middle, factor * spread), SCORES, "mae")
        assert (found.action, found.rules[0].name) == ("reject", "calibration")
        assert "quantile" in found.reason
    assert judge(scores(middle, 1.1 * spread), SCORES, "mae").action == "promote"


def test_a_slice_where_it_is_worse_rejects_it() -> None:
    vectors, _ = amounts.drawn(2000, 3)
    low = vectors[:, 0] < 1.5
    spoilt = SCORES + np.where(low, 150.0, 0.0).astype(np.float32)[:, None]
    case = Case(
        LABELS,
        Contender(0, spoilt),
        Contender(3, world(noise=60)[1]),
        task=TASK,
        constant=constant("mae", TRAINED, TASK.quantiles),
    )
    found = decide(Gate(metric="mae", calibration=1e6), case, {"a<1.5": low})
    assert (found.action, found.rules[0].name) == ("reject", "slice a<1.5")


def test_few_examples_prove_nothing() -> None:
    few = Case(LABELS[:12], Contender(0, SCORES[:12]), task=TASK)
    found = decide(Gate(metric="mae"), few)
    assert (found.action, found.rules[0].name) == ("inconclusive", "support")
    assert "12 examples, 20 are needed" in found.reason


def test_entities_are_drawn_with_all_their_examples() -> None:
    keys = np.repeat(np.arange(40), 50)
    off = np.random.default_rng(1).normal(0, 60, 40)[keys]
    single = judge(SCORES + off[:, None].astype(np.float32), SCORES, "mae")
    by_key = judge(SCORES + off[:, None].astype(np.float32), SCORES, "mae", entities=keys)
    assert by_key.evidence.support == 40
    assert by_key.evidence.candidate.error > 1.5 * single.evidence.candidate.error


def test_metrics_are_those_of_the_definition_for_any_weights() -> None:
    random = np.random.default_rng(5)
    labels, said = LABELS[:60].astype(np.float64), SCORES[:60].astype(np.float64)
    counts = random.integers(0, 4, (1, 60)).astype(float)
    drawn = np.repeat(np.arange(60), counts[0].astype(int))
    truth = measured(TASK, said[drawn], labels[drawn].astype(np.float32))
    for name in METRICS:
        found = error_metric(name, said, labels.astype(np.float32), TASK.quantiles)(counts)
        assert found[0] == pytest.approx(truth[name])


def test_the_loss_of_an_example_is_the_mean_over_its_scores() -> None:
    found = losses(np.array([[10.0, 8.0, 30.0]]), np.array([20.0], np.float32), (0.5, 0.9))
    assert found == pytest.approx([(10 + 0.5 * 12 + 0.1 * 10) / 3])
