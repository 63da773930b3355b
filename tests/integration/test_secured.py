"""The whole loop where nothing is allowed that is not granted: TLS, SCRAM, an ACL user, mutual TLS.

The grants are those of `docs/operations.md`, role by role.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka.protocol.admin import CreateAclsRequest
from pydantic import SecretStr

from streams.aio.cancelling import cancel
from streams.errors import DriftloopError
from streams.kafka.connection import admin_client
from streams.kafka.topics import ensure_topics
from streams.preflight import check_application
from streams.records import Action, Prediction, decoder
from streams.settings import Settings, load_settings
from streams.spec import Pipeline
from tests.faults.harness import Output, Workers, card_fraud_module, publish
from tests.integration.test_bad_input import T0, event, events
from tests.models import linear, manifest
from tests.waiting import until, until_sync
from workers.devstack import kafka
from workers.devstack.private import USER, Certificates, certificates, passwords
from workers.devstack.servers import access, free_port, spawn, triton, valkey
from workers.devstack.stack import GUARD
from workers.releases.candidate import Judged
from workers.releases.lifecycle import Lifecycle

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
KINDS = {"topic": 2, "group": 3, "transactional id": 5}
CODES = {"READ": 3, "WRITE": 4, "DESCRIBE": 8, "DESCRIBE_CONFIGS": 10}
"""Of Kafka's protocol: resource types and operations."""
ALLOW, LITERAL, PREFIXED = 3, 3, 4
ROLES = ("score", "label", "trainer")
NAME = "secured"
NODE = """
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
BROKER = """
listener.name.secured.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secured.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secured.ssl.keystore.type=PEM
listener.name.secured.ssl.keystore.location={keys}
listener.name.secured.ssl.truststore.type=PEM
listener.name.secured.ssl.truststore.location={ca}
"""


@dataclass(frozen=True)
class Secured:
    """Servers that ask who we are, and settings of each role."""

    inside: Settings
    """Of a super user, by a listener that nobody else would have."""
    roles: dict[str, Settings]
    ca: Path


def granted() -> list[tuple[str, str, str, str]]:
    """Role, kind, resource and operation of each grant that the documentation lists."""
    rows = re.findall(r"^\| ([a-z, ]+) \| (\w[\w ]*) \| `(.+)` \| ([A-Z_, ]+) \|$",
                      OPERATIONS.read_text(), re.MULTILINE)  # fmt: skip
    found = [
        (role, kind, resource.replace("P", NAME, 1), operation)
        for roles, kind, resource, operations in rows
        if kind in KINDS
        for role in roles.split(", ")
        for operation in operations.split(", ")
    ]
    assert {role for role, *_ in found} == set(ROLES)
    return found


async def grant(settings: Settings) -> None:
    async with admin_client(settings) as admin:
        for role, kind, resource, operation in granted():
            prefix = resource.endswith("*")
            request = CreateAclsRequest(
                KINDS[kind],
                resource.rstrip("*"),
                PREFIXED if prefix else LITERAL,
                f"User:{role}",
                "*",
                CODES[operation],
                ALLOW,
            )
            answer: Any = await admin._send_to_controller(request)
            assert [code for code, _ in answer.creation_responses] == [0], (role, resource)


def kafka_servers(home: Path, port: int, pair: Certificates) -> list[Any]:
    """Controller and broker; users by SCRAM, each with its role for a password."""
    ports = kafka.NodePorts(free_port(), free_port())
    keys = home / "broker.pem"
    keys.write_bytes(pair.server_key.read_bytes() + pair.server.read_bytes())
    plain, listens = "CLIENT:{protocol}", "listeners=CLIENT://127.0.0.1:{ports.broker}"
    own = BROKER.format(keys=keys, ca=pair.ca)
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(
            kafka, "_NODE", kafka._NODE.replace(plain, f"{plain},SECURED:SASL_SSL") + NODE
        )
        broker = kafka._BROKER.replace(listens, f"{listens},SECURED://127.0.0.1:{port}")
        changed.setattr(kafka, "_BROKER", broker + own)
        node = kafka.Node(home, home, ports, None, load_settings().cache_dir, print)
        servers = [kafka.controller(node), kafka.broker(node)]
    data = home / "controller" / "data"
    cluster = re.search(r"cluster\.id=(\S+)", (data / "meta.properties").read_text())
    assert cluster is not None
    shutil.rmtree(data)
    *java, _, properties = servers[0].command
    users = [f"SCRAM-SHA-512=[name={role},password=pw-{role}]" for role in ROLES]
    given = [part for user in users for part in ("--add-scram", user)]
    format_again = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster[1]}"]
    subprocess.run(
        [*java, *format_again, "-c", properties, *given], check=True, capture_output=True
    )
    return servers


class TlsFront:
    """Takes TLS on a port and passes on to another: the embedded Valkey is built without it."""

    def __init__(self, port: int, to: int, pair: Certificates) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(pair.server, pair.server_key)
        self._port, self._to = port, to
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._pass, "127.0.0.1", self._port, ssl=self._context
        )

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await cancel(*others)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_connection("127.0.0.1", self._to)
        await asyncio.gather(_pump(reader, out), _pump(there, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    home, cache = tmp_path_factory.mktemp("secured"), load_settings().cache_dir
    pair, known = certificates(home / "certificates"), passwords(home)
    asks, triton_at, redis_at, front = (free_port() for _ in range(4))
    (home / "kafka").mkdir()
    servers = [
        *kafka_servers(home / "kafka", asks, pair),
        triton(home / "triton", home, triton_at, home / "models", cache, print, pair),
        valkey(home / "redis", home, redis_at, known),
    ]
    inside = Settings(
        kafka=servers[1].address,
        triton=f"127.0.0.1:{triton_at}",
        redis=SecretStr(
            f"rediss://{USER}:{known.redis}@127.0.0.1:{front}/0?ssl_ca_certs={pair.ca}"
        ),
        state_dir=home / "state",
        model_repository=home / "models",
        session_timeout_ms=6000,
    )
    inside = Settings.model_validate(inside.model_dump() | access(pair))
    own = {
        role: inside.model_copy(
            update={
                "kafka": f"127.0.0.1:{asks}",
                "kafka_security_protocol": "SASL_SSL",
                "kafka_sasl_mechanism": "SCRAM-SHA-512",
                "kafka_username": role,
                "kafka_password": SecretStr(f"pw-{role}"),
                "kafka_cafile": pair.ca,
            }
        )
        for role in ROLES
    }
    with ExitStack() as ending:
        for server in servers:
            process = spawn(server, GUARD)
            ending.callback(process.wait, 20)
            ending.callback(process.terminate)
        ending.enter_context(TlsFront(front, redis_at, pair))
        until_sync(lambda: all(server.healthy() for server in servers), "the servers are up")
        yield Secured(inside, own, pair.ca)


@pytest.fixture
async def declared(secured: Secured, tmp_path: Path) -> Pipeline:
    """The pipeline, with its topics and its grants."""
    pipeline = card_fraud_module(tmp_path, NAME)
    await ensure_topics(secured.inside, pipeline)
    await grant(secured.inside)
    return pipeline


@pytest.mark.timeout(180)
async def test_the_whole_loop_runs_with_the_grants_that_are_documented(
    secured: Secured, declared: Pipeline, tmp_path: Path
) -> None:
    topics = declared.topics
    life = Lifecycle(secured.roles["trainer"], declared)
    data = linear(len(declared.feature_names))

    async def release(parent: int) -> None:
        made = manifest(declared, 0, data, parent=parent)
        decided = await life.release(Judged(made, data, Action.PROMOTE, "by hand"))
        assert decided.action is Action.PROMOTE, decided.reason

    await release(0)
    with ExitStack() as running:
        workers = {
            role: running.enter_context(Workers(settings, declared, tmp_path)).start(role)
            for role, settings in secured.roles.items()
        }
        async with (
            Output(secured.inside, topics.predictions) as predictions,
            Output(secured.inside, topics.examples) as examples,
        ):
            label = b'{"event_id": "first0", "label": 1, "labelled_at": %d}' % (T0 + 5)
            await publish(secured.inside, topics.events, events("first", 20))
            await predictions.wait(20, 90)
            await publish(secured.inside, topics.feedback, [(b"ann", label)])
            await publish(secured.inside, topics.feedback, [(b"ann", b"{")])
            late = [(b"ann", event("last", tx_time=T0 + 30 * 86_400))]
            await publish(secured.inside, topics.events, late)
            await examples.wait(20)
            await release(1)
            await until(lambda: workers["score"].times_said(b'"version": 2') > 0)
            await publish(secured.inside, topics.events, events("new", 5))
            await predictions.wait(26)
        for worker in workers.values():
            assert worker.alive, worker.said()
            assert worker.times_said(b"not allow") == 0, worker.said()
        assert "trainer is ready" in workers["trainer"].said()
    await life.close()
    found = [decoder(Prediction).decode(record.value) for record in predictions.records]
    assert {one.version for one in found[:20]} == {1}
    assert {one.version for one in found if one.event_id.startswith("new")} == {2}


async def refused(given: Settings, pipeline: Pipeline) -> str:
    begun = time.monotonic()
    with pytest.raises(DriftloopError) as caught:
        await check_application(given, pipeline, triton=True)
    assert time.monotonic() - begun < 3.0
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kafka_password": SecretStr("guessed")}, "does not accept user 'score'"),
        ({"kafka_sasl_mechanism": "PLAIN"}, "does not take PLAIN"),
        ({"kafka_cafile": None}, "certificate"),
        ({"triton_cafile": None}, "what DRIFTLOOP_TRITON_TLS and its certificates should be"),
        ({"kafka_username": "trainer", "kafka_password": SecretStr("pw-trainer")}, "grant"),
    ],
    ids=["password", "mechanism", "ca", "triton's ca", "grant"],
)
async def test_what_is_wrong_has_its_own_line_within_three_seconds(
    secured: Secured, declared: Pipeline, changes: dict[str, Any], said: str
) -> None:
    given = secured.roles["score"].model_copy(update=changes)
    assert said in await refused(given, declared)
