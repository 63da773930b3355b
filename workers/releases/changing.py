"""What a change of a pipeline's file does, held against what serves: pure, for `driftloop diff`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streams.ledger.state import LedgerState
from streams.records import Manifest
from streams.spec import Pipeline
from streams.spec.durations import text
from streams.versions import earlier_rows, lacks, named


@dataclass(frozen=True)
class FeatureChange:
    """How what new versions learn from differs from what the champion learnt from."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """Those of an equal name that are computed, or cleaned, in another way."""

    @property
    def any(self) -> bool:
        """Whether there is a difference."""
        return bool(self.added or self.removed or self.changed)

    @staticmethod
    def of(before: Mapping[str, str], after: Mapping[str, str]) -> FeatureChange:
        """From meanings by name; an empty meaning, of an older manifest, equals any."""
        both = [name for name in before if name in after]
        return FeatureChange(
            [name for name in after if name not in before],
            [name for name in before if name not in after],
            [name for name in both if before[name] and before[name] != after[name]],
        )


@dataclass(frozen=True)
class Change:
    """A pipeline's file beside what the ledger says."""

    pipeline: str
    champion: int
    """0 while no version serves."""
    serves: dict[int, list[str]]
    """By live version what it lacks of what the file makes; a version that lacks nothing serves."""
    features: FeatureChange
    retiring: dict[str, list[int]]
    """By feature on its way out the live versions that need it; it may go where none does."""
    learns_from_earlier: bool
    """Whether new versions learn from what was logged before the change, too."""
    another_schema: bool
    """Whether rows are logged under another schema than those that the champion was made from."""
    parameters: dict[str, list[str]]
    """Of training, by name: what the champion was trained with, and what the file says."""
    policies: dict[str, list[str]]
    """By name: what they were when the champion was made, and what the file says."""

    @property
    def falls_back(self) -> bool:
        """Whether events would be served the fallback, as the champion cannot be asked."""
        return bool(self.champion and self.serves[self.champion])

    @staticmethod
    def of(pipeline: Pipeline, now: LedgerState) -> Change:
        """What the file's pipeline changes."""
        manifest = now.manifest
        live = {one for one in (*now.kept(pipeline.policies.keep_versions), now.challenger) if one}
        known = {one: now.versions[one] for one in sorted(live) if one in now.versions}
        learned = pipeline.learned
        return Change(
            pipeline=pipeline.name,
            champion=now.champion,
            serves={one: lacks(pipeline, made) for one, made in known.items()},
            features=FeatureChange()
            if manifest is None
            else FeatureChange.of(
                _meanings(manifest), {**learned.column_meanings, **learned.input_meanings}
            ),
            retiring={
                name: [one for one, made in known.items() if name in _meanings(made)]
                for feature in pipeline.retiring
                for name in feature.names
            },
            learns_from_earlier=manifest is not None and bool(earlier_rows(pipeline, [manifest])),
            another_schema=manifest is not None and manifest.schema_hash != pipeline.schema_hash,
            parameters={}
            if manifest is None or not manifest.parameters
            else _differences(manifest.parameters, pipeline.model.training()),
            policies={}
            if manifest is None or not manifest.policies
            else _differences(manifest.policies, pipeline.policies.said()),
        )

    def lines(self, pipeline: Pipeline) -> list[str]:
        """What it does, for people; the first line is what matters most."""
        if not self.champion:
            return ["no version serves yet: the fallback does, until the first one is made"]
        return [*self._served(), *self._learned(pipeline), *self._retired(), *self._settings()]

    def _served(self) -> list[str]:
        found = []
        for version, lacking in self.serves.items():
            role = "the champion" if version == self.champion else "kept"
            if not lacking:
                found.append(f"version {version} ({role}) goes on serving: it finds all it takes")
            elif version != self.champion:
                found.append(
                    f"version {version} ({role}) cannot serve any more: it lacks "
                    f"{', '.join(lacking)}"
                )
            else:
                found.insert(
                    0,
                    f"EVERY EVENT WOULD BE SERVED THE FALLBACK: version {version} (the champion) "
                    f"lacks {', '.join(lacking)} - move what you take out to `retiring`, give what "
                    "you change a new name beside the old one, and take the old out once a version "
                    "serves that does not need it",
                )
        return found

    def _learned(self, pipeline: Pipeline) -> list[str]:
        if not self.features.any:
            return ["new versions learn from the same features as the champion"]
        found = [
            f"{what}: {', '.join(names)}"
            for what, names in (
                ("added", self.features.added),
                ("removed", self.features.removed),
                ("computed or cleaned differently", self.features.changed),
            )
            if names
        ]
        if not self.another_schema or self.learns_from_earlier:
            return [*found, "a new version learns from the examples that are there, too"]
        retrain, horizon = pipeline.policies.retrain, pipeline.feedback.horizon
        wanted = retrain.validate_seconds + retrain.evaluate_seconds
        return [
            *found,
            f"a new version learns only from events that come after the change: "
            f"{retrain.least_examples:,} of them, over {text(wanted)} at least, whose labels have "
            f"matured ({horizon}); the champion serves until it passes the gate",
        ]

    def _retired(self) -> list[str]:
        return [
            f"{name} is retiring: "
            + (f"needed by {_listed(needs)}" if needs else "no version needs it, you may delete it")
            for name, needs in self.retiring.items()
        ]

    def _settings(self) -> list[str]:
        found = {**{f"model.{name}": v for name, v in self.parameters.items()}, **self.policies}
        return [f"{name}: {before} -> {after}" for name, (before, after) in found.items()]


def _meanings(manifest: Manifest) -> dict[str, str]:
    """What a version's features and inputs mean; empty texts where its manifest does not say."""
    if named(manifest):
        return {**manifest.columns, **manifest.inputs}
    return dict.fromkeys(manifest.feature_names, "")


def _differences(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, list[str]]:
    names = [name for name in after if name in before and before[name] != after[name]]
    return {name: [str(before[name]), str(after[name])] for name in names}


def _listed(versions: Sequence[int]) -> str:
    return f"version{'s' * (len(versions) > 1)} {', '.join(map(str, versions))}"
