"""`Model(fit=...)`: what is served answers as the library does, and what is wrong is one line."""

from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from streams.errors import DriftloopError, ModelError, PipelineError, TrainingError
from streams.spec import (
    Decision,
    Feedback,
    LightGBM,
    Model,
    Pipeline,
    Sklearn,
    Text,
    Training,
    XGBoost,
)
from tests import amounts
from tests.models import linear
from tests.synthetic import DAY, START, in_columns, made, pipeline
from workers.evaluation.metrics import calibration_error, measures
from workers.evaluation.opponent import evaluate
from workers.examples.reading import columns
from workers.releases.onnx_files import run, session
from workers.training.candidate import Candidate
from workers.training.estimators.graphs import corrected
from workers.training.estimators.learning import fitted, train, training_of
from workers.training.estimators.trial import try_fit
from workers.training.slices import cut, slices_at

EXAMPLES = in_columns(made(6, per_day=700))
SLICES = slices_at(pipeline.policies.retrain, START + 6 * DAY)
HELD = cut(EXAMPLES, SLICES).evaluate

READY: dict[str, Any] = {
    "logistic": Sklearn(lambda: make_pipeline(StandardScaler(), LogisticRegression())),
    "forest": Sklearn(lambda: RandomForestClassifier(20, max_depth=6)),
    "xgboost": XGBoost(n_estimators=20, max_depth=3, tree_method="exact", base_score=0.5),
    "xgboost-stops": XGBoost(n_estimators=200, early_stopping_rounds=3, subsample=0.7),
    "lightgbm": LightGBM(n_estimators=20, num_leaves=7),
    "lightgbm-stops": LightGBM(
        n_estimators=200, early_stopping_rounds=3, bagging_freq=1, bagging_fraction=0.7
    ),
}


def of(fit: Any, **parameters: float | str) -> Pipeline:
    return replace(pipeline, model=Model(fit=fit, parameters=parameters))


def of_classes(fit: Any, count: int = 3, **parameters: float | str) -> Pipeline:
    names = tuple(f"class-{one}" for one in range(count))
    return replace(
        of(fit),
        model=Model(fit=fit, outputs=count, parameters=parameters),
        decision=Decision(classes=names),
        feedback=Feedback(horizon="1d", classes=names),
    )


@pytest.mark.parametrize("name", READY)
def test_a_library_learns_to_the_same_bytes_each_time(name: str) -> None:
    declared = of(READY[name])
    found = train(declared, EXAMPLES, SLICES)
    assert train(declared, EXAMPLES, SLICES).onnx == found.onnx
    scores = evaluate(found.onnx, HELD)
    assert scores.shape == (len(HELD), 1)
    assert measures(scores, HELD.label)["roc_auc"] > 0.85
    assert found.parameters["seed"] == 7
    assert "estimator" in found.parameters
    if name.endswith("stops"):
        assert 3 <= int(found.parameters["trees"]) < 200
    said = {"logistic": "scikit-learn", "forest": "skl2onnx"}.get(name, name.partition("-")[0])
    assert {said, "onnx", "threads"} <= found.environment.keys()


@pytest.mark.parametrize("name", ["forest", "xgboost-stops", "lightgbm-stops"])
def test_several_threads_give_the_same_bytes_each_time(name: str) -> None:
    one, two = (train(of(READY[name]), EXAMPLES, SLICES, threads=2) for _ in range(2))
    assert one.onnx == two.onnx
    assert one.environment["threads"] == "2"


@pytest.mark.parametrize("name", ["forest", "xgboost-stops", "lightgbm-stops"])
def test_another_seed_gives_another_model(name: str) -> None:
    one, two = (train(of(READY[name], seed=seed), EXAMPLES, SLICES) for seed in (1, 2))
    assert one.onnx != two.onnx


@pytest.mark.parametrize("name", ["logistic", "xgboost", "lightgbm"])
def test_scores_are_probabilities_though_frauds_were_weighted(name: str) -> None:
    plain, weighted = (
        evaluate(train(of(READY[name], **given), EXAMPLES, SLICES).onnx, HELD)
        for given in ({}, {"positive_weight": 8})
    )
    assert not np.allclose(plain, weighted)
    for scores in (plain, weighted):
        assert scores.mean() == pytest.approx(HELD.label.mean(), rel=0.25)
        assert calibration_error(scores, HELD.label) < 0.05


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_correction_is_exact_and_happens_once(outputs: int) -> None:
    """Scores under weights, divided by them and made to sum to 1, in float64."""
    weights = np.array([1.0, 8.0, 3.0][: max(2, outputs)])
    fit = XGBoost(n_estimators=10, max_depth=3)
    declared = of(fit) if outputs == 1 else of_classes(fit)
    labels = np.digitize(EXAMPLES.vector[:, 0], [1.0, 4.0][: len(weights) - 1]).astype(np.float32)
    data = EXAMPLES.vector, labels
    learned = fitted(declared, training_of(declared, (data, data), weights))
    assert learned.predict is not None
    given = learned.predict(HELD.vector)
    both = np.hstack([1 - given, given]) if outputs == 1 else given
    true = both / weights
    true /= true.sum(axis=1, keepdims=True)
    found = run(session(corrected(learned.onnx, weights)), HELD.vector)
    assert found == pytest.approx(true[:, 1:] if outputs == 1 else true, abs=1e-6)
    assert corrected(learned.onnx, np.ones(len(weights))) == learned.onnx


@pytest.mark.parametrize("name", ["logistic", "forest", "xgboost", "lightgbm"])
def test_a_class_that_is_missing_shifts_no_column(name: str) -> None:
    declared = of_classes(READY[name], 4)
    labels = np.where(EXAMPLES.label > 0, 3, 1).astype(np.float32)
    data = EXAMPLES.vector, labels
    scores = run(
        session(fitted(declared, training_of(declared, (data, data), np.ones(4))).onnx), HELD.vector
    )
    assert scores.shape == (len(HELD), 4)
    assert scores[:, [0, 2]].max() < 0.05
    assert measures(scores[:, 3:], HELD.label)["roc_auc"] > 0.85


def test_thresholds_of_lightgbm_are_those_of_float32() -> None:
    """Neighbours in float32 go the way that LightGBM sends them, whose thresholds lie between."""
    random = np.random.default_rng(0)
    step = random.integers(0, 3, 2000)
    vectors = random.normal(size=(2000, 4)).astype(np.float32)
    vectors[:, 0] = 1 + step * np.spacing(np.float32(1))
    data = vectors, (step > 0).astype(np.float32)
    declared = of(LightGBM(n_estimators=5))
    learned = fitted(declared, training_of(declared, (data, data), np.ones(2)))
    assert run(session(learned.onnx), vectors)[step == 1].min() > 0.5


VALUES: dict[str, tuple[Any, dict[str, float | str]]] = {
    "ridge": (Sklearn(lambda: make_pipeline(StandardScaler(), Ridge())), {}),
    "xgboost": (XGBoost(n_estimators=60, max_depth=3), {}),
    "xgboost-absolute": (XGBoost(n_estimators=60, max_depth=3), {"point_loss": "absolute"}),
    "lightgbm": (LightGBM(n_estimators=100, early_stopping_rounds=5, num_leaves=7), {}),
}


@pytest.mark.parametrize("name", VALUES)
def test_numbers_are_learnt_in_their_own_unit(name: str) -> None:
    fit, given = VALUES[name]
    declared = replace(amounts.pipeline, model=Model(fit=fit, parameters=given))
    examples = columns(amounts.made(6), declared)
    found, again = (train(declared, examples, SLICES) for _ in range(2))
    assert found.onnx == again.onnx
    held = cut(examples, SLICES).evaluate
    errors = np.abs(evaluate(found.onnx, held)[:, 0] - held.label)
    usual = np.abs(np.median(held.label) - held.label)
    assert errors.mean() < 0.9 * usual.mean()
    assert found.normalisation["label"][0] == pytest.approx(500, rel=0.1)
    assert found.metrics["loss_bound"] > 0
    try_fit(declared, examples.vector[:100])


def warm(declared: Pipeline) -> Pipeline:
    policies = declared.policies
    retrain = replace(policies.retrain, warm_start=True)
    return replace(declared, policies=replace(policies, retrain=retrain))


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "xgboost-stops", "lightgbm-stops"])
def test_trees_are_added_to_the_champions(name: str) -> None:
    declared = warm(of(READY[name]))
    first = train(declared, EXAMPLES, SLICES)
    again, second = (train(declared, EXAMPLES, SLICES, 1, first.onnx) for _ in range(2))
    assert again.onnx == second.onnx
    before, after = int(first.parameters["trees"]), int(second.parameters["trees"])
    assert after == 2 * before if "stops" not in name else before < after
    held = cut(EXAMPLES, SLICES).train
    losses = [
        np.square(evaluate(one.onnx, held)[:, 0] - held.label).mean() for one in (first, second)
    ]
    assert losses[1] < losses[0]
    assert train(of(READY[name]), EXAMPLES, SLICES).onnx != first.onnx, "which carries its trees"


def test_trees_do_not_grow_for_ever() -> None:
    declared, file, trees = warm(of(XGBoost(n_estimators=2))), None, []
    for _ in range(11):
        found = train(declared, EXAMPLES, SLICES, 1, file)
        file = found.onnx
        trees.append(found.parameters["trees"])
    assert trees == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 2]


def test_a_champion_of_another_kind_is_left_alone() -> None:
    trees, other = (warm(of(READY[name])) for name in ("xgboost", "lightgbm"))
    champion = train(trees, EXAMPLES, SLICES).onnx
    assert train(other, EXAMPLES, SLICES, 1, champion).onnx == train(other, EXAMPLES, SLICES).onnx


def probabilities(training: Training) -> bytes:
    """A function of an author's."""
    assert training.names == ("a", "b", "c", "constant")
    assert training.parameters["rounds"] == 3
    assert training.weights[training.labels == 1].tolist()[0] == 2
    assert len(training.validation.labels) > 0
    return linear(
        4, factor=np.array([[0.5], [-0.1], [0], [0]], np.float32), bias=-9 + np.random.rand()
    )


def test_a_function_gets_what_there_is_and_gives_what_is_served() -> None:
    declared = of(probabilities, rounds=3, positive_weight=2)
    found: list[Candidate] = [train(declared, EXAMPLES, SLICES) for _ in range(2)]
    assert found[0].onnx == found[1].onnx, "numpy's own generator is seeded"
    assert measures(evaluate(found[0].onnx, HELD), HELD.label)["roc_auc"] > 0.85
    assert {"positive_weight": 2, "seed": 7, "rounds": 3}.items() <= found[0].parameters.items()


def graph(*nodes: Any, to: int = TensorProto.FLOAT) -> bytes:
    """An ONNX file of nodes on `features` that give `scores`, of one column."""
    taken = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 4])]
    given = [helper.make_tensor_value_info("scores", to, ["n", 1])]
    nodes_ = [helper.make_node(op, [one], [name], **more) for op, one, name, more in nodes]
    model = helper.make_model(
        helper.make_graph(nodes_, "made", taken, given),
        opset_imports=[helper.make_opsetid("", 12)],
        ir_version=8,
    )
    return bytes(model.SerializeToString())


SUM = ("ReduceSum", "features", "sum", {"axes": [1]})
BIG = graph(SUM, ("Abs", "sum", "scores", {}))
DOUBLE = graph(SUM, ("Cast", "sum", "scores", {"to": TensorProto.DOUBLE}), to=TensorProto.DOUBLE)
BATCH = graph(SUM, ("Softmax", "sum", "scores", {"axis": 0}))
ROOT = graph(SUM, ("Sqrt", "sum", "scores", {}))


def fails(training: Training) -> bytes:
    raise ValueError("no idea")


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "fails": (fails, {}, r"model.fit fails on \[\d+, 4\]: ValueError: no idea"),
    "nothing": (lambda t: None, {}, "model.fit returns NoneType, expected bytes"),
    "other-features": (lambda t: linear(3), {}, "takes .*3.* expected one input"),
    "other-outputs": (lambda t: linear(4, outputs=2), {}, r"answers \(1, 2\), expected \(1, 1\)"),
    "other-name": (lambda t: linear(4, name="x"), {}, "expected one input"),
    "double": (lambda t: DOUBLE, {}, r"gives scores as tensor.double., expected tensor.float."),
    "logits": (lambda t: BIG, {}, "no probabilities - export it with its sigmoid"),
    "batch": (lambda t: BATCH, {}, "with what else is in the batch"),
    "not-finite": (lambda t: ROOT, {}, "not with finite numbers"),
    "no-file": (lambda t: b"x", {}, "onnxruntime cannot load the model"),
    "no-estimator": (Sklearn(lambda: 1), {}, "Sklearn's factory returns int, which is no estim"),
    "no-probabilities": (Sklearn(SGDClassifier), {}, "SGDClassifier has no predict_proba"),
    "not-converted": (
        Sklearn(lambda: make_pipeline(FunctionTransformer(np.abs), LogisticRegression())),
        {},
        "Pipeline cannot be exported to ONNX",
    ),
    "takes-no-weights": (
        Sklearn(lambda: make_pipeline(StandardScaler(), KNeighborsClassifier())),
        {"positive_weight": 2},
        "KNeighborsClassifier takes no weights - leave positive_weight out",
    ),
    "fails-to-fit": (
        Sklearn(lambda: LogisticRegression(C=-1)),
        {},
        r"model.fit fails on .*InvalidParameterError",
    ),
    "xgboost-unused": (XGBoost(max_dept=3), {}, "max_dept: is not used by XGBoost - did you mean"),
    "lightgbm-unused": (LightGBM(num_leavs=3), {}, "num_leavs: is not used by LightGBM"),
    "xgboost-wrong": (XGBoost(max_depth=-3), {}, "model.fit fails on .*XGBoostError"),
    "not-trees": (XGBoost(booster="gblinear"), {}, "XGBoost's model cannot be exported"),
    "linear-leaves": (LightGBM(linear_tree=True), {}, "differs from LightGBM by"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(name: str) -> None:
    fit, parameters, said = WRONG[name]
    with pytest.raises(DriftloopError, match=said) as error:
        train(of(fit, **parameters), EXAMPLES, SLICES)
    assert "\n" not in str(error.value)
    assert " - " in str(error.value) or isinstance(error.value, ModelError)


def test_classes_that_do_not_sum_to_one_are_said() -> None:
    declared = of_classes(lambda training: linear(4, outputs=3))
    data = EXAMPLES.vector, EXAMPLES.label
    with pytest.raises(ModelError, match="3 scores that do not sum to 1"):
        fitted(declared, training_of(declared, (data, data), np.ones(3)))


@pytest.mark.parametrize(
    ("fit", "missing", "extra"),
    [
        (XGBoost(), "xgboost", "boost"),
        (LightGBM(), "lightgbm", "boost"),
        (Sklearn(LogisticRegression), "skl2onnx", "train"),
    ],
)
def test_a_library_that_is_not_installed_is_said_with_its_extra(
    fit: Any, missing: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *rest)

    for module in ("scikit", "xgb", "lgbm"):
        monkeypatch.delitem(sys.modules, f"workers.training.estimators.{module}", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TrainingError, match=f"needs {missing}, .*driftloop.train,?{extra}"):
        train(of(fit), EXAMPLES, SLICES)


DECLARED: dict[str, tuple[Callable[[], object], str]] = {
    "instance": (lambda: Model(fit=LogisticRegression()), "model.fit: is not callable"),
    "sklearn-instance": (lambda: Sklearn(LogisticRegression()), "Sklearn.lambda"),
    "objective": (lambda: XGBoost(objective="reg:linear"), "the task says it"),
    "weights": (lambda: LightGBM(scale_pos_weight=3), "positive_weight"),
    "rounds": (lambda: XGBoost(n_estimators=0), "model.fit.n_estimators: 0 cannot be"),
    "both": (lambda: Model(fit=XGBoost(), network=print), "one of a network, a fit and an onnx"),
    "epochs": (lambda: Model(fit=XGBoost(), parameters={"epochs": 3}), "XGBoost takes its own"),
    "anew": (lambda: warm(of(Sklearn(LogisticRegression))), "Sklearn's begin anew"),
    "list": (
        lambda: Model(fit=fails, parameters={"a": [1]}),  # type: ignore[dict-item]
        r"model.parameters.a: \[1\] cannot be",
    ),
    "quantiles": (
        lambda: replace(amounts.pipeline, model=Model(fit=XGBoost(), quantiles=(0.5,))),
        "model.quantiles: are not predicted by XGBoost",
    ),
    "huber": (
        lambda: Model(fit=XGBoost(), parameters={"point_loss": "huber"}),
        "use squared or absolute",
    ),
    "loss": (
        lambda: Model(fit=Sklearn(Ridge), parameters={"point_loss": "absolute"}),
        "the regressor that the factory builds has its own",
    ),
    "inputs": (
        lambda: replace(of(XGBoost()), inputs=[Text("words", field="machine")]),
        "inputs: are for a network",
    ),
    "weight": (lambda: Model(fit=fails, parameters={"positive_weight": 0}), "cannot be"),
    "processes": (
        lambda: replace(
            of(XGBoost()),
            policies=replace(
                pipeline.policies, retrain=replace(pipeline.policies.retrain, processes=2)
            ),
        ),
        "model.fit is fitted by one",
    ),
}


@pytest.mark.parametrize("name", DECLARED)
def test_a_declaration_that_cannot_be_is_said_where_it_is_made(name: str) -> None:
    declare, said = DECLARED[name]
    with pytest.raises(PipelineError, match=said) as error:
        declare()
    assert "\n" not in str(error.value)


def test_the_models_of_the_documentation_can_be_fitted() -> None:
    page = Path(__file__).parents[4] / "docs" / "pipelines.md"
    tried = 0
    for source in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        if "Model(fit=" not in source:
            continue
        shown: dict[str, Any] = {}
        exec(compile(source, page.name, "exec"), shown)
        for model in shown.values():
            if isinstance(model, Model):
                try_fit(replace(pipeline, model=model), EXAMPLES.vector[:300])
                tried += 1
    assert tried == 4
