"""A Kafka that asks who we are says no in under three seconds, and we say why."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from streams.errors import ConfigurationError, DriftloopError
from streams.kafka.offsets import offsets_client
from streams.kafka.topics import check_transactions, ensure_topics, group_id, topic_exists
from streams.preflight import check
from streams.settings import Settings, load_settings
from tests.synthetic import declare
from tests.waiting import until_sync
from workers.devstack import kafka
from workers.devstack.servers import free_port, spawn
from workers.devstack.stack import GUARD

PIPELINE = declare("refused")
GROUP = group_id(PIPELINE.name, "score")
_NODE = """
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:admin
"""
_BROKER = """
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required \
user_admin="right" user_ann="right";
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker that asks for a user, and lets `ann` do nothing. It makes a topic, of one partition,
    for whoever may and asks for it."""
    home, asks = tmp_path_factory.mktemp("guarded"), free_port()
    at = f"127.0.0.1:{asks}"
    ports = kafka.NodePorts(free_port(), free_port())
    cache = load_settings().cache_dir
    with pytest.MonkeyPatch.context() as changed:
        plain, sasl = "CLIENT:{protocol}", "SASL_PLAINTEXT:SASL_PLAINTEXT"
        node = kafka._NODE.replace(plain, f"{plain},{sasl}") + _NODE
        listens = "listeners=CLIENT://127.0.0.1:{ports.broker}"
        broker = kafka._BROKER.replace(listens, f"{listens},SASL_PLAINTEXT://{at}") + _BROKER
        broker = broker.replace("auto.create.topics.enable=false", "auto.create.topics.enable=true")
        assert "auto.create.topics.enable=true" in broker
        changed.setattr(kafka, "_NODE", node)
        changed.setattr(kafka, "_BROKER", broker)
        common = kafka.Node(home, home, ports, None, cache, print)
        servers = [make(common) for make in (kafka.controller, kafka.broker)]
    processes = [spawn(server, GUARD) for server in servers]
    try:
        until_sync(lambda: all(server.healthy() for server in servers), "Kafka is up")
        yield at
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


def settings(at: str, **changes: object) -> Settings:
    given = {
        "kafka": at,
        "kafka_security_protocol": "SASL_PLAINTEXT",
        "kafka_username": "ann",
        "kafka_password": SecretStr("right"),
    }
    return Settings().model_copy(update={**given, **changes})


async def refused(given: Settings) -> str:
    begun = time.monotonic()
    with pytest.raises(ConfigurationError) as caught:
        await check(given, PIPELINE, "label")
    assert time.monotonic() - begun < 3.0
    said = str(caught.value)
    assert "\n" not in said
    assert "hunter2" not in said
    return said


async def test_who_we_are(guarded: str) -> None:
    wrong = await refused(settings(guarded, kafka_password=SecretStr("hunter2")))
    assert "does not accept user 'ann' with this password (PLAIN)" in wrong
    unknown = await refused(settings(guarded, kafka_username="nobody"))
    assert "does not accept user 'nobody'" in unknown
    scram = await refused(settings(guarded, kafka_sasl_mechanism="SCRAM-SHA-512"))
    assert "does not take SCRAM-SHA-512 - set DRIFTLOOP_KAFKA_SASL_MECHANISM" in scram
    nobody = await _anonymous(guarded)
    assert "does not answer as Kafka with PLAINTEXT" in nobody
    assert "DRIFTLOOP_KAFKA_SECURITY_PROTOCOL" in nobody


async def _anonymous(guarded: str) -> str:
    begun = time.monotonic()
    with pytest.raises(DriftloopError) as caught:
        await ensure_topics(settings(guarded, kafka_security_protocol="PLAINTEXT"), PIPELINE)
    assert time.monotonic() - begun < 3.0
    return str(caught.value)


async def test_what_we_may_do(guarded: str) -> None:
    topics = await refused(settings(guarded))
    assert "does not allow this to ann" in topics
    assert PIPELINE.topics.events in topics
    assert "grant DESCRIBE, READ and WRITE" in topics
    begun = time.monotonic()
    with pytest.raises(ConfigurationError, match="transactional ids") as caught:
        await check_transactions(settings(guarded), GROUP)
    assert "does not allow this to ann" in str(caught.value)
    assert time.monotonic() - begun < 3.0


async def test_who_may_is_let(guarded: str) -> None:
    admin = settings(guarded, kafka_username="admin", partitions=3)
    assert not await topic_exists(admin, PIPELINE.topics.events)
    await ensure_topics(admin, PIPELINE)
    await check_transactions(admin, GROUP)
    async with offsets_client(admin) as asked:
        for topic in PIPELINE.topics.partitioned:
            assert len(await asked.ends(topic)) == 3, topic


async def test_a_topic_that_is_hidden_is_not_one_that_is_missing(guarded: str) -> None:
    with pytest.raises(ConfigurationError, match="does not allow this to ann"):
        await topic_exists(settings(guarded), PIPELINE.topics.events)
