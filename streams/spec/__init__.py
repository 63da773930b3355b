"""What a pipeline declares: frozen data and pure functions, no I/O."""

from __future__ import annotations

from streams.spec.aggregates import (
    Count,
    CountDistinct,
    First,
    LabelRate,
    Lag,
    Last,
    Max,
    Mean,
    Min,
    Std,
    Sum,
    TimeSince,
)
from streams.spec.budget import Budget
from streams.spec.candidates import Candidates
from streams.spec.derived import Derived
from streams.spec.drift import Drift
from streams.spec.estimators import LabelledRows, LightGBM, Sklearn, Training, XGBoost
from streams.spec.evaluation import Evaluate, Slices
from streams.spec.events import Cleaning, Clip, Columns, Event
from streams.spec.features import Bucket, Column, Feature, OneHot, Transform
from streams.spec.feedback import Feedback
from streams.spec.indices import Indices
from streams.spec.infer import Batching, Infer
from streams.spec.inputs import Array, Image
from streams.spec.learning import Retrain
from streams.spec.model import Model
from streams.spec.pipeline import Pipeline
from streams.spec.policy import Policies
from streams.spec.rollout import Gate, RollOut
from streams.spec.scaling import Scale
from streams.spec.sequences import LastN
from streams.spec.serving import Decision, Fallback, Invalid
from streams.spec.sounds import Audio
from streams.spec.texts import Text

__all__ = [
    "Array",
    "Audio",
    "Batching",
    "Bucket",
    "Budget",
    "Candidates",
    "Cleaning",
    "Clip",
    "Column",
    "Columns",
    "Count",
    "CountDistinct",
    "Decision",
    "Derived",
    "Drift",
    "Evaluate",
    "Event",
    "Fallback",
    "Feature",
    "Feedback",
    "First",
    "Gate",
    "Image",
    "Indices",
    "Infer",
    "Invalid",
    "LabelRate",
    "LabelledRows",
    "Lag",
    "Last",
    "LastN",
    "LightGBM",
    "Max",
    "Mean",
    "Min",
    "Model",
    "OneHot",
    "Pipeline",
    "Policies",
    "Retrain",
    "RollOut",
    "Scale",
    "Sklearn",
    "Slices",
    "Std",
    "Sum",
    "Text",
    "TimeSince",
    "Training",
    "Transform",
    "XGBoost",
]
