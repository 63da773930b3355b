"""What can happen to a version: released by the gate, promoted or rolled back by an operator.

A promotion is recorded only after Triton answers with the version; scoring workers follow the
record. Publishers of one pipeline take turns.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import msgspec
import structlog

from streams.errors import ConfigurationError, ModelError
from streams.ledger.state import LedgerState, Stage, state_after
from streams.ledger.topic import new_entry, read_entries, read_state
from streams.records import Action, LedgerEntry, Manifest
from streams.settings import Settings
from streams.spec import Pipeline
from streams.versions import lacks
from workers.releases.candidate import Judged
from workers.releases.manifests import blank
from workers.releases.onnx_files import read_onnx
from workers.releases.publisher import Publisher
from workers.releases.repository import digest
from workers.releases.steps import Steps

log = structlog.get_logger(__name__)

_BEFORE_CHAMPION = (Stage.CANDIDATE, Stage.SHADOW, Stage.CANARY)


class Lifecycle:
    """The actions on one pipeline's versions."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self.publisher = Publisher(settings, pipeline)
        self.steps = Steps(settings, pipeline, self.publisher)

    async def close(self) -> None:
        """Release connections."""
        await self.publisher.close()

    async def release(
        self, judged: Judged, *, by: Literal["gate", "operator"] = "gate"
    ) -> LedgerEntry:
        """Do what was judged: publish and promote, or keep the version aside; and record it.

        A version that turns out not to serve is rejected.

        Raises:
            Unavailable: Kafka or Triton is away; nothing has changed.
        """
        async with self.publisher.alone():
            now = await read_state(self._settings, self._pipeline)
            judged = self._by_degrees(judged, now)
            version = self.publisher.next_version(now)
            model = self.publisher.loading.model_for(judged.manifest)
            manifest = msgspec.structs.replace(judged.manifest, version=version, model=model)
            decided = new_entry(judged.action, manifest, now, judged.reason, by=by)
            self.publisher.repository.sweep()
            try:
                said = f"The {by} said {judged.action}: {judged.reason}."
                self.publisher.stage(manifest, judged.onnx, said)
                if judged.action is Action.PROMOTE:
                    await self.publisher.serve(version, now)
            except ModelError as error:
                self.publisher.repository.remove(version)
                decided = new_entry(Action.REJECT, manifest, now, str(error), by=by)
            except BaseException:
                self.publisher.repository.remove(version)
                raise
            await self.steps.record(decided)
        return decided

    def _by_degrees(self, judged: Judged, now: LedgerState) -> Judged:
        """What would be promoted is a candidate, where the policy is to roll it out by degrees.

        It is compared with whoever is champion then. Where it would serve at once, the verdict
        holds for the champion that it is about.
        """
        if judged.action is not Action.PROMOTE:
            return judged
        if self._pipeline.policies.rollout.gradual and now.champion:
            return dataclasses.replace(judged, action=Action.CANDIDATE)
        return _still_valid(judged, now)

    async def promote(self, version: int, reason: str, *, force: bool = False) -> LedgerEntry:
        """Make a version champion; one that the gate did not promote only by force.

        Raises:
            ConfigurationError: there is no such version, it serves already, it takes other
                features, or the gate did not promote it and `force` is not given.
            ModelError: it does not serve; the champion stays.
            Unavailable: Kafka or Triton is away.
        """
        async with self.publisher.alone():
            entries = await read_entries(self._settings, self._pipeline)
            now = state_after(entries)
            manifest = self._known(version, now)
            verdict = next((e for e in reversed(entries) if e.version == version), None)
            if version not in now.promoted:
                said = f"{verdict.action}: {verdict.reason}" if verdict else "nothing"
                if not force:
                    raise ConfigurationError(
                        f"version {version} was never promoted, the gate said {said} - to promote "
                        "it anyway, give --force and --reason"
                    )
                reason = f"forced: {reason} (the gate said {said})"
            return await self._make_champion(Action.PROMOTE, manifest, now, reason)

    async def rollback(self, to: int | None, reason: str) -> LedgerEntry:
        """Take back the version that is on its way, else go back to an earlier champion.

        That is `to`, or the last with a lower number. While a version is in the shadow or serves a
        share, the champion serves the others: it goes on, and serves all.

        Raises:
            ConfigurationError: there is none, or `to` was never champion.
            ModelError: it does not serve; the champion stays.
            Unavailable: Kafka or Triton is away.
        """
        async with self.publisher.alone():
            now = await read_state(self._settings, self._pipeline)
            if to is None and now.stage in _BEFORE_CHAMPION:
                return await self.steps.take_back(now, reason)
            version = to or rollback_target(now)
            if version not in now.promoted:
                listed = ", ".join(map(str, sorted(now.promoted)))
                raise ConfigurationError(
                    f"version {version} was never champion - roll back to one of {listed}, or "
                    f"`driftloop promote {version}`"
                )
            if version in now.rolled_back:
                raise ConfigurationError(
                    f"version {version} was itself rolled back - to make it serve all the same, "
                    f"`driftloop promote {version}`"
                )
            return await self._make_champion(
                Action.ROLLBACK, self._known(version, now), now, reason
            )

    async def publish_file(self) -> LedgerEntry | None:
        """Publish the ONNX file that the pipeline brings, as it is; None where it was before.

        It serves then, or an operator has gone back to another: that is not undone by a restart.

        Raises:
            ModelError: the file cannot be read.
            Unavailable: Kafka or Triton is away.
        """
        assert self._pipeline.model.onnx is not None
        data = read_onnx(self._pipeline.model.onnx)
        now = await read_state(self._settings, self._pipeline)
        sha256 = digest(data)
        ours = {v for v, one in now.versions.items() if one.model_sha256 == sha256}
        known = [v for v in now.promoted if v in ours]
        if known:
            if now.champion not in known:
                log.warning(
                    "the pipeline's ONNX file was published before and does not serve - "
                    "`driftloop promote` makes it serve",
                    version=known[-1],
                    champion=now.champion,
                )
            return None
        manifest = msgspec.structs.replace(
            blank(self._pipeline), parent=now.champion, model_sha256=sha256
        )
        reason = f"the pipeline's own ONNX file {self._pipeline.model.onnx.name}, published as is"
        return await self.release(Judged(manifest, data, Action.PROMOTE, reason), by="operator")

    async def _make_champion(
        self, action: Action, manifest: Manifest, now: LedgerState, reason: str
    ) -> LedgerEntry:
        await self.publisher.serve(manifest.version, now)
        decided = new_entry(action, manifest, now, reason, by="operator")
        await self.steps.record(decided)
        return decided

    def _known(self, version: int, now: LedgerState) -> Manifest:
        """The manifest of a version that could be promoted."""
        on_disk = self.publisher.repository.versions()
        if version not in on_disk:
            listed = ", ".join(map(str, on_disk)) or "none"
            raise ConfigurationError(
                f"no version {version} in {self.publisher.repository.home} - there are: {listed}"
            )
        if version == now.champion:
            raise ConfigurationError(f"version {version} is the champion already")
        manifest = now.versions.get(version) or self.publisher.repository.manifest(version)
        if lacking := lacks(self._pipeline, manifest):
            raise ConfigurationError(
                f"version {version} was trained on other features than {self._pipeline.name} "
                f"makes now ({', '.join(lacking)}) - bring them back, or train anew"
            )
        return manifest


def rollback_target(now: LedgerState) -> int:
    """The last earlier champion with a lower number that was not rolled back itself.

    Raises:
        ConfigurationError: there is none.
    """
    lower = [v for v in now.promoted if v < now.champion and v not in now.rolled_back]
    if not lower:
        raise ConfigurationError(
            "there is no earlier version to roll back to - see `driftloop models list`"
        )
    return max(lower)


def _still_valid(judged: Judged, now: LedgerState) -> Judged:
    """The verdict, unless the champion it was about has changed meanwhile."""
    if judged.action is not Action.PROMOTE or now.champion == judged.manifest.parent:
        return judged
    reason = (
        f"the champion changed from {judged.manifest.parent} to {now.champion} while the candidate "
        f"was judged ({judged.reason})"
    )
    return Judged(judged.manifest, judged.onnx, Action.INCONCLUSIVE, reason)
