"""The whole loop on servers that ask who we are, with what docs/operations.md grants, no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import orjson
import pytest
from pydantic import SecretStr

from streams.adapters.redis.state import RedisFeatureState
from streams.adapters.triton.control import TritonControl
from streams.adapters.triton.resolving import Resolver
from streams.errors import ConfigurationError, DriftloopError
from streams.kafka.connection import Producer, producer
from streams.kafka.grants import Role
from streams.kafka.offsets import offsets_client
from streams.kafka.reading import TopicFollower
from streams.kafka.topics import ensure_topics
from streams.kafka.writing import send_all
from streams.preflight import check
from streams.records import Example, Prediction, decoder
from streams.settings import Settings
from tests.secured import PASSWORD, Asked, Grant, Secured, commands, documented, secured
from tests.synthetic import declare, made, pipeline
from tests.waiting import Said, until
from workers.devstack.private import certificates
from workers.environment import environment
from workers.evaluation.progressive import read_cells
from workers.operations.dead_letters import read_dead_letters, replay
from workers.operations.resetting import require_idle, reset

ROOT = Path(__file__).parents[2]
ROLES: dict[str, Role] = {role: role for role in get_args(Role)}
_decode = decoder(Prediction).decode


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured(tmp_path_factory.mktemp("secured"), pipeline.name) as found:
        yield found


def event(example: Example) -> tuple[str, bytes, bytes]:
    a, b, c, constant = memoryview(example.vector).cast("f")
    at = datetime.fromtimestamp(example.event_time, UTC).isoformat()
    value: dict[str, object] = {"reading_id": example.event_id, "machine": example.key, "at": at}
    value |= {"a": a, "b": b, "c": c, "constant": constant}
    return pipeline.topics.events, example.key.encode(), orjson.dumps(value)


def label(example: Example) -> tuple[str, bytes, bytes]:
    value = {"event_id": example.event_id, "label": int(example.label)}
    value |= {"labelled_at": example.event_time + 3600}
    return pipeline.topics.feedback, example.key.encode(), orjson.dumps(value)


def records() -> list[tuple[str, bytes, bytes]]:
    """Labels and events of a week, and one bad record of each."""
    examples, bad, topics = made(7, per_day=900), b"no JSON", pipeline.topics
    labels = [label(example) for example in examples if example.label]
    strays = [(topic, b"machine-1", bad) for topic in (topics.events, topics.feedback)]
    return [*labels, *map(event, examples), *strays]


@contextmanager
def worker(role: str, settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process of a role."""
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.roles", role, "tests.synthetic"],
            cwd=ROOT,
            env=os.environ | environment(settings),
            stdout=said,
            stderr=said,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


async def test_the_whole_loop(servers: Secured, tmp_path: Path) -> None:
    await servers.grant(*documented(pipeline.name))
    redis = SecretStr(servers.to_redis("operator"))
    operator = servers.of("operator", state_dir=tmp_path, redis=redis)
    await ensure_topics(operator, pipeline)
    logs = {role: tmp_path / f"{role}.log" for role in ROLES}

    def said() -> str:
        found = ((role, log.read_text()) for role, log in logs.items() if log.exists())
        return "\n".join(f"{role}: {text[-3000:]}" for role, text in found)

    def start(role: str) -> None:
        settings = servers.of(role, state_dir=tmp_path / role)
        running.enter_context(worker(role, settings, logs[role]))

    with ExitStack() as running:
        start("score")
        for role in ("label", "evaluate", "shadow"):
            start(role)
        async with producer(servers.of("producer")) as sending:
            await send_all(sending, records())
            await learnable(operator, 4500, said)
            start("trainer")
            assert await served(servers, sending, said) == {0, 1}
        await measured(operator, said)
    await operate(operator)
    asked = servers.asked()
    assert {one for one in asked if not one.allowed} == set()
    # a label is passed on only where events have moved, examples are ours, nobody is in the shadow,
    # and no version is rolled out by degrees
    topics = pipeline.topics
    idle = by_degrees() | {
        Grant("label", "topic", topics.feedback, "WRITE"),
        Grant("evaluate", "topic", topics.dead_letters, "WRITE"),
        Grant("shadow", "topic", topics.shadow, "WRITE"),
    }
    ours = {one for one in documented(pipeline.name) if one.user in ROLES}
    assert {one for one in ours if not used(one, asked)} == idle


def by_degrees() -> set[Grant]:
    """What the trainer needs only where versions are rolled out by degrees; here they are not."""
    topics = pipeline.topics
    watched = (topics.shadow, topics.scored, topics.feedback)
    return {Grant("trainer", "topic", name, "READ") for name in watched}


def used(grant: Grant, asked: set[Asked]) -> bool:
    """Whether a worker could not have done without."""
    return any(
        one.user == grant.user
        and one.operation == grant.operation
        and one.resource.lower() == grant.resource.replace(" ", "")
        and (
            one.name.startswith(grant.name[:-1])
            if grant.name.endswith("*")
            else one.name == grant.name
        )
        for one in asked
    )


async def operate(settings: Settings) -> None:
    """What an operator does: puts back what was bad, and resets what was derived."""
    letters = await read_dead_letters(settings, pipeline)
    assert {letter.source[0] for letter in letters} == {
        pipeline.topics.events,
        pipeline.topics.feedback,
    }
    await replay(settings, pipeline, letters)
    await require_idle(settings, pipeline)
    keys, _ = reset(settings, pipeline)
    assert keys > 0


async def learnable(settings: Settings, least: int, said: Said) -> None:
    """Return when so many examples are there."""
    async with offsets_client(settings) as asked:

        async def there() -> bool:
            return sum((await asked.ends(pipeline.topics.examples)).values()) >= least

        await until(there, "the examples are there", said=said)


async def measured(settings: Settings, said: Said) -> None:
    """Return when the quality of the fallback, which answered them, is known."""

    async def known() -> bool:
        return bool(await read_cells(settings, pipeline))

    await until(known, "live quality is known", said=said)


async def served(servers: Secured, sending: Producer, said: Said) -> set[int]:
    """The versions that have answered, once there is a new one, as the consumer's user sees it.

    An event at a time is sent: the next, when the one before has its prediction.
    """
    follower = TopicFollower(servers.of("consumer"), pipeline.topics.predictions)
    await follower.start()
    events = iter(made(20, seed=1, first=8))
    seen, waiting = set[int](), set[str]()

    async def new() -> bool:
        if not waiting:
            late = next(events)
            waiting.add(late.event_id)
            await send_all(sending, [event(late)])
        for record in await follower.poll():
            prediction = _decode(record.value or b"")
            seen.add(prediction.version)
            waiting.discard(prediction.event_id)
        return max(seen, default=0) > 0

    try:
        await until(new, "a new version answers", within=120, said=said)
    finally:
        await follower.stop()
    return seen


async def refusal(check: Awaitable[object]) -> str:
    """What a start says that is refused: one line, within three seconds, and no secret."""
    begun = time.monotonic()
    with pytest.raises(DriftloopError) as caught:
        await check
    assert time.monotonic() - begun < 3.0
    said = str(caught.value)
    assert "\n" not in said
    assert PASSWORD not in said
    assert "hunter2" not in said
    return said


async def test_each_missing_grant_has_its_line(servers: Secured) -> None:
    await servers.grant(*documented(pipeline.name))
    await ensure_topics(servers.of("operator"), pipeline)
    unsaid = []
    for grant in documented(pipeline.name):
        if grant.user not in ROLES or grant.operation == "DESCRIBE_CONFIGS":
            continue
        if grant in by_degrees():
            continue
        async with servers.without(grant):
            said = await refusal(check(servers.of(grant.user), pipeline, ROLES[grant.user]))
        named = grant.name.rstrip("*")
        if grant.operation not in said or named not in said or grant.user not in said:
            unsaid.append((grant, said))
    assert unsaid == []


async def test_each_missing_command_of_redis_has_its_line(servers: Secured) -> None:
    for command in commands():
        url = servers.to_redis(f"no-{command}")
        said = await refusal(RedisFeatureState.connect(url, pipeline.name, pipeline.plan))
        assert "does not allow this to us" in said
        assert f"'{command}'" in said


async def test_nobody_may_make_topics_but_the_operator(servers: Secured) -> None:
    other = declare("others")
    await servers.grant(Grant("score", "topic", "others.*", "DESCRIBE"))
    said = await refusal(ensure_topics(servers.of("score"), other))
    assert "CREATE" in said


async def test_who_we_are(servers: Secured, tmp_path: Path) -> None:
    await servers.grant(*documented(pipeline.name))
    await ensure_topics(servers.of("operator"), pipeline)
    stranger = certificates(tmp_path)

    async def said(**changes: object) -> str:
        return await refusal(check(servers.of("score", **changes), pipeline, "score"))

    wrong = SecretStr("hunter2")
    assert "does not accept user 'score' with this" in await said(kafka_password=wrong)
    assert "does not accept user 'nobody'" in await said(kafka_username="nobody")
    for mechanism in ("PLAIN", "SCRAM-SHA-256"):
        assert f"does not take {mechanism}" in await said(kafka_sasl_mechanism=mechanism)
    for cafile in (stranger.ca, None):
        assert "set DRIFTLOOP_KAFKA_CAFILE" in await said(kafka_cafile=cafile)
    plain = await said(kafka_security_protocol="SASL_PLAINTEXT")
    assert "does not answer as Kafka with SASL_PLAINTEXT" in plain

    own = {"triton_certfile": stranger.client, "triton_keyfile": stranger.client_key}
    assert "does not accept our certificate" in await said(**own)
    assert "may ask for one" in await said(**dict.fromkeys(own))
    for cafile in (stranger.ca, None):
        assert "set DRIFTLOOP_TRITON_CAFILE" in await said(triton_cafile=cafile)
    assert "set DRIFTLOOP_TRITON_TLS=true" in await said(triton_tls=False)


async def test_the_certificate_is_the_names_whatever_address_it_leads_to(servers: Secured) -> None:
    """The embedded Triton's is for localhost and 127.0.0.1."""
    port = servers.settings.triton.rpartition(":")[2]

    async def look_up(*_: object) -> list[str]:
        return [f"127.0.0.1:{port}"]

    async def reached(**changes: object) -> None:
        [one] = await Resolver(servers.of("score", **changes), look_up).now()
        control = TritonControl(one, "any")
        try:
            await control.alive()
        finally:
            await control.close()

    await reached(triton=f"dns:///localhost:{port}")
    other = f"dns:///tritons.example:{port}"
    with pytest.raises(ConfigurationError, match=r"mismatch.* DRIFTLOOP_TRITON_SERVER_NAME"):
        await reached(triton=other)
    await reached(triton=other, triton_server_name="localhost")


async def test_who_we_are_to_redis(servers: Secured, tmp_path: Path) -> None:
    url = servers.settings.redis.get_secret_value()
    stranger = certificates(tmp_path).ca
    bare, _, option = url.partition("?")

    async def said(changed: str) -> str:
        assert changed != url
        return await refusal(RedisFeatureState.connect(changed, pipeline.name, pipeline.plan))

    for changed in (url.replace(PASSWORD, "hunter2"), url.replace("loop:", "nobody:")):
        assert "does not accept our user and password" in await said(changed)
    for changed in (bare, f"{bare}?ssl_ca_certs={stranger}"):
        assert "DRIFTLOOP_REDIS=rediss://...?ssl_ca_certs=ca.pem" in await said(changed)
    assert f"names {option.partition('=')[2]}x and there is no such" in await said(f"{url}x")
    assert "whether it wants rediss:// (TLS)" in await said(bare.replace("rediss:", "redis:"))
