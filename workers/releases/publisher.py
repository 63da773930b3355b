"""Publishing a version: into the repository, into Triton, checked, and only then in the ledger.

Nothing here overwrites a version or unloads one that serves: Triton keeps the earlier versions
answering until the new one is ready.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial

import msgspec
import structlog

from streams.adapters.triton.client import NotServing
from streams.adapters.triton.control import TritonControls
from streams.adapters.triton.repository import MODEL, require_unchanged
from streams.adapters.triton.resolving import PerTriton
from streams.adapters.triton.scorer import TritonScorer
from streams.errors import ModelError, Unavailable
from streams.ledger.state import LedgerState
from streams.ports.models import Scorer
from streams.records import Manifest, encode
from streams.settings import Settings
from streams.spec import Pipeline
from workers.releases.checking import check_answers
from workers.releases.configuration import Configuration, Control
from workers.releases.manifests import model_card
from workers.releases.onnx_files import check_signature
from workers.releases.repository import CARD, MANIFEST, Repository, digest

log = structlog.get_logger(__name__)

_READY_POLLS = 100


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
        self.configuration = Configuration(settings, pipeline)
        self.control = control or TritonControls(settings, pipeline.name)
        outputs = pipeline.model.outputs
        self._scorers = PerTriton(
            settings, lambda one: scorer or TritonScorer(one, pipeline.name, outputs)
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
        check_signature(data, self._pipeline.layout, self._pipeline.model.outputs)
        if digest(data) != manifest.model_sha256:
            raise ModelError(f"version {manifest.version} is not the model that its manifest names")
        files = {
            MODEL: data,
            MANIFEST: msgspec.json.format(encode(manifest)),
            CARD: model_card(manifest, decision, self._pipeline.predicts).encode(),
        }
        self.repository.add(manifest.version, files)

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
        before, loaded = self.repository.config(), self.repository.configured()
        check = partial(self._check, version, manifest, data)
        try:
            await self._load(version, beside)
            await (self._check_or_reload(version, beside, check) if version in loaded else check())
        except (ModelError, NotServing) as error:
            await self._back_to(before)
            raise ModelError(f"version {version} does not serve: {error}") from None
        except BaseException:
            self.repository.write_config(before)
            raise
        log.info("version is ready", pipeline=self._pipeline.name, version=version, beside=beside)

    async def _load(self, version: int, beside: Iterable[int]) -> None:
        self.repository.write_config(self._config({version, *beside}))
        await self.control.load()
        await self._wait_until_ready(version)

    async def _serve_only(self, versions: set[int]) -> None:
        self.repository.write_config(self._config(versions) if versions else None)
        await (self.control.load() if versions else self.control.unload())

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
            await self._serve_only(set(beside) - {version})  # the others answer meanwhile
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
        if manifest.schema_hash != self._pipeline.schema_hash:
            raise ModelError(
                f"it takes other features (schema {manifest.schema_hash}, not "
                f"{self._pipeline.schema_hash}): the fallback serves until a version is trained on "
                "the new ones, once enough of their examples have matured"
            )
        data = self.repository.model(champion, manifest.model_sha256)
        wanted = serving.kept(self._pipeline.policies.keep_versions)
        config = self._config({champion, *self._sound(wanted, serving.versions)})
        if self.repository.config() != config and champion not in self.repository.configured():
            self.repository.write_config(config)
        if not await self.control.ready(champion):
            log.warning("champion is not loaded, loading", version=champion)
            await self.control.load()
            await self._wait_until_ready(champion)
        await self._check(champion, manifest, data)

    async def leave_out_others(self, serving: LedgerState) -> None:
        """Serve only what is kept: a version that was taken back is unloaded.

        Raises:
            ModelError: the others do not load.
            Unavailable: Triton is away; it does not load them when it is back.
        """
        wanted = serving.kept(self._pipeline.policies.keep_versions)
        await self._serve_only(set(self._sound(wanted, serving.versions)))

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
        if sound == configured and self.repository.config() in (None, self._config({*sound})):
            return []
        await self._serve_only(set(sound))
        return [version for version in configured if version not in sound]

    def _unchanged(self, version: int, serving: LedgerState) -> bool:
        manifest = serving.versions.get(version)
        try:
            self.repository.model(version, manifest.model_sha256 if manifest else "unknown")
        except ModelError:
            return False
        return True

    def _config(self, versions: set[int]) -> str:
        return self.configuration.text(versions, self.repository.config())

    @property
    def instances(self) -> int:
        """How many instances of each version Triton runs."""
        return self.configuration.instances(self.repository.config())

    async def resize(self, instances: int, known: Mapping[int, Manifest]) -> None:
        """Run so many instances of each version; those that stay answer meanwhile.

        `known` are the versions that the ledger names. Where as many are configured, Tritons that
        do not run them yet are told again.

        To be called while no other publisher is at work (`alone`).

        Raises:
            ModelError: they do not start, or a version was changed; as many run as before.
            Unavailable: Triton is away; it reads the configuration when it is back.
        """
        before, versions = self.repository.config(), self.repository.configured()
        if not versions:
            return
        await asyncio.to_thread(require_unchanged, self.repository.home, known)
        text = self.configuration.text(versions, before, instances)
        if text != before:
            self.repository.write_config(text)
        try:
            await self.control.load()
        except ModelError:
            await self._back_to(before)
            raise

    def _sound(self, versions: list[int], manifests: Mapping[int, Manifest]) -> list[int]:
        """Those that are as they were published, and take this pipeline's features."""
        found = []
        for version in versions:
            try:
                manifest = manifests.get(version) or self.repository.manifest(version)
                self.repository.model(version, manifest.model_sha256)
            except ModelError as error:
                log.error("version left out", version=version, error=str(error))
                continue
            if manifest.schema_hash == self._pipeline.schema_hash:
                found.append(version)
        return found

    async def _wait_until_ready(self, version: int) -> None:
        for _ in range(_READY_POLLS):
            if await self.control.ready(version):
                return
            await asyncio.sleep(0.1)
        raise ModelError("Triton does not make it ready - see Triton's log")

    async def _check(self, version: int, manifest: Manifest, data: bytes) -> None:
        scorers = await self._scorers.now()
        await check_answers(self._pipeline, scorers, version, manifest, data)

    async def _back_to(self, config: str | None) -> None:
        """Serve what served before."""
        self.repository.write_config(config)
        with suppress(Unavailable):  # Triton reads the configuration when it is back
            if config is None:
                await self.control.unload()
            else:
                await self.control.load()
