"""Loading and unloading models in a Triton that runs in EXPLICIT mode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

import structlog
from tritonclient.utils import InferenceServerException

from streams.adapters.triton.client import SETTING, LazyClient, NotServing, explained
from streams.adapters.triton.reaching import why
from streams.adapters.triton.repository import require_unchanged
from streams.adapters.triton.resolving import PerTriton
from streams.errors import ModelError, Unavailable
from streams.records import Manifest
from streams.settings import Settings

log = structlog.get_logger(__name__)

T = TypeVar("T")

LOAD_TIMEOUT = 120.0
"""Seconds that Triton may take to load a model."""
_FIRST = 1.0
"""Seconds that a connection may take, where it is asked whether anybody is there."""
_RESTORE_PAUSE = 1.0
"""Least seconds between two attempts to bring a model back."""


class TritonControl:
    """What one model (a pipeline) serves in Triton; its `config.pbtxt` names the versions."""

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

    async def load(self) -> None:
        """Make Triton serve the versions that `config.pbtxt` names; the others go.

        Versions that were loaded keep answering until the new ones are ready. With nothing changed
        on disk it changes nothing.

        Raises:
            ModelError: a version does not load; those loaded before keep serving.
            Unavailable: Triton is away.
        """
        await self._call(self._client.load_model(self._name, client_timeout=LOAD_TIMEOUT))

    async def unload(self) -> None:
        """Stop serving the model. Raises `Unavailable`."""
        await self._call(self._client.unload_model(self._name, client_timeout=LOAD_TIMEOUT))

    async def ready(self, version: int) -> bool:
        """Whether Triton says that the version is ready. Raises `Unavailable`.

        A version whose backend process has died still counts as ready: only a request tells.
        """
        try:
            found = await self._call(
                self._client.is_model_ready(
                    self._name, str(version), client_timeout=self._settings.triton_timeout
                )
            )
        except (NotServing, ModelError):
            return False
        return bool(found)

    async def versions(self) -> list[int]:
        """The versions that are ready, ascending; none where the model is not loaded."""
        index = await self._call(
            self._client.get_model_repository_index(client_timeout=self._settings.triton_timeout)
        )
        return sorted(
            int(model.version)
            for model in index.models
            if model.name == self._name and model.version and model.state == "READY"
        )

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
            if not died and await self.ready(version):
                return
            try:
                await self._require_unchanged()
                if died:
                    log.warning("a model's process died, loading it again", version=version)
                    await self.unload()
                else:
                    log.warning("Triton has lost the model, loading it again", version=version)
                await self.load()
            finally:
                self._restored_at = time.monotonic()

    async def catch_up(self) -> None:
        """Have Triton serve what `config.pbtxt` says by now, whatever it has served so far.

        Raises:
            ModelError: a version does not load, or is not what was published.
            Unavailable: Triton is away.
        """
        async with self._restoring:
            await self._require_unchanged()
            await self.load()

    async def require(self, version: int) -> None:
        """Return where the version is ready. Raises `NotServing`, `Unavailable`."""
        if not await self.ready(version):
            raise NotServing(self._settings, f"{self._name} version {version}", "not loaded")

    async def _require_unchanged(self) -> None:
        home = self._settings.model_repository / self._name
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

    async def load(self) -> None:
        """Load everywhere. Raises `ModelError`, `Unavailable`."""
        await _all(control.load() for control in await self._named(afresh=True))

    async def unload(self) -> None:
        """Unload everywhere. Raises `Unavailable`."""
        await _all(control.unload() for control in await self._named())

    async def ready(self, version: int) -> bool:
        """Whether a version is ready everywhere. Raises `Unavailable`."""
        return all(await _all(control.ready(version) for control in await self._named()))

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
