"""A pipeline binds event, cleaning, features, model, feedback and policies; checks they fit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from streams.errors import PipelineError
from streams.spec.aggregates import Window
from streams.spec.agreement import (
    TaskParts,
    check_agreement,
    check_label_rates,
    settled,
    task_of,
)
from streams.spec.candidates import Candidates
from streams.spec.derived import Derived
from streams.spec.evaluation import Slice, compile_slices
from streams.spec.events import Cleaning, Columns, Event
from streams.spec.features import Feature
from streams.spec.feedback import Feedback
from streams.spec.fields import optional, require_default
from streams.spec.inputs import LARGEST_ROW, Input
from streams.spec.layout import Layout
from streams.spec.meaning import meaning
from streams.spec.model import Model
from streams.spec.policy import Decision, Policies
from streams.spec.tasks import Task, TaskName
from streams.spec.topics import Topics
from streams.spec.vectors import Vectors
from streams.spec.windows import FoldPlan, compile_plan, revisions


@dataclass(frozen=True)
class Pipeline:
    """One product: what its events are, what the model sees, and how it is kept fresh.

    Raises:
        PipelineError: at construction, naming the field that is wrong and the fix.
    """

    name: str
    """Begins the names of its topics, its groups and its models in Triton."""
    event: Event
    """What an event is."""
    features: Sequence[Feature]
    """What the model sees, in this order; may be empty where there are inputs."""
    model: Model
    """The network, or an ONNX file."""
    feedback: Feedback
    """What a label is, and how late it may come."""
    inputs: Sequence[Input] = ()
    """Arrays, images, texts and sounds that the network sees beside the features, by name."""
    cleaning: Cleaning = field(default_factory=Cleaning)
    """What becomes of values that are missing or absurd, and of events that come twice."""
    decision: Decision = field(default_factory=Decision)
    """What class a score stands for."""
    policies: Policies = field(default_factory=Policies)
    """Delivery, fallback, retraining and the gate."""
    task: TaskName | None = None
    """What is predicted: `binary` and `multiclass` are classes, `value` is a number, `ranking` an
    order of candidates. `None`: by the model's outputs, binary where there is one."""
    candidates: Candidates | None = None
    """Of a ranking: what is ranked."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z][a-z0-9-]{1,60}", self.name):
            raise PipelineError(
                "name",
                f"{self.name!r} cannot name topics",
                "use lower-case letters, digits and -, starting with a letter",
            )
        _check_parts(self)
        if not self.features and not self.all_inputs:
            raise PipelineError("features", "are empty", "declare at least one, or an input")
        self.cleaning.validate(self.event.schema)
        for feature in self.features:
            if not isinstance(feature, Feature):
                raise PipelineError(
                    "features",
                    f"{feature!r} is not a feature",
                    "use Column, Transform, OneHot, Bucket, Derived or a window aggregate",
                )
            feature.validate(self.event.schema)
        self._check_names()
        self._check_inputs()
        self._check_missing()
        check_label_rates(self.windows, self.feedback, self.candidates)
        for name, part in settled(self.predicts, self._parts).items():
            object.__setattr__(self, name, part)
        check_agreement(self.predicts, self._parts)
        compile_slices(self.policies.evaluate.slices, self.feature_names)

    def _check_names(self) -> None:
        for name in self.feature_names:
            if not name:
                raise PipelineError(
                    "features", "a Transform has no name", 'write Transform("ratio", ratio)'
                )
            if self.feature_names.count(name) > 1:
                raise PipelineError(f"features.{name}", "is declared twice", "name one differently")

        known: list[str] = [
            n for one in self.features if not isinstance(one, Derived) for n in one.names
        ]
        for feature in self.features:
            if isinstance(feature, Derived):
                feature.check_of(known)
                known.append(feature.name)

    def _check_inputs(self) -> None:
        for one in self.all_inputs:
            if not hasattr(one, "tensor"):
                raise PipelineError(
                    "inputs", f"{one!r} is no input", "use Array, Image, Text, Audio or Indices"
                )
            one.validate(self.event.schema)
        names = [one.name for one in self.all_inputs]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise PipelineError(
                f"inputs.{min(repeated)}", "is declared twice", "name one differently"
            )
        if self.layout.size > LARGEST_ROW:
            raise PipelineError(
                "inputs",
                f"make rows of {self.layout.size:,} bytes, more than {LARGEST_ROW:,}",
                "make an image smaller, a text shorter, a sound's rate or candidates.most lower",
            )

    def _check_missing(self) -> None:
        for name in (
            self.event.id,
            self.event.key,
            self.event.time,
            *(window.key for window in self.windows),
        ):
            if optional(self.event.schema, name):
                raise PipelineError(
                    f"event.schema.{name}",
                    "identifies or dates the event but may be None",
                    "make the field required",
                )
        for name in sorted(self.fields_read):
            if name in self.event.schema.model_fields:
                require_default(self.event.schema, name)

    @cached_property
    def predicts(self) -> Task:
        """What is predicted, and what that means to every other part. Raises `PipelineError`."""
        return task_of(self.task, self.model, self.candidates)

    @property
    def _parts(self) -> TaskParts:
        return TaskParts(self.model, self.feedback, self.decision, self.policies)

    @cached_property
    def all_inputs(self) -> tuple[Input, ...]:
        """The inputs, and the candidates as the last."""
        return (*self.inputs, *([self.candidates] if self.candidates is not None else []))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the vector's columns, in order."""
        return tuple(name for feature in self.features for name in feature.names)

    @cached_property
    def normalised(self) -> tuple[bool, ...]:
        """For each column of the vector, whether training fits statistics to scale it."""
        return tuple(bool(feature.normalise) for feature in self.features for _ in feature.names)

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """The window features."""
        return tuple(feature for feature in self.features if isinstance(feature, Window))

    @cached_property
    def plan(self) -> FoldPlan:
        """What the feature state keeps and returns."""
        return compile_plan(self.event, self.windows, self.cleaning.duplicates_seconds)

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """TaskParts of the events whose quality is followed by itself."""
        return compile_slices(self.policies.evaluate.slices, self.feature_names)

    @cached_property
    def topics(self) -> Topics:
        """Names of the pipeline's topics."""
        return Topics(self.name)

    @cached_property
    def schema_hash(self) -> str:
        """Names what the vector means: a model serves only vectors of its own hash.

        It covers what features there are, what transforms compute, and how fields are cleaned.
        """
        plan = [[k.key, k.edges, k.values, k.labels, k.windows] for k in self.plan.keys]
        cleaning = self.cleaning
        stateless = [
            [f"{type(feature).__name__}{getattr(feature, 'revision', '')}", meaning(vars(feature))]
            for feature in self.features
            if not isinstance(feature, Window)
        ]
        cleaned = meaning(
            [
                dict(sorted(cleaning.missing.items())),
                {name: vars(clip) for name, clip in sorted(cleaning.outliers.items())},
                cleaning.duplicates_seconds,
            ]
        )
        said = [self.feature_names, self.normalised, plan, stateless, cleaned]
        if found := revisions(self.windows):
            said.append(found)
        if self.all_inputs:
            said.append([[list(one.tensor), one.meaning] for one in self.all_inputs])
        text = json.dumps(said)
        return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]

    @cached_property
    def fields_read(self) -> frozenset[str]:
        """The event's fields that identify or date it, or that a feature names.

        A transform may read others as well; what it makes of a null is its own affair.
        """
        event = self.event
        named = [getattr(feature, "field", None) for feature in self.features]
        keys = [window.key for window in self.windows]
        named += [one.field for one in self.all_inputs]
        return frozenset(filter(None, [event.id, event.key, event.time, *keys, *named]))

    @cached_property
    def vectors(self) -> Vectors:
        """Makes the vectors of its features."""
        return Vectors(self.features, self.plan)

    @cached_property
    def layout(self) -> Layout:
        """What a version sees of an event: the features, and the inputs after them."""
        return Layout.of(len(self.feature_names), [one.tensor for one in self.all_inputs])

    def read_inputs(self, columns: Columns) -> tuple[dict[str, NDArray[Any]], dict[int, str]]:
        """Each input's tensors by name, [n, *shape]; by row what is wrong with events."""
        found, bad = dict[str, NDArray[Any]](), dict[int, str]()
        for one in self.all_inputs:
            found[one.name], wrong = one.read(columns[one.field])
            bad |= {row: f"{one.field}: {said}" for row, said in wrong.items()}
        return found, bad


def _check_parts(pipeline: Pipeline) -> None:
    """Raise a `PipelineError` unless each part is of its class."""
    parts = {
        "event": Event,
        "model": Model,
        "feedback": Feedback,
        "cleaning": Cleaning,
        "decision": Decision,
        "policies": Policies,
    }
    for name, expected in parts.items():
        if not isinstance(value := getattr(pipeline, name), expected):
            raise PipelineError(
                name, f"{value!r} is no {expected.__name__}", f"write {expected.__name__}(...)"
            )
    for name, like in (("features", "[Column(...)]"), ("inputs", "[Image(...)]")):
        given = getattr(pipeline, name)
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise PipelineError(name, f"{given!r} is no list", f"write {like}")
