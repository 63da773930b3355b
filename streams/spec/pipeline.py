"""A pipeline binds event, cleaning, features, model, feedback and policies; checks they fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
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
from streams.spec.columns import column_meanings, input_meanings, row_meaning
from streams.spec.derived import Derived
from streams.spec.evaluation import Slice, compile_slices
from streams.spec.events import Cleaning, Columns, Event
from streams.spec.features import Block, Feature
from streams.spec.feedback import Feedback
from streams.spec.fields import optional, require_default
from streams.spec.inputs import LARGEST_ROW, Input, check_inputs
from streams.spec.layout import Layout, Rows
from streams.spec.model import Model
from streams.spec.policy import Decision, Policies
from streams.spec.sequences import LastN
from streams.spec.tasks import Task, TaskName
from streams.spec.topics import Topics
from streams.spec.vectors import Vectors
from streams.spec.windows import FoldPlan, compile_plan


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
    """The network, what fits another model, or an ONNX file."""
    feedback: Feedback
    """What a label is, and how late it may come."""
    inputs: Sequence[Input | LastN] = ()
    """Arrays, images, texts, sounds, sequences: the network sees them beside the features."""
    retiring: Sequence[Feature] = ()
    """Features on their way out: earlier versions get them, new ones do not learn from them."""
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
        for name, part in settled(self.predicts, self._parts).items():
            object.__setattr__(self, name, part)
        if not self.features and not self.all_inputs:
            raise PipelineError("features", "are empty", "declare at least one, or an input")
        self.cleaning.validate(self.event.schema)
        for feature in self.computed:
            if not isinstance(feature, Feature):
                raise PipelineError(
                    "features" if feature in self.features else "retiring",
                    f"{feature!r} is not a feature",
                    "use Column, Transform, OneHot, Bucket, Derived or a window aggregate",
                )
            feature.validate(self.event.schema)
        self._check_names()
        self._check_inputs()
        self._check_missing()
        check_label_rates(self.windows, self.feedback, self.candidates)
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

        known: list[str] = []
        for features in (self.features, self.retiring):  # none that stays needs one that goes
            known += [n for one in features if not isinstance(one, Derived) for n in one.names]
            for feature in features:
                if isinstance(feature, Derived):
                    feature.check_of(known)
                    known.append(feature.name)

    def _check_inputs(self) -> None:
        check_inputs(self.all_inputs, self.event.schema)
        if self.all_inputs and self.model.fit is not None:
            raise PipelineError(
                "inputs", "are for a network, and model.fit takes features", "give network=factory"
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

    @cached_property
    def training(self) -> Mapping[str, float | int | str]:
        """Training parameters that mean anything to the task, with defaults filled in."""
        every = self.model.training().items()
        return {name: value for name, value in every if self.predicts.trains_with(name)}

    @property
    def _parts(self) -> TaskParts:
        return TaskParts(self.model, self.feedback, self.decision, self.policies)

    @cached_property
    def all_inputs(self) -> tuple[Input | LastN, ...]:
        """The inputs, and the candidates as the last."""
        return (*self.inputs, *([self.candidates] if self.candidates is not None else []))

    @cached_property
    def computed(self) -> tuple[Feature, ...]:
        """All features of a vector: those that stay, then those on their way out."""
        return (*self.features, *self.retiring)

    @cached_property
    def learned(self) -> Pipeline:
        """The pipeline as new versions are to see it: without what is on its way out."""
        return replace(self, retiring=()) if self.retiring else self

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the vector's columns, in order."""
        return tuple(name for feature in self.computed for name in feature.names)

    @cached_property
    def column_meanings(self) -> dict[str, str]:
        """What each of the vector's columns means, by its name, in order."""
        return column_meanings(self.computed, self.event, self.cleaning)

    @cached_property
    def input_meanings(self) -> dict[str, str]:
        """What each input means, by its name, in order."""
        return input_meanings(self.all_inputs, self.event, self.cleaning)

    @cached_property
    def normalised(self) -> tuple[bool, ...]:
        """For each column of the vector, whether training fits statistics to scale it."""
        return tuple(bool(one.normalise) for one in self.computed for _ in one.names)

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """The window features, and the windows of inputs."""
        features = [feature for feature in self.computed if isinstance(feature, Window)]
        return (*features, *(one for seen in self._sequences for one in seen.windows))

    @cached_property
    def plan(self) -> FoldPlan:
        """What the feature state keeps and returns."""
        return compile_plan(self.event, self.windows, self.cleaning.duplicates_seconds)

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """Parts of the events whose quality is followed by itself."""
        return compile_slices(self.policies.evaluate.slices, self.feature_names)

    @cached_property
    def topics(self) -> Topics:
        """Names of the pipeline's topics."""
        return Topics(self.name)

    @cached_property
    def schema_hash(self) -> str:
        """Names what the rows mean, as a whole: records carry it."""
        return row_meaning(self.computed, self.windows, self.plan, self.cleaning, self.all_inputs)

    @cached_property
    def fields_read(self) -> frozenset[str]:
        """The event's fields that identify or date it, or that a feature names.

        A transform may read others as well; what it makes of a null is its own affair.
        """
        event = self.event
        named = [getattr(feature, "field", None) for feature in self.computed]
        keys = [window.key for window in self.windows]
        named += [one.field for one in self.all_inputs]
        return frozenset(filter(None, [event.id, event.key, event.time, *keys, *named]))

    @cached_property
    def vectors(self) -> Vectors:
        """Makes the vectors of its features."""
        return Vectors(self.computed, self.plan)

    @cached_property
    def layout(self) -> Layout:
        """What a version sees of an event: the features, and the inputs after them."""
        return Layout.of(len(self.feature_names), [one.tensor for one in self.all_inputs])

    def read_inputs(self, columns: Columns) -> tuple[dict[str, NDArray[Any]], dict[int, str]]:
        """Each input's tensors by name, [n, *shape]; by row what is wrong with events."""
        found, bad = dict[str, NDArray[Any]](), dict[int, str]()
        for one in self.all_inputs:
            if not isinstance(one, LastN):
                found[one.name], wrong = one.read(columns[one.field])
                bad |= {row: f"{one.field}: {said}" for row, said in wrong.items()}
        return found, bad

    def rows(
        self,
        stateless: Mapping[int, Block],
        inputs: Mapping[str, NDArray[Any]],
        folded: NDArray[np.float64],
    ) -> Rows:
        """What a version sees of events: of what was read of them, and a fold's [n, plan.width].

        Raises as `Vectors.of`.
        """
        before = {one.name: one.found(self.plan, folded) for one in self._sequences}
        return self.layout.rows(self.vectors.of(stateless, folded), {**inputs, **before})

    @cached_property
    def _sequences(self) -> tuple[LastN, ...]:
        return tuple(one for one in self.inputs if isinstance(one, LastN))


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
    listed = {"features": "[Column(...)]", "inputs": "[Image(...)]", "retiring": "[Column(...)]"}
    for name, like in listed.items():
        given = getattr(pipeline, name)
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise PipelineError(name, f"{given!r} is no list", f"write {like}")
