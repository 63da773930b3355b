"""The embedded stack as a whole: started, watched, restarted, and ended by process id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from streams.errors import ConfigurationError, Unavailable
from streams.settings import Settings
from workers.devstack import kafka, servers
from workers.devstack.kafka_access import Access
from workers.devstack.private import USER, Certificates, Passwords, certificates, close, passwords
from workers.devstack.servers import Server
from workers.devstack.state import (
    Addresses,
    Ports,
    RunningServer,
    forget_stack,
    running,
    write_stack,
)
from workers.fetching import Notify

GUARD = servers.GUARD
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_WATCH_SECONDS = 0.1


@dataclass
class _Child:
    server: Server
    process: subprocess.Popen[bytes]
    started: float
    delay: float = 0.2
    """Seconds before the next restart; doubles while restarts do not last."""


class Stack:
    """The servers whose addresses are not in the settings, as children of this process.

    One stack at a time runs in a state directory. Data, ports and secrets are kept for the next.
    Nobody else on the host can use it, or read what it keeps; unless it is not `private`, for
    clients that know no secrets (benchmarks of others).
    """

    def __init__(
        self, settings: Settings, report: Notify = lambda line: None, *, private: bool = True
    ) -> None:
        self._private = private
        self._settings = settings
        self._report = report
        self._home = settings.state_dir.resolve() / "stack"
        self._logs = self._home / "logs"
        self._children: dict[str, _Child] = {}
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._keeper: threading.Thread | None = None
        self._lock = FileLock(self._home / "stack.lock")

    def __enter__(self) -> Addresses:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Addresses:
        """Start what is missing and wait until all of it is healthy.

        Raises:
            ConfigurationError: a port is taken, another stack is up, this machine lacks something.
            Unavailable: a download failed, or a server did not become healthy.
        """
        close(self._home.parent, self._home)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ConfigurationError(
                f"a stack is already up in {self._settings.state_dir} - use it, end it with "
                "`driftloop stack down`, or set DRIFTLOOP_STATE_DIR"
            ) from None
        try:
            wanted = self._servers()
            # one thread starts, watches and restarts: the kernel ties a child to the thread
            self._keeper = threading.Thread(target=self._keep, args=(wanted,), name="stack")
            self._keeper.start()
            self._wait_until_healthy(wanted)
            addresses = self._addresses(wanted)
            self._write_state(addresses)
        except BaseException:
            self.stop()
            raise
        return addresses

    def stop(self) -> None:
        """End every server by its process id and wait for it."""
        self._stopping.set()
        if self._keeper is not None:
            self._keeper.join()
        children, self._children = list(self._children.values()), {}
        _end([child.process for child in children])
        for child in children:
            _sweep(child.server)
        forget_stack(self._settings)
        self._lock.release()

    def pids(self) -> dict[str, int]:
        """Process id of each server that runs, by name: controller, kafka, triton, redis."""
        return {name: child.process.pid for name, child in self._children.items()}

    def wait_healthy(self, timeout: float = _START_SECONDS) -> None:
        """Return when every server answers. Raises `Unavailable` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        for child in list(self._children.values()):
            self._wait_for(child.server, deadline)

    def _servers(self) -> list[Server]:
        settings, ports = self._settings, Ports(self._home / "ports.json")
        cache = settings.cache_dir
        makers: list[Callable[[], Server]] = []
        known, pair = self._secrets()
        if not settings.kafka:
            taken = kafka.NodePorts(
                ports.take("kafka", settings.kafka_port), ports.take("controller", 0)
            )
            node = kafka.Node(
                self._home / "kafka", self._logs, taken, self._access(), cache, self._report
            )
            kafka.let_in(node)
            makers += [lambda: kafka.controller(node), lambda: kafka.broker(node)]
        if not settings.triton:
            port = ports.take("triton", settings.triton_port)
            repository = settings.model_repository
            close(repository)
            makers.append(
                lambda: servers.triton(
                    self._home / "triton", self._logs, port, repository, cache, self._report, pair
                )
            )
        if not settings.redis.get_secret_value():
            at = ports.take("redis", settings.redis_port)
            makers.append(lambda: servers.valkey(self._home / "redis", self._logs, at, known))
        ports.save()
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda make: make(), makers))

    def _secrets(self) -> tuple[Passwords | None, Certificates | None]:
        if not self._private:
            return None, None
        return passwords(self._home), certificates(self._home / "certificates")

    def _access(self) -> Access | None:
        known, pair = self._secrets()
        return Access(known.kafka, pair) if known and pair else None

    def _keep(self, wanted: Iterable[Server]) -> None:
        for server in wanted:
            _sweep(server)
            process = servers.spawn(server, GUARD)
            self._children[server.name] = _Child(server, process, time.monotonic())
        self._ready.set()
        while not self._stopping.wait(_WATCH_SECONDS):
            for child in self._children.values():
                if child.process.poll() is not None:
                    self._restart(child)

    def _restart(self, child: _Child) -> None:
        if time.monotonic() - child.started > 30:
            child.delay = 0.2
        code = child.process.returncode
        said = "" if code == -signal.SIGKILL else f": {_last_line(child.server.log)}"
        self._report(
            f"{child.server.name} ended ({servers.ended(code)}){said} - restarting; "
            f"log: {child.server.log}"
        )
        _kill_group(child.process.pid)
        _sweep(child.server)
        if self._stopping.wait(child.delay):
            return
        child.delay = min(child.delay * 2, 5.0)
        child.process, child.started = servers.spawn(child.server, GUARD), time.monotonic()
        if running(self._settings) is not None:
            self._write_state(self._addresses([c.server for c in self._children.values()]))

    def _wait_until_healthy(self, wanted: list[Server]) -> None:
        self._ready.wait()
        deadline = time.monotonic() + _START_SECONDS
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(self._wait_for, s, deadline) for s in wanted]:
                done.result()

    def _wait_for(self, server: Server, deadline: float) -> None:
        while not server.healthy():
            child = self._children[server.name]
            if time.monotonic() > deadline or child.delay >= 1.0:
                raise Unavailable(
                    server.name,
                    server.address,
                    server.setting,
                    f"{_last_line(server.log)}; see {server.log}",
                )
            time.sleep(0.05)
        self._report(f"{server.name} is up on {server.address}")

    def _addresses(self, wanted: list[Server]) -> Addresses:
        own = {server.name: server.address for server in wanted}
        given, (known, pair) = self._settings, self._secrets()
        login = f"{USER}:{known.redis}@" if known else ""
        redis = given.redis.get_secret_value() or f"redis://{login}{own['redis']}/0"
        access = servers.access(pair) if pair else {}
        if let_in := self._access():
            access |= let_in.settings()
            if "kafka" in own:
                let_in.write_client_properties(given.state_dir, own["kafka"])
        return Addresses(given.kafka or own["kafka"], given.triton or own["triton"], redis, access)

    def _write_state(self, addresses: Addresses) -> None:
        write_stack(
            self._settings,
            addresses,
            {
                name: RunningServer(child.process.pid, child.server.address, str(child.server.log))
                for name, child in self._children.items()
            },
        )


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        _kill_group(process.pid)
        process.wait()


def _kill_group(pid: int) -> None:
    """End what a server has left of its own children; each server leads a process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _sweep(server: Server) -> None:
    for pattern in server.leftovers:
        for path in Path("/dev/shm").glob(pattern):  # noqa: S108 - where the server puts them
            path.unlink(missing_ok=True)


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_bytes()[-4000:].decode(errors="replace").splitlines()
        return lines[-1][:300] if lines else "it said nothing"
    return "it said nothing"
