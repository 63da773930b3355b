"""A pipeline binds event, cleaning, features, model, feedback and policies; checks they fit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from streams.errors import PipelineError
from streams.spec.evaluation import Slice, compile_slices
from streams.spec.events import Cleaning, Columns, Event
from streams.spec.features import Block, Feature, LabelRate, Window
from streams.spec.feedback import Feedback
from streams.spec.fields import optional, require_default
from streams.spec.meaning import meaning
from streams.spec.model import Model
from streams.spec.policy import Decision, Policies
from streams.spec.topics import Topics
from streams.spec.windows import FoldPlan, Select, compile_plan, select


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
    """What the model sees, in this order."""
    model: Model
    """The network, what fits another model, or an ONNX file."""
    feedback: Feedback
    """What a label is, and how late it may come."""
    cleaning: Cleaning = field(default_factory=Cleaning)
    """What becomes of values that are missing or absurd, and of events that come twice."""
    decision: Decision = field(default_factory=Decision)
    """What class a score stands for."""
    policies: Policies = field(default_factory=Policies)
    """Delivery, fallback, retraining and the gate."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z][a-z0-9-]{1,60}", self.name):
            raise PipelineError(
                "name",
                f"{self.name!r} cannot name topics",
                "use lower-case letters, digits and -, starting with a letter",
            )
        _check_parts(self)
        if not self.features:
            raise PipelineError("features", "are empty", "declare at least one")
        self.cleaning.validate(self.event.schema)
        for feature in self.features:
            if not isinstance(feature, Feature):
                raise PipelineError(
                    "features",
                    f"{feature!r} is not a feature",
                    "use Column, Transform, OneHot, Bucket or a window aggregate",
                )
            feature.validate(self.event.schema)
        self._check_names()
        self._check_missing()
        self._check_labels()
        self._check_classes()
        self._check_processes()
        compile_slices(self.policies.evaluate.slices, self.feature_names)
        self.policies.evaluate.check_costs(max(2, self.model.outputs))

    def _check_classes(self) -> None:
        classes = max(2, self.model.outputs)
        named = {"decision": self.decision.classes, "feedback": self.feedback.classes}
        for part, names in named.items():
            if len(set(names)) != classes and (names or part == "decision"):
                raise PipelineError(
                    f"{part}.classes",
                    f"names {len(set(names))} of {classes}",
                    "name each class once",
                )
        decided, labelled = named.values()
        if set(decided) == set(labelled) and tuple(decided) != tuple(labelled):
            raise PipelineError(
                "feedback.classes",
                f"{labelled} are decision.classes in another order",
                "name the classes in the same order in both: by what their label is, from 0 on",
            )
        if self.decision.threshold is not None and self.model.outputs > 1:
            raise PipelineError(
                "decision.threshold",
                f"decides nothing with {self.model.outputs} classes: the best one wins",
                "leave it out",
            )
        if self.policies.rollout.gradual and not labelled:
            raise PipelineError(
                "policies.rollout",
                "compares versions by labels that are classes, and feedback.classes is empty",
                "name the classes there, or leave the policy out",
            )

    def _check_processes(self) -> None:
        if self.policies.retrain.processes > 1 and self.model.fit is not None:
            raise PipelineError(
                "policies.retrain.processes",
                f"{self.policies.retrain.processes} train a network together, and model.fit is "
                "fitted by one",
                "leave it out",
            )

    def _check_names(self) -> None:
        for name in self.feature_names:
            if not name:
                raise PipelineError(
                    "features", "a Transform has no name", 'write Transform("ratio", ratio)'
                )
            if self.feature_names.count(name) > 1:
                raise PipelineError(f"features.{name}", "is declared twice", "name one differently")

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

    def _check_labels(self) -> None:
        for window in self.windows:
            if isinstance(window, LabelRate) and window.newest < self.feedback.horizon_seconds:
                raise PipelineError(
                    f"features.{window.label}.delay",
                    f"{window.delay} is shorter than feedback.horizon",
                    "labels are not known earlier: use the horizon or more",
                )

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
        """Parts of the events whose quality is followed by itself."""
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
        text = json.dumps([self.feature_names, self.normalised, plan, stateless, cleaned])
        return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]

    @cached_property
    def fields_read(self) -> frozenset[str]:
        """The event's fields that identify or date it, or that a feature names.

        A transform may read others as well; what it makes of a null is its own affair.
        """
        event = self.event
        named = [getattr(feature, "field", None) for feature in self.features]
        keys = [window.key for window in self.windows]
        return frozenset(filter(None, [event.id, event.key, event.time, *keys, *named]))

    def no_stateless(self) -> dict[int, Block]:
        """As `stateless`, of no events."""
        return {
            i: np.empty((0, len(feature.names)))
            for i, feature in enumerate(self.features)
            if not isinstance(feature, Window)
        }

    def stateless(self, columns: Columns) -> dict[int, Block]:
        """The features that need no state, by their position: float64 [n, width] each."""
        return {
            i: feature.compute(columns)
            for i, feature in enumerate(self.features)
            if not isinstance(feature, Window)
        }

    def vectors(
        self, stateless: Mapping[int, Block], folded: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """What the model sees: float32 [n, features].

        From the features that need no state and a fold's [n, plan.width].
        """
        vectors = np.empty((len(folded), len(self.feature_names)), np.float32)
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, and is rejected
            for place, selected in self._windowed:
                vectors[:, place] = selected(folded)
            for i, block in stateless.items():
                vectors[:, self._places[i]] = block
        return vectors

    @cached_property
    def _places(self) -> tuple[slice, ...]:
        """Each feature's columns of the vector."""
        bounds = accumulate((len(feature.names) for feature in self.features), initial=0)
        return tuple(slice(*pair) for pair in pairwise(bounds))

    @cached_property
    def _windowed(self) -> tuple[tuple[int, Select], ...]:
        """Each window feature's column, and how it is read from a fold."""
        return tuple(
            (place.start, select(self.plan, feature))
            for place, feature in zip(self._places, self.features, strict=True)
            if isinstance(feature, Window)
        )


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
    if isinstance(pipeline.features, str) or not isinstance(pipeline.features, Sequence):
        raise PipelineError("features", f"{pipeline.features!r} is no list", "write [Column(...)]")
