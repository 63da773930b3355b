"""Loading and unloading models in a Triton that runs in EXPLICIT mode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

import structlog
from tritonclient.utils import InferenceServerException

from streams.adapters.triton.client import (
    SETTING,
    LazyClient,
    NotServing,
    explained,
    ready_versions,
)
from streams.adapters.triton.reaching import why
from streams.adapters.triton.repository import require_unchanged
from streams.adapters.triton.resolving import PerTriton
from streams.errors import ModelError, Unavailable
from streams.records import Manifest
from streams.settings import Settings
from streams.versions import is_model_of, model_of

log = structlog.get_logger(__name__)

T = TypeVar("T")

LOAD_TIMEOUT = 120.0
"""Seconds that Triton may take to load a model."""
_FIRST = 1.0
"""Seconds that a connection may take, where it is asked whether anybody is there."""
_RESTORE_PAUSE = 1.0
"""Least seconds between two attempts to bring a model back."""


class TritonControl:
    """What a pipeline's models serve in Triton; their `config.pbtxt` name the versions.

    Most pipelines have one model, which has the pipeline's name; one whose features have changed
    has others besides, as the manifests say.
    """

    def __init__(
        self, settings: Settings, name: str, known: Callable[[], Mapping[int, Manifest]] = dict
    ) -> None:
        """`known` are the versions that the ledger names: what is restored is held against them."""
        self._settings = settings
        self._name = name
        self._known = known
        self._connection = LazyClient(settings)
        self._restoring = asyncio.Lock()
        self._restored_at = -_RESTORE_PAUSE

    async def alive(self) -> None:
        """Return when Triton answers.

        Raises:
            Unavailable: nobody listens there; `NotAnswering` where another does.
            ConfigurationError: its certificate is not accepted, or it speaks TLS and we do not.
        """
        timeout = self._settings.triton_timeout
        try:
            await self._call(self._client.is_server_live(client_timeout=timeout))
        except (Unavailable, ModelError) as error:
            raise (await why(self._settings) or error) from None

    async def load(self, model: str = "") -> None:
        """Make Triton serve the versions that a model's `config.pbtxt` names; the others go.

        Without a name it is the pipeline's first.

        Versions that were loaded keep answering until the new ones are ready. With nothing changed
        on disk it changes nothing.

        Raises:
            ModelError: a version does not load; those loaded before keep serving.
            Unavailable: Triton is away.
        """
        loaded = self._client.load_model(model or self._name, client_timeout=LOAD_TIMEOUT)
        await self._call(loaded)

    async def unload(self, model: str = "") -> None:
        """Stop serving a model. Raises `Unavailable`."""
        unloaded = self._client.unload_model(model or self._name, client_timeout=LOAD_TIMEOUT)
        await self._call(unloaded)

    async def ready(self, version: int, model: str = "") -> bool:
        """Whether Triton says that a model's version is ready. Raises `Unavailable`.

        A version whose backend process has died still counts as ready: only a request tells.
        """
        try:
            found = await self._call(
                self._client.is_model_ready(
                    model or self._name, str(version), client_timeout=self._settings.triton_timeout
                )
            )
        except (NotServing, ModelError):
            return False
        return bool(found)

    async def versions(self) -> dict[int, str]:
        """The pipeline's versions that are ready, ascending, and the model of each."""
        found = await self._call(ready_versions(self._client, self._settings.triton_timeout))
        ours = [(version, model) for model, version in found if is_model_of(self._name, model)]
        return dict(sorted(ours))

    async def restore(self, version: int, *, died: bool = False) -> None:
        """Bring back what Triton lost: after its restart nothing is loaded, in EXPLICIT mode.

        Callers that come at the same time share one attempt. A model whose backend process has
        died is unloaded first: Triton does not start it again.

        Raises:
            ModelError: a version does not load, or is not what was published.
            Unavailable: Triton is away.
        """
        async with self._restoring:
            if time.monotonic() - self._restored_at < _RESTORE_PAUSE:
                return
            model = self._model(version)
            if not died and await self.ready(version, model):
                return
            try:
                await self._require_unchanged(model)
                if died:
                    log.warning("a model's process died, loading it again", version=version)
                    await self.unload(model)
                else:
                    log.warning("Triton has lost the model, loading it again", version=version)
                await self.load(model)
            finally:
                self._restored_at = time.monotonic()

    async def catch_up(self, versions: Iterable[int]) -> None:
        """Have Triton serve what the models of these versions are configured to, whatever it has.

        Raises:
            ModelError: a version does not load, or is not what was published.
            Unavailable: Triton is away.
        """
        async with self._restoring:
            for model in sorted({self._model(version) for version in versions}):
                await self._require_unchanged(model)
                await self.load(model)

    async def require(self, version: int) -> None:
        """Return where the version is ready. Raises `NotServing`, `Unavailable`."""
        if not await self.ready(version, model := self._model(version)):
            raise NotServing(self._settings, f"{model} version {version}", "not loaded")

    def _model(self, version: int) -> str:
        return model_of(self._name, self._known().get(version))

    async def _require_unchanged(self, model: str) -> None:
        home = self._settings.model_repository / model
        await asyncio.to_thread(require_unchanged, home, self._known())

    async def close(self) -> None:
        """Release the connection."""
        await self._connection.close()

    @property
    def _client(self) -> Any:
        return self._connection.get()

    async def _call(self, request: Awaitable[T]) -> T:
        try:
            return await request
        except InferenceServerException as error:
            raise explained(error, self._settings, self._name) from None


class TritonControls:
    """Loading and unloading on every Triton that the settings name now: on all, or an error."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._controls = PerTriton(settings, lambda one: TritonControl(one, name))

    async def alive(self) -> None:
        """Return when all answer. Raises `Unavailable`, naming one that does not."""
        await _all(control.alive() for control in await self._named())

    async def any_alive(self) -> None:
        """Return when one answers. Raises `Unavailable`, naming one that does not."""
        calls = (control.alive() for control in await self._named())
        found = await asyncio.gather(*calls, return_exceptions=True)
        errors = [error for error in found if error is not None]
        if len(errors) == len(found):
            raise errors[0]

    async def load(self, model: str = "") -> None:
        """Load a model everywhere. Raises `ModelError`, `Unavailable`."""
        await _all(control.load(model) for control in await self._named(afresh=True))

    async def unload(self, model: str = "") -> None:
        """Unload a model everywhere. Raises `Unavailable`."""
        await _all(control.unload(model) for control in await self._named())

    async def unload_all(self) -> None:
        """Unload whatever model of the pipeline a Triton serves. Raises `Unavailable`."""
        for control in await self._named():
            for model in {*(await control.versions()).values(), self._name}:
                await control.unload(model)

    async def ready(self, version: int, model: str = "") -> bool:
        """Whether a model's version is ready everywhere. Raises `Unavailable`."""
        return all(await _all(control.ready(version, model) for control in await self._named()))

    async def close(self) -> None:
        """Release the connections."""
        await self._controls.close()

    async def _named(self, *, afresh: bool = False) -> list[TritonControl]:
        """Those that are named now. Raises `Unavailable`: a name leads to none."""
        found = await self._controls.now(afresh=afresh)
        if not found:
            raise Unavailable("Triton", self._settings.triton, SETTING, "its name leads nowhere")
        return found


async def _all(calls: Iterable[Awaitable[T]]) -> list[T]:
    """The results, once all have ended: a call that still runs would mix with those that follow."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    results = []
    for result in found:
        if isinstance(result, BaseException):
            raise result
        results.append(result)
    return results
