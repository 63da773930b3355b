"""Boosted trees through the real trainer and Triton: what is served is what the library answers."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import xgboost

from streams.adapters.triton.scorer import TritonScorer
from streams.kafka.topics import ensure_topics
from streams.settings import Settings
from tests.integration.test_trainer import decided, trainer
from tests.synthetic import DAY, START, in_columns, made, write_examples
from workers.environment import find_pipeline
from workers.training.slices import Spans, cut

PIPELINE = """
    from dataclasses import replace
    from streams import Model, XGBoost
    from tests.synthetic import declare
    trees = XGBoost(n_estimators=30, max_depth=3, tree_method="exact", base_score=0.5)
    declared = declare("boosted", margin=0.5, confidence=0.999, calibration=10.0)
    retrain = replace(declared.policies.retrain, warm_start=True)
    policies = replace(declared.policies, retrain=retrain)
    pipeline = replace(declared, model=Model(fit=trees), policies=policies)
"""


async def test_trees_are_promoted_and_served_as_their_library_answers(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "boosted.py").write_text(dedent(PIPELINE))
    monkeypatch.syspath_prepend(tmp_path)
    settings = settings.model_copy(update={"pipeline": "boosted"})
    pipeline, examples = find_pipeline("boosted"), made(7)
    await ensure_topics(settings, pipeline)
    await write_examples(settings, pipeline.topics.examples, examples)

    async with trainer(settings, pipeline):
        now = await decided(settings, pipeline, START + 6 * DAY - 3600)
        await write_examples(settings, pipeline.topics.examples, made(2, seed=1, first=7))
        later = await decided(settings, pipeline, START + 8 * DAY - 3600)
    assert later.versions[2].parent == 1
    assert later.versions[2].parameters["trees"] == 60, "the second begins from the first"
    assert now.champion == 1, "promoted"
    manifest = now.versions[1]
    assert manifest.parameters["estimator"] == "XGBoost"
    assert manifest.environment["xgboost"] == xgboost.__version__

    sliced = cut(in_columns(examples), Spans.from_manifest(manifest.slices))
    asked = {"objective": "binary:logistic", "max_depth": 3, "seed": 7, "nthread": 1}
    asked |= {"tree_method": "exact", "base_score": 0.5}
    rows = xgboost.DMatrix(sliced.train.vector, sliced.train.label)
    expected = xgboost.train(asked, rows, 30).predict(xgboost.DMatrix(sliced.evaluate.vector))
    scorer = TritonScorer(settings, pipeline.name, 1)
    try:
        served = await scorer.infer(1, sliced.evaluate.vector)
    finally:
        await scorer.close()
    assert np.abs(served[:, 0] - expected).max() < 1e-5
    assert served.std() > 0.05
