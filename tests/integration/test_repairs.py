"""What operators do when a record or derived state is in the way: skip, reset, replay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis

from streams.dead_letters import dead_letter
from streams.errors import BadRecord, ConfigurationError
from streams.kafka.connection import producer
from streams.kafka.topics import ensure_topics
from streams.records import Scored, decoder
from streams.settings import Settings
from streams.spec.layout import unpack
from tests.faults.harness import Output, Workers, card_fraud_module, caught_up, publish
from tests.integration.test_bad_input import T0, event, events
from tests.integration.test_dead_letters import Command
from tests.unit.streams.test_dead_letters import record
from tests.waiting import until
from workers.operations.dead_letters import read_dead_letters, replay
from workers.operations.rates import rates


async def test_a_record_is_skipped_only_where_the_group_stands(
    settings: Settings, tmp_path: Path
) -> None:
    pipeline = card_fraud_module(tmp_path, "skipping")
    topics, driftloop = pipeline.topics, Command(settings, tmp_path)
    await ensure_topics(settings, pipeline)
    await publish(settings, topics.events, events("a", 5), partition=0)
    with Workers(settings, pipeline, tmp_path) as workers:
        worker = workers.start("score")
        async with Output(settings, topics.predictions) as predictions:
            await predictions.wait(5)
            await until(lambda: caught_up(settings, pipeline, "score", topics.events), "committed")
            worker.end()
            await publish(settings, topics.events, events("b", 3), partition=0)
            said = driftloop("skip", f"{topics.events}-0-6", "skipping", "--yes", code=1)
            assert "stands at offset 5" in said
            said = driftloop("skip", "elsewhere-0-5", "skipping", "--yes", code=1)
            assert "is not a record that a worker reads" in said
            driftloop("skip", f"{topics.events}-0-5", "skipping", "--yes")
            workers.start("score")
            await predictions.wait(7)
            await predictions.settle()
    assert len(predictions.records) == 7
    [letter] = await read_dead_letters(settings, pipeline)
    assert (letter.cause, letter.source) == ("skipped", (topics.events, 0, 5))
    assert letter.value == event("b0", tx_time=T0)


async def test_state_that_was_reset_comes_back_from_the_topics(
    settings: Settings, tmp_path: Path
) -> None:
    pipeline = card_fraud_module(tmp_path, "resetting")
    topics, driftloop = pipeline.topics, Command(settings, tmp_path)
    await ensure_topics(settings, pipeline)
    count = pipeline.feature_names.index("customer_id_count_1d")
    with Workers(settings, pipeline, tmp_path) as workers:
        worker, labeller = workers.start("score"), workers.start("label")
        async with Output(settings, topics.scored) as scored:
            await publish(settings, topics.events, events("a", 10), partition=0)
            await scored.wait(10)
            assert "stop them first" in driftloop("state", "reset", "resetting", "--yes", code=1)
            worker.end()
            labeller.end()
            with redis.Redis.from_url(settings.redis.get_secret_value()) as client:
                client.set("{another}key", b"x")
                said = driftloop("state", "reset", "resetting", "--yes")
                assert list(client.scan_iter("{resetting}*")) == []
                assert client.get("{another}key") == b"x"
            assert "label stores of resetting" in said
            assert not (settings.state_dir / "labels" / "resetting").exists()
            for role in ("score", "label"):  # labels come back, too
                workers.start(role)
            last = [(b"ann", event("b", tx_time=T0 + 50))]
            await publish(settings, topics.events, last, partition=0)
            await scored.wait(11)
    served = decoder(Scored).decode(scored.records[-1].value)
    assert unpack([served.vector])[0, count] == 11.0


async def test_a_replay_reads_what_was_not_kept_and_goes_to_inputs_only(
    settings: Settings, tmp_path: Path
) -> None:
    pipeline = card_fraud_module(tmp_path, "replaying")
    topics, driftloop = pipeline.topics, Command(settings, tmp_path)
    await ensure_topics(settings, pipeline)
    large = b"{" + b" " * 600_000
    headers = [("traceparent", b"00-1"), ("attempt", None), ("cause", b"[/x]\x1b[2J")]
    async with producer(settings) as out:
        await out.send(topics.events, key=b"ann", value=large, partition=1, headers=headers)
    with Workers(settings, pipeline, tmp_path) as workers:
        workers.start("score")
        async with (
            Output(settings, topics.dead_letters) as letters,
            Output(settings, topics.events) as events,
        ):
            await letters.wait(1)
            assert len(letters.records[0].value) == 16 << 10
            shown = driftloop("dlq", "list", "replaying") + driftloop(
                "dlq", "show", "1-0", "replaying"
            )
            assert "600,001 bytes" in shown
            assert "\x1b[2J" not in shown
            shown = driftloop("tail", "replaying", "dead-letters", "--beginning", "-n", "1")
            assert "original.attempt" in shown
            driftloop("dlq", "replay", "1-0", "replaying")
            await events.wait(2)
            again = events.records[-1]
            assert (again.key, again.value, again.partition) == (b"ann", large, 1)
            assert [one for one in again.headers if one[0] == "traceparent"] == headers[:1]
            await letters.wait(3)  # the note, and the record's second dead letter
    forged = dead_letter(record(b"x", topic=topics.models), BadRecord("invalid", "x"))
    beyond = dead_letter(record(b"x", topic=topics.events), BadRecord("invalid", "x"))
    async with producer(settings) as out:
        for key, value, written in (forged, beyond):
            await out.send_and_wait(
                topics.dead_letters, key=key, value=value, headers=written, partition=0
            )
        await out.send_and_wait(
            topics.dead_letters, value=b"?", headers=[("cause", None)], partition=0
        )
    found = await read_dead_letters(settings, pipeline)
    [wrong] = [one for one in found if one.source[0] == topics.models]
    with pytest.raises(ConfigurationError, match="is no input of replaying"):
        await replay(settings, pipeline, [wrong])


async def test_live_rates_count_records_and_not_the_ends_of_transactions(
    settings: Settings, tmp_path: Path
) -> None:
    pipeline = card_fraud_module(tmp_path, "rates")
    await ensure_topics(settings, pipeline)
    samples = rates(settings, pipeline)
    await anext(samples)
    async with producer(settings, transactional_id="rates") as out:
        for k in range(10):
            async with out.transaction():
                await out.send(pipeline.topics.events, key=b"k", value=b"%d" % k, partition=0)
    seen = 0
    async with asyncio.timeout(30):
        while seen < 10:
            [one] = [r for r in await anext(samples) if r.topic == pipeline.topics.events]
            seen = one.records
    [one] = [r for r in await anext(samples) if r.topic == pipeline.topics.events]
    assert one.records == 10
    await samples.aclose()  # type: ignore[attr-defined]
