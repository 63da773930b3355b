"""Where a process finds its pipeline and its servers, and what it passes on to its children."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Collection
from pathlib import Path

from pydantic import SecretStr

from streams.errors import ConfigurationError
from streams.settings import Settings, load_settings
from streams.spec import Pipeline
from streams.spec.loading import load_pipeline
from workers.devstack.state import Addresses, running


def find_pipeline(module: str) -> Pipeline:
    """The pipeline of a module, or of a file at a path; our own by their short names, too.

    Modules in the working directory are found. Raises `ConfigurationError`, as `load_pipeline`.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    ours = f"streams.pipelines.{module}"
    if module.isidentifier() and not importlib.util.find_spec(module):
        module = ours if importlib.util.find_spec(ours) else module
    return load_pipeline(module)


SERVERS = ("kafka", "triton", "redis")


def connected_settings(module: str = "", needs: Collection[str] = SERVERS) -> Settings:
    """Settings with the addresses that are needed: given ones, else those of the running stack.

    Raises:
        ConfigurationError: neither is there.
    """
    settings = load_settings()
    if module:
        settings = settings.model_copy(update={"pipeline": module})
    given = addresses(settings)
    missing = [name for name in needs if not given[name]]
    if not missing:
        return settings
    stack = running(settings)
    if stack is None:
        wanted = ", ".join(f"DRIFTLOOP_{name.upper()}" for name in missing)
        raise ConfigurationError(
            f"no server given and no embedded stack is up in {settings.state_dir} - "
            f"run `driftloop stack up --detach`, or set {wanted}"
        )
    os.umask(0o077)  # the stack is its user's own, and what is kept beside it
    return with_addresses(settings, stack)


def make_state_dir(settings: Settings) -> None:
    """Make the state directory. Raises `ConfigurationError` where it cannot be written."""
    path = settings.state_dir
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / ".writable").touch()
        (path / ".writable").unlink()
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {path} ({error.strerror}) - set DRIFTLOOP_STATE_DIR to a directory that "
            "can be written"
        ) from None


def addresses(settings: Settings) -> dict[str, str]:
    """The servers' addresses by setting; empty where not set."""
    return {
        "kafka": settings.kafka,
        "triton": settings.triton,
        "redis": settings.redis.get_secret_value(),
    }


def with_addresses(settings: Settings, stack: Addresses) -> Settings:
    """Settings that lead to a stack's servers, where no others are given."""
    given = addresses(settings)
    update: dict[str, str] = {}
    for server in SERVERS:
        if not given[server]:
            update[server] = getattr(stack, server)
            update |= {k: v for k, v in stack.access.items() if k.startswith(f"{server}_")}
    if not update:
        return settings
    return Settings.model_validate(settings.model_dump() | update)


def environment(settings: Settings) -> dict[str, str]:
    """The environment variables that give a child process these settings."""
    values = settings.model_dump(exclude_none=True)
    for name, value in values.items():
        if isinstance(value, SecretStr):
            values[name] = value.get_secret_value()
    values["state_dir"] = settings.state_dir.resolve()
    values["model_repository"] = settings.model_repository.resolve()
    return {f"DRIFTLOOP_{name.upper()}": str(value) for name, value in values.items()}
