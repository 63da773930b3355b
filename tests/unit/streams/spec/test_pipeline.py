"""Mistakes in a pipeline are caught when it is built, with the field's name and a mend."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from pydantic import BaseModel

from streams.errors import ConfigurationError, PipelineError
from streams.spec import (
    Bucket,
    Cleaning,
    Clip,
    Column,
    Columns,
    Count,
    CountDistinct,
    Decision,
    Event,
    Fallback,
    Feedback,
    Gate,
    LabelRate,
    Lag,
    Max,
    Mean,
    Model,
    OneHot,
    Policies,
    Retrain,
    RollOut,
    Scale,
    TimeSince,
    Transform,
)
from streams.spec.layout import Layout
from streams.spec.loading import load_pipeline
from streams.spec.triton import TritonConfig
from tests.unit.pipelines import Order, declare, refused


class Undated(BaseModel):
    id: float
    who: str
    when: str


def rate(**changes: Any) -> LabelRate:
    return LabelRate(key="shopper", over="1d", delay="1h", **changes)


MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({"name": "Orders!"}, "name", "lower-case"),
    ({"features": []}, "features", "at least one"),
    ({"features": ["amount"]}, "features", "use Column"),
    ({"features": [Column("price")]}, "features.price", "use one of: order_id"),
    ({"features": [Column("channel")]}, "features.channel", "OneHot or Bucket"),
    ({"features": [Column("amount"), Column("amount")]}, "features.amount", "name one differently"),
    ({"features": [OneHot("channel", ())]}, "features.channel", "each known value once"),
    ({"features": [Bucket("channel", 1)]}, "features.channel", "2 to 16,777,216"),
    ({"features": [Transform("t", "no")]}, "features.t", "pass a function"),  # type: ignore[arg-type]
    ({"features": [Count(key="shop", over="1h")]}, "features.shop.count()/1h.key", "use one of"),
    ({"features": [Count(key="shopper", over="1x")]}, "over", "write it as 45s"),
    ({"features": [Count(key="shopper", over="0s")]}, "over", "use 1s or more"),
    ({"features": [Count(key="channel", over="1h")]}, "event.schema.channel", "required"),
    ({"features": [Mean(key="shopper", over="1h", field="channel")]}, "field", "numeric field"),
    ({"features": [LabelRate(key="shopper", over="1d")]}, "delay", "use the horizon or more"),
    ({"features": [Max(key="shopper", over="1d", field="price")]}, "field", "use one of: order_id"),
    ({"features": [Max(key="shopper", over="1d", field="channel")]}, "field", "numeric field"),
    ({"features": [Lag(key="shopper", over="1d", field="amount", back=0)]}, "back", "use 1 for"),
    ({"features": [TimeSince(key="shopper", over="0s")]}, "over", "use 1s or more"),
    ({"features": [TimeSince(key="shopper", over="1d", default=1e39)]}, "default", "can take"),
    ({"features": [CountDistinct(key="shopper", over="1d", field="a")]}, "field", "use one of"),
    ({"features": [rate(class_=2)]}, "class_", "use the index of one of them"),
    ({"features": [rate(class_=-1)]}, "class_", "use 0 or more"),
    ({"features": [rate(smooth=(0.1, 0.0))]}, "smooth", "write (0.01, 20)"),
    ({"features": [rate(smooth=(0.1,))]}, "smooth", "write (0.01, 20)"),
    ({"cleaning": Cleaning(missing={"x": 0})}, "cleaning.missing['x']", "use one of"),
    ({"cleaning": Cleaning(outliers={"channel": Clip(0, 1)})}, "cleaning.outliers", "not a number"),
    ({"cleaning": Cleaning(duplicates="soon")}, "cleaning.duplicates", "write it as"),
    ({"decision": Decision(classes=("a", "b", "c"))}, "decision.classes", "each class once"),
    ({"feedback": Feedback(horizon="1h", missing=5)}, "feedback.missing", 'task="value"'),
    ({"policies": Policies(fallback=Fallback(score=-1))}, "policies.fallback.score", "0 to 1"),
    (
        {
            "policies": Policies(rollout=RollOut()),
            "feedback": Feedback(horizon="1h", missing=0, classes=()),
        },
        "policies.rollout",
        "name the classes",
    ),
]


@pytest.mark.parametrize(("changes", "field", "mend"), MISTAKES)
def test_a_mistake_names_its_field_and_the_mend(
    changes: dict[str, Any], field: str, mend: str
) -> None:
    said = refused(**changes)
    assert field in said
    assert mend in said


PARTS: list[tuple[Any, str]] = [
    (lambda: Event(Order, id="nope", key="shopper", time="at"), "event.id"),
    (lambda: Event(Order, id="order_id", key="amount", time="at"), "event.key"),
    (lambda: Event(Order, id="order_id", key="shopper", time="shopper"), "event.time"),
    (lambda: Event(dict, id="a", key="b", time="c"), "event.schema"),  # type: ignore[arg-type]
    (lambda: Event(Undated, id="id", key="who", time="when"), "event.time"),
    (lambda: Clip(2, 1), "cleaning.outliers"),
    (lambda: Feedback(horizon="0s"), "feedback.horizon"),
    (Model, "model"),
    (lambda: Model(network=1), "model.network"),  # type: ignore[arg-type]
    (lambda: Model(network=print, outputs=0), "model.outputs"),
    (lambda: Model(network=print, parameters={"lr": 1}), "model.parameters.lr"),
    (lambda: Decision(threshold=2), "decision.threshold"),
    (lambda: Decision(classes=("one",)), "decision.classes"),
    (lambda: Fallback(score=float("inf")), "policies.fallback.score"),
    (lambda: Model(network=print, quantiles=(0.9, 0.5)), "model.quantiles"),
    (lambda: Model(network=print, quantiles=(0.5, 1)), "model.quantiles"),
    (lambda: Model(network=print, parameters={"point_loss": "l1"}), "model.parameters.point_loss"),
    (lambda: Retrain(window="1d"), "policies.retrain.window"),
    (lambda: Retrain(every="0s"), "policies.retrain.every"),
    (lambda: Gate(confidence=1), "policies.gate.confidence"),
    (lambda: Gate(margin=-1), "policies.gate.margin"),
    (lambda: Gate(resamples=1), "policies.gate.resamples"),
    (lambda: Policies(delivery="maybe"), "policies.delivery"),  # type: ignore[arg-type]
    (lambda: Policies(keep_versions=1), "policies.keep_versions"),
    (lambda: Policies(rollout="fast"), "policies.rollout"),  # type: ignore[arg-type]
    (lambda: RollOut(shadow="soon"), "policies.rollout.shadow"),
    (lambda: RollOut(shadow="0s"), "policies.rollout.shadow"),
    (lambda: RollOut(every="0s"), "policies.rollout.every"),
    (lambda: RollOut(canary=("1 %",)), "policies.rollout.canary"),  # type: ignore[arg-type]
    (lambda: RollOut(canary=0.01), "policies.rollout.canary"),  # type: ignore[arg-type]
    (lambda: RollOut(canary=(0.05, 0.01)), "policies.rollout.canary"),
    (lambda: RollOut(canary=(0.5, 1.0)), "policies.rollout.canary"),
    (lambda: RollOut(canary=(0.0, 0.5)), "policies.rollout.canary"),
    (lambda: RollOut(least=0), "policies.rollout.least"),
    (lambda: RollOut(harm=0), "policies.rollout.harm"),
    (lambda: RollOut(confidence=1), "policies.rollout.confidence"),
    (lambda: RollOut(holdout=0.8), "policies.rollout.holdout"),
    (lambda: Scale(min=-1), "policies.scale.min"),
    (lambda: Scale(min=0, max=0), "policies.scale.max"),
    (lambda: Scale(min=3, max=2), "policies.scale.max"),
    (lambda: Scale(max=2.5), "policies.scale.max"),  # type: ignore[arg-type]
    (lambda: Scale(use=0), "policies.scale.use"),
    (lambda: Scale(use=1.2), "policies.scale.use"),
    (lambda: Scale(catch_up="soon"), "policies.scale.catch_up"),
    (lambda: Scale(catch_up="0s"), "policies.scale.catch_up"),
    (lambda: Scale(idle="0s"), "policies.scale.idle"),
    (lambda: Policies(scale=2), "policies.scale"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("build", "field"), PARTS)
def test_each_part_checks_itself(build: Any, field: str) -> None:
    with pytest.raises(PipelineError) as caught:
        build()
    assert str(caught.value).startswith(field)


def test_loading_says_what_is_missing() -> None:
    with pytest.raises(ConfigurationError, match="DRIFTLOOP_PIPELINE"):
        load_pipeline("")
    with pytest.raises(ConfigurationError, match=r"no module 'streams\.nothing'"):
        load_pipeline("streams.nothing")
    with pytest.raises(ConfigurationError, match="declares no pipeline"):
        load_pipeline("streams.errors")


def test_card_fraud_has_the_handbooks_features() -> None:
    pipeline = load_pipeline("streams.pipelines.card_fraud")
    assert len(pipeline.feature_names) == 15
    assert pipeline.feature_names[:3] == ("amount", "is_weekend", "is_night")
    assert [key.key for key in pipeline.plan.keys] == ["customer_id", "terminal_id"]


def test_card_fraud_knows_weekends_and_nights() -> None:
    import numpy as np

    from streams.pipelines.card_fraud import is_night, is_weekend

    at = [datetime(2018, 4, day, hour).timestamp() for day in range(1, 9) for hour in (0, 6, 7, 23)]
    columns: Columns = {"tx_time": np.array(at)}
    moments = [datetime(2018, 4, day, hour) for day in range(1, 9) for hour in (0, 6, 7, 23)]
    offset = datetime(2018, 4, 1).timestamp() - np.datetime64("2018-04-01", "s").astype(int)
    columns = {"tx_time": np.array(at) - offset}
    assert is_weekend(columns).tolist() == [m.weekday() >= 5 for m in moments]
    assert is_night(columns).tolist() == [m.hour <= 6 for m in moments]


def test_the_schema_hash_changes_with_what_a_vector_means() -> None:
    base = declare()
    renamed = declare(features=[*base.features[:-1]])
    assert base.schema_hash == declare().schema_hash != renamed.schema_hash


def test_triton_config_names_exactly_the_versions() -> None:
    text = TritonConfig("orders", Layout.of(6).tensors, 1, (3, 2), 2).text()
    assert 'backend: "onnxruntime"' in text
    assert "versions: [ 2, 3 ]" in text
    assert "dims: [ 6 ]" in text
