"""A gRPC client for Triton from the settings, and what its errors mean to us."""

from __future__ import annotations

from typing import Any

from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from streams.errors import (
    ConfigurationError,
    DriftloopError,
    ModelError,
    NotAnswering,
    Unavailable,
)
from streams.settings import Settings

SETTING = "DRIFTLOOP_TRITON"
_CHANNEL: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # a Triton that comes back is found again within a second, not after gRPC's two minutes
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.enable_http_proxy", 0),
)
_AWAY = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED", "ABORTED"}
_NOT_LOADED = (
    "unknown model",
    "is not at ready state",
    "has no available versions",
    "is not found",
    "is not ready",
)
_STUB_DEAD = ("stub process", "is not healthy")
_REFUSED = ("exceeds maximum queue size", "request timeout expired")


class NotServing(NotAnswering):
    """Triton answers, but the version is not loaded there, or its process has died."""

    def __init__(self, settings: Settings, name: str, reason: str, *, died: bool = False) -> None:
        super().__init__(
            f"Triton at {settings.triton} does not serve {name} ({reason}) - it is loaded again; "
            "where that does not help, `driftloop rollback` makes another version serve"
        )
        self.died = died
        """Whether its backend process is gone: only unloading and loading brings it back."""


class Overloaded(NotAnswering):
    """Triton works, and refuses a request that would wait for longer than the policy allows."""

    def __init__(self, settings: Settings, name: str, reason: str) -> None:
        super().__init__(
            f"Triton at {settings.triton} refuses a request to {name} ({reason}) - it is sent "
            "again; raise policies.infer's instances, or its batching's queue and timeout"
        )


def triton_client(settings: Settings) -> InferenceServerClient:
    """A client of the one Triton that the settings name; connects with the first request.

    Raises:
        ConfigurationError: a TLS file cannot be read.
    """
    tls: dict[str, Any] = {}
    if settings.triton_tls:
        tls = {
            "ssl": True,
            "root_certificates": settings.triton_cafile,
            "private_key": settings.triton_keyfile,
            "certificate_chain": settings.triton_certfile,
        }
    channel = list(_CHANNEL)
    if settings.triton_tls and settings.triton_server_name:
        channel.append(("grpc.ssl_target_name_override", settings.triton_server_name))
    try:
        return InferenceServerClient(settings.triton, channel_args=channel, **tls)
    except OSError as error:
        raise ConfigurationError(
            f"cannot read Triton's TLS files ({error}) - check DRIFTLOOP_TRITON_CAFILE, "
            "DRIFTLOOP_TRITON_CERTFILE and DRIFTLOOP_TRITON_KEYFILE"
        ) from None


class LazyClient:
    """A client that is made with the first request: it belongs to the running event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened: InferenceServerClient | None = None

    def get(self) -> Any:
        """The client. Raises `ConfigurationError` where a TLS file cannot be read."""
        if self._opened is None:
            self._opened = triton_client(self._settings)
        return self._opened

    async def close(self) -> None:
        """Release the connection."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()


async def ready_versions(client: Any, timeout: float) -> list[tuple[str, int]]:
    """Each version that a Triton serves, with its model. Raises `InferenceServerException`."""
    index = await client.get_model_repository_index(client_timeout=timeout)
    return [
        (model.name, int(model.version))
        for model in index.models
        if model.version and model.state == "READY"
    ]


def explained(error: InferenceServerException, settings: Settings, name: str) -> DriftloopError:
    """Our error for one of Triton's: away (`Unavailable`), not loaded, or a wrong model."""
    status = (error.status() or "").rpartition(".")[2]
    message = " ".join((error.message() or "").split())
    lowered = message.lower()
    if all(words in lowered for words in _STUB_DEAD):
        return NotServing(settings, name, "its backend process died", died=True)
    if any(words in lowered for words in _REFUSED):
        return Overloaded(settings, name, message)
    if any(words in lowered for words in _NOT_LOADED):
        return NotServing(settings, name, message)
    if status in _AWAY:
        detail = {"DEADLINE_EXCEEDED": f"no answer in {settings.triton_timeout:g} s"}
        return Unavailable(
            "Triton", settings.triton, SETTING, detail.get(status, message.partition(";")[0])
        )
    return ModelError(f"Triton on model {name} at {settings.triton}: {message or status}")
