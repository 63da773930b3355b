"""What a running stack has written about itself: addresses, ports, process ids."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec
import psutil

from streams.errors import ConfigurationError
from streams.settings import Settings
from workers.devstack import servers


@dataclass(frozen=True)
class Addresses:
    """Where the servers are."""

    kafka: str
    triton: str
    redis: str
    access: dict[str, str] = field(default_factory=dict)
    """Further settings that let a client in, by name; those of a server begin with its name."""


@dataclass(frozen=True)
class RunningServer:
    """A server of a stack that is up."""

    pid: int
    address: str
    log: str


@dataclass(frozen=True)
class StackState:
    """What `stack.json` holds."""

    pid: int
    """The process that runs the stack."""
    started: float
    """When that process started, as `started_at` has it: a later one may have the same id."""
    addresses: Addresses
    servers: dict[str, RunningServer]
    """By name: controller, kafka, triton, redis."""


def write_stack(
    settings: Settings, addresses: Addresses, running_servers: dict[str, RunningServer]
) -> None:
    """Replace what is written, at once."""
    state = StackState(os.getpid(), started_at(os.getpid()), addresses, running_servers)
    path = _file(settings)
    staging = path.with_suffix(".part")
    staging.touch(mode=0o600)  # addresses may hold a password
    staging.write_text(json.dumps(asdict(state)))
    staging.rename(path)


def started_at(pid: int) -> float:
    """When a process started: on Linux in clock ticks since boot, which no clock's step changes.

    Raises:
        OSError, psutil.NoSuchProcess: there is none.
    """
    if sys.platform == "linux":
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return float(fields[19])
    return psutil.Process(pid).create_time()


def read_stack(settings: Settings) -> StackState | None:
    """What a stack has written; None where none runs in this state directory."""
    try:
        found = msgspec.json.decode(_file(settings).read_bytes(), type=StackState)
        alive = abs(started_at(found.pid) - found.started) < 1.0
    except (OSError, msgspec.MsgspecError, psutil.NoSuchProcess):
        return None
    return found if alive else None


def running(settings: Settings) -> Addresses | None:
    """The addresses of the stack that is up in this state directory, if there is one."""
    found = read_stack(settings)
    return None if found is None else found.addresses


def forget_stack(settings: Settings) -> None:
    """The stack has ended."""
    _file(settings).unlink(missing_ok=True)


def _file(settings: Settings) -> Path:
    return settings.state_dir.resolve() / "stack" / "stack.json"


class Ports:
    """Ports that a stack had before and takes again where they are free."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError):
            self._known = json.loads(path.read_text())

    def take(self, name: str, wanted: int) -> int:
        """The wanted port; else the one taken last time; else a free one."""
        setting = f"DRIFTLOOP_{name.upper()}_PORT"
        if wanted:
            try:
                port = servers.free_port(wanted)
            except OSError:
                raise ConfigurationError(
                    f"port {wanted} is in use - end what listens there, or set {setting}"
                ) from None
        else:
            try:
                port = servers.free_port(self._known.get(name, 0))
            except OSError:
                port = servers.free_port()
        self._known[name] = port
        return port

    def save(self) -> None:
        """Remember the ports."""
        self._path.write_text(json.dumps(self._known))
