"""Publishing a version: into the repository, into Triton, checked, and only then in the ledger.

Nothing here overwrites a version or unloads one that serves: Triton keeps the earlier versions
answering until the new one is ready.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import structlog

from streams.adapters.triton.client import NotServing
from streams.adapters.triton.control import TritonControls
from streams.adapters.triton.repository import MODEL
from streams.adapters.triton.resolving import PerTriton
from streams.adapters.triton.scorer import TritonScorer
from streams.errors import ModelError
from streams.ledger.state import LedgerState
from streams.ports.models import Scorer
from streams.records import Manifest, encode
from streams.settings import Settings
from streams.spec import Pipeline
from streams.versions import fits, lacks, pick
from workers.releases.checking import check_answers
from workers.releases.configuration import Control
from workers.releases.loading import Loading
from workers.releases.manifests import model_card
from workers.releases.onnx_files import check_signature
from workers.releases.repository import CARD, MANIFEST, Repository, digest

log = structlog.get_logger(__name__)


class Publisher:
    """Publishes one pipeline's versions."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        control: Control | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self.repository = Repository(settings.model_repository, pipeline.name)
        self.control = control or TritonControls(settings, pipeline.name)
        self.loading = Loading(settings, pipeline, self.repository, self.control)
        outputs, picks = pipeline.model.outputs, self.loading.picks
        self._scorers = PerTriton(
            settings, lambda one: scorer or TritonScorer(one, pipeline.name, outputs, picks)
        )

    async def close(self) -> None:
        """Release the connections to Triton."""
        await self._scorers.close()
        await self.control.close()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Hold off other publishers of this pipeline that share the repository.

        Raises:
            ConfigurationError: the repository cannot be written.
        """
        with self.repository.lock_file() as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await asyncio.sleep(0.1)
            yield

    def next_version(self, serving: LedgerState) -> int:
        """A number above every one ever used, on disk or in the ledger."""
        return max([0, *self.repository.versions(), *serving.versions, *serving.promoted]) + 1

    def stage(self, manifest: Manifest, data: bytes, decision: str) -> None:
        """Put a version into the repository; it does not serve yet.

        Raises:
            ModelError: it does not have the pipeline's signature, or the version exists.
            ConfigurationError: the repository cannot be written.
        """
        taken = pick(self._pipeline, manifest).layout
        check_signature(data, taken, self._pipeline.model.outputs)
        if digest(data) != manifest.model_sha256:
            raise ModelError(f"version {manifest.version} is not the model that its manifest names")
        files = {
            MODEL: data,
            MANIFEST: msgspec.json.format(encode(manifest)),
            CARD: model_card(manifest, decision, self._pipeline.predicts).encode(),
        }
        self.repository.add(manifest.version, files, manifest.model)

    async def serve(self, version: int, serving: LedgerState) -> None:
        """Make Triton serve a version of the repository beside those that serve now.

        Raises:
            ModelError: it was changed, does not load, or answers wrongly. It does not serve then,
                and the others do as before.
            Unavailable: Triton is away.
        """
        manifest = serving.versions.get(version) or self.repository.manifest(version)
        data = self.repository.model(version, manifest.model_sha256)
        beside = self._sound(serving.kept(self._pipeline.policies.keep_versions), serving.versions)
        before, loaded = self.repository.configs(), self.repository.configured()
        check = partial(self._check, version, manifest, data)
        try:
            await self._load(version, beside)
            await (self._check_or_reload(version, beside, check) if version in loaded else check())
        except (ModelError, NotServing) as error:
            await self.loading.back_to(before)
            raise ModelError(f"version {version} does not serve: {error}") from None
        except BaseException:
            self.loading.restore_files(before)
            raise
        log.info("version is ready", pipeline=self._pipeline.name, version=version, beside=beside)

    async def _load(self, version: int, beside: Iterable[int]) -> None:
        await self.loading.serve_only({version, *beside}, version)
        await self.loading.wait_until_ready(version)

    async def _check_or_reload(
        self, version: int, beside: Iterable[int], check: Callable[[], Awaitable[None]]
    ) -> None:
        """Check; a version whose process has died is unloaded first: Triton starts none again."""
        try:
            await check()
        except NotServing as lost:
            if not lost.died:
                raise
            log.warning("a model's process died, loading it again", version=version)
            await self.loading.serve_only(set(beside) - {version})  # the others answer meanwhile
            await self._load(version, beside)
            await check()

    async def ensure_loaded(self, serving: LedgerState) -> None:
        """Make Triton serve what the ledger says; does nothing where it does.

        Raises:
            ModelError: the champion is missing, was changed, or does not load.
            Unavailable: Triton is away.
        """
        champion = serving.champion
        if champion == 0:
            return
        manifest = serving.versions.get(champion) or self.repository.manifest(champion)
        if lacking := lacks(self._pipeline, manifest):
            raise ModelError(
                f"it takes other features ({', '.join(lacking)}): the fallback serves "
                "until a version is trained on the new ones, once enough of their examples "
                "have matured"
            )
        data = self.repository.model(champion, manifest.model_sha256)
        if champion not in self.repository.configured():
            wanted = serving.kept(self._pipeline.policies.keep_versions)
            self.loading.configure({champion, *self._sound(wanted, serving.versions)})
        if not await self.loading.ready(champion):
            log.warning("champion is not loaded, loading", version=champion)
            await self.loading.load(champion)
            await self.loading.wait_until_ready(champion)
        await self._check(champion, manifest, data)

    async def leave_out_others(self, serving: LedgerState) -> None:
        """Serve only what is kept: a version that was taken back is unloaded.

        Raises:
            ModelError: the others do not load.
            Unavailable: Triton is away; it does not load them when it is back.
        """
        wanted = serving.kept(self._pipeline.policies.keep_versions)
        await self.loading.serve_only(self._sound(wanted, serving.versions))

    async def withdraw_changed(self, serving: LedgerState) -> list[int]:
        """Serve no version whose files are not those that the ledger names; returns such versions.

        A configuration that is not ours is written anew: it would run anything.

        To be called while no other publisher is at work (`alone`).

        Raises:
            ModelError: the others do not load.
            Unavailable: Triton is away; it does not load them when it is back.
        """
        configured = self.repository.configured()
        sound = [version for version in configured if self._unchanged(version, serving)]
        if sound == configured and self.repository.configs() == self.loading.texts(sound):
            return []
        await self.loading.serve_only(sound)
        return [version for version in configured if version not in sound]

    def _unchanged(self, version: int, serving: LedgerState) -> bool:
        manifest = serving.versions.get(version)
        try:
            self.repository.model(version, manifest.model_sha256 if manifest else "unknown")
        except ModelError:
            return False
        return True

    @property
    def instances(self) -> int:
        """How many instances of each version Triton runs."""
        return self.loading.instances

    async def resize(self, instances: int, known: Mapping[int, Manifest]) -> None:
        """Run so many instances of each version; those that stay answer meanwhile.

        `known` are the versions that the ledger names. Where as many are configured, Tritons that
        do not run them yet are told again.

        To be called while no other publisher is at work (`alone`).

        Raises:
            ModelError: they do not start, or a version was changed; as many run as before.
            Unavailable: Triton is away; it reads the configuration when it is back.
        """
        await self.loading.resize(instances, known)

    def _sound(self, versions: list[int], manifests: Mapping[int, Manifest]) -> list[int]:
        """Those that are as they were published, and take what this pipeline makes."""
        found = []
        for version in versions:
            try:
                manifest = manifests.get(version) or self.repository.manifest(version)
                self.repository.model(version, manifest.model_sha256)
            except ModelError as error:
                log.error("version left out", version=version, error=str(error))
                continue
            if fits(self._pipeline, manifest):
                found.append(version)
        return found

    async def _check(self, version: int, manifest: Manifest, data: bytes) -> None:
        scorers = await self._scorers.now()
        await check_answers(self._pipeline, scorers, version, manifest, data)
