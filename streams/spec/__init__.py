"""What a pipeline declares: frozen data and pure functions, no I/O."""

from __future__ import annotations

from streams.spec.budget import Budget
from streams.spec.drift import Drift
from streams.spec.estimators import LabelledRows, LightGBM, Sklearn, Training, XGBoost
from streams.spec.evaluation import Evaluate, Slices
from streams.spec.events import Cleaning, Clip, Columns, Event
from streams.spec.features import (
    Bucket,
    Column,
    Count,
    Feature,
    LabelRate,
    Mean,
    OneHot,
    Sum,
    Transform,
)
from streams.spec.feedback import Feedback
from streams.spec.infer import Batching, Infer
from streams.spec.learning import Retrain
from streams.spec.model import Model
from streams.spec.pipeline import Pipeline
from streams.spec.policy import Policies
from streams.spec.rollout import Gate, RollOut
from streams.spec.scaling import Scale
from streams.spec.serving import Decision, Fallback, Invalid

__all__ = [
    "Batching",
    "Bucket",
    "Budget",
    "Cleaning",
    "Clip",
    "Column",
    "Columns",
    "Count",
    "Decision",
    "Drift",
    "Evaluate",
    "Event",
    "Fallback",
    "Feature",
    "Feedback",
    "Gate",
    "Infer",
    "Invalid",
    "LabelRate",
    "LabelledRows",
    "LightGBM",
    "Mean",
    "Model",
    "OneHot",
    "Pipeline",
    "Policies",
    "Retrain",
    "RollOut",
    "Scale",
    "Sklearn",
    "Slices",
    "Sum",
    "Training",
    "Transform",
    "XGBoost",
]
