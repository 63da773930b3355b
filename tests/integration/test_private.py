"""Nobody else on the host gets anything of the embedded stack: from a port, a file, or memory."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from pydantic import SecretStr
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from streams.kafka.topics import ensure_topics
from streams.pipelines.card_fraud import pipeline
from streams.settings import Settings
from tests.faults.harness import publish
from tests.models import linear, publish_first
from tests.stack import own_stack
from tests.synthetic import declare
from workers.devstack import kafka
from workers.devstack.private import Passwords, passwords
from workers.devstack.servers import free_port
from workers.devstack.stack import Stack
from workers.devstack.state import read_stack

Own = tuple[Stack, Settings]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    with own_stack(tmp_path_factory.mktemp("private"), print) as own:
        yield own


@pytest.fixture
def settings(own: Own) -> Settings:
    return own[1]


@pytest.fixture
def known(settings: Settings) -> Passwords:
    return passwords(settings.state_dir / "stack")


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


def login(mechanism: str, password: str) -> dict[str, Any]:
    return {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": "driftloop",
        "sasl_plain_password": password,
    }


@pytest.mark.parametrize("server", ["kafka", "controller"])
@pytest.mark.parametrize("by", ["nothing", "a guess", "the password in clear", "TLS"])
async def test_kafka_tells_nothing_without_the_password(
    settings: Settings, known: Passwords, server: str, by: str
) -> None:
    await ensure_topics(settings, pipeline)
    await publish(settings, pipeline.topics.models, [(b"version", b"{}")])
    stack = read_stack(settings)
    assert stack is not None
    anyone = ssl.create_default_context(cafile=str(settings.triton_cafile))
    ways: dict[str, dict[str, Any]] = {
        "nothing": {},
        "a guess": login("SCRAM-SHA-256", "guessed"),
        # whoever listens on the port while the broker is down must not be told it
        "the password in clear": login("PLAIN", known.kafka),
        "TLS": {"security_protocol": "SSL", "ssl_context": anyone},
    }
    options = {"bootstrap_servers": stack.servers[server].address, **ways[by]}
    clients = (
        AIOKafkaAdminClient(request_timeout_ms=2000, **options),
        AIOKafkaProducer(request_timeout_ms=2000, **options),
        AIOKafkaConsumer(pipeline.topics.models, request_timeout_ms=2000, **options),
    )
    for client in clients:
        try:
            with pytest.raises(KafkaError):
                await client.start()
        finally:
            await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


async def test_data_that_was_made_without_a_password_is_kept_by_one(tmp_path: Path) -> None:
    ports, home = kafka.NodePorts(free_port(), free_port()), tmp_path / "stack" / "kafka"
    before = kafka.Node(home, home, ports, None, Settings().cache_dir, print)
    kafka.controller(before)
    kafka.broker(before)
    others: dict[str, Any] = {"triton": "127.0.0.1:1", "redis": SecretStr("redis://127.0.0.1:1/0")}
    made = (home / "controller" / "data" / "meta.properties").stat().st_ino
    with own_stack(tmp_path, **others) as (_, settings):
        assert settings.kafka_security_protocol == "SASL_PLAINTEXT"
        await ensure_topics(settings, pipeline)
    assert (home / "controller" / "data" / "meta.properties").stat().st_ino == made
    assert readable_by_others(tmp_path / "stack") == []


def test_valkey_answers_nobody_without_a_password(settings: Settings) -> None:
    at = port(settings.redis.get_secret_value().partition("/0")[0])
    with redis.Redis(port=at) as client, pytest.raises(AuthenticationError):
        client.keys("*")
    with redis.Redis(port=at, password="guessed") as client, pytest.raises(AuthenticationError):
        client.ping()


@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "SET", "dir", "/tmp"),
        ("CONFIG", "GET", "*"),
        ("REPLICAOF", "127.0.0.1", "1"),
        ("MODULE", "LOAD", "/nowhere.so"),
        ("DEBUG", "SLEEP", "0"),
        ("SHUTDOWN", "NOSAVE"),
        ("FLUSHALL",),
        ("ACL", "SETUSER", "default", "on", "nopass", "+@all"),
        ("MONITOR",),
        ("KEYS", "*"),
    ],
    ids=" ".join,
)
def test_a_workers_user_in_valkey_reaches_no_further_than_data(
    settings: Settings, command: tuple[str, ...]
) -> None:
    with redis.Redis.from_url(settings.redis.get_secret_value()) as client:
        assert client.set("mine", "1")
        with pytest.raises((NoPermissionError, ResponseError), match=r"not allowed|no permissions"):
            client.execute_command(*command)


@pytest.mark.parametrize("tls", ["none", "no certificate"])
def test_triton_loads_and_scores_nothing_for_who_has_no_certificate(
    settings: Settings, tls: str
) -> None:
    known = {"ssl": True, "root_certificates": str(settings.triton_cafile)}
    client: Any = InferenceServerClient(settings.triton, **({} if tls == "none" else known))
    try:
        asks: tuple[Callable[[], Any], ...] = (
            lambda: client.load_model("evil", config='{"backend": "python"}', client_timeout=3.0),
            lambda: client.get_model_repository_index(client_timeout=3.0),
            lambda: client.register_system_shared_memory("all", "/x", 8, client_timeout=3.0),
            lambda: client.is_server_live(client_timeout=3.0),
        )
        for ask in asks:
            with pytest.raises(InferenceServerException, match=r"UNAVAILABLE|DEADLINE"):
                ask()
    finally:
        client.close()


def readable_by_others(folder: Path) -> list[str]:
    found = [folder, *folder.rglob("*")]
    return [
        str(path)
        for path in found
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]


def processes(stack: Stack) -> list[psutil.Process]:
    found = [psutil.Process(pid) for pid in stack.pids().values()]
    return [*found, *(child for one in found for child in one.children(recursive=True))]


async def test_files_and_shared_memory_are_their_owners_alone(own: Own) -> None:
    stack, settings = own
    declared = declare("private")
    await publish_first(settings, declared, linear(len(declared.feature_names)))
    assert readable_by_others(settings.state_dir) == []
    assert readable_by_others(settings.model_repository) == []
    shared = {
        Path(region.path)
        for process in processes(stack)
        for region in process.memory_maps()
        if region.path.startswith("/dev/shm/")
    }
    assert any(path.exists() for path in shared)
    assert [path for path in shared if path.exists() and readable_by_others(path)] == []


def test_no_secret_is_on_a_command_line_or_in_a_log(own: Own, known: Passwords) -> None:
    stack, settings = own
    secrets = [known.kafka, known.redis, known.redis_admin]
    for pid in stack.pids().values():
        line = " ".join(psutil.Process(pid).cmdline())
        assert not any(secret in line for secret in secrets)
    for log in (settings.state_dir / "stack" / "logs").iterdir():
        text = log.read_text(errors="replace")
        assert not any(secret in text for secret in secrets)
