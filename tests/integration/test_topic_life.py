"""Topics under running workers: codecs, partitions, retention, new topics, forgotten groups."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import NewPartitions
from aiokafka.protocol.admin import DeleteGroupsRequest

from streams.kafka.connection import admin_client, producer
from streams.kafka.topics import ensure_topics, group_id, topic_exists
from streams.records import Prediction, Scored, decoder
from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.layout import unpack
from tests.faults.harness import (
    Output,
    Workers,
    card_fraud_module,
    caught_up,
    delete_below,
    members,
    publish,
)
from tests.integration.test_bad_input import events
from tests.waiting import until

CODECS = (None, "gzip", "snappy", "lz4", "zstd")


async def in_group(settings: Settings, pipeline: Pipeline, role: str = "score") -> bool:
    return await members(settings, group_id(pipeline.name, role)) > 0


async def test_every_codec_is_read(settings: Settings, tmp_path: Path) -> None:
    pipeline = card_fraud_module(tmp_path, "compressed")
    await ensure_topics(settings, pipeline)
    with Workers(settings, pipeline, tmp_path) as workers:
        worker = workers.start("score")
        async with Output(settings, pipeline.topics.predictions) as predictions:
            for number, codec in enumerate(CODECS, 1):
                async with producer(settings, compression_type=codec) as out:
                    for key, value in events(f"{codec}-", 20):
                        await out.send(pipeline.topics.events, key=key, value=value)
                await predictions.wait(20 * number)
        assert worker.alive, worker.said()


async def test_the_events_are_given_more_partitions_while_workers_run(
    settings: Settings, tmp_path: Path
) -> None:
    pipeline = card_fraud_module(tmp_path, "growing")
    topics = pipeline.topics
    await ensure_topics(settings, pipeline)
    with Workers(settings, pipeline, tmp_path) as workers:
        running = [workers.start("score"), workers.start("label")]
        await until(lambda: in_group(settings, pipeline), "a member")
        async with admin_client(settings) as admin:
            await admin.create_partitions({topics.events: NewPartitions(6)})
        for number in range(6):
            await publish(settings, topics.events, events(f"{number}-", 10), partition=number)
        caught = partial(caught_up, settings, pipeline, "score", topics.events)
        await until(caught, "all events are scored", 90)
        async with Output(settings, topics.predictions) as predictions:
            await predictions.wait(60)
        assert {record.partition for record in predictions.records} == set(range(6))
        assert all(worker.alive for worker in running), [worker.said() for worker in running]


async def test_what_retention_deletes_unread_is_said(settings: Settings, tmp_path: Path) -> None:
    pipeline = card_fraud_module(tmp_path, "trimmed")
    topics = pipeline.topics
    await ensure_topics(settings, pipeline)
    with Workers(settings, pipeline, tmp_path) as workers:
        worker = workers.start("score")
        async with Output(settings, topics.predictions) as predictions:
            await publish(settings, topics.events, events("first", 20), partition=1)
            await predictions.wait(20)
            await until(lambda: caught_up(settings, pipeline, "score", topics.events), "committed")
            worker.end()
            await publish(settings, topics.events, events("later", 180), partition=1)
            await delete_below(settings, topics.events, {1: 150})
            worker = workers.start("score")
            await predictions.wait(70)
            assert b"records were deleted by retention" in worker.log.read_bytes()
            assert b'"records": 130' in worker.log.read_bytes() or "records=130" in worker.said()
            await predictions.settle()
        assert len(predictions.records) == 70


async def test_a_topic_that_is_made_anew_has_state_and_ids_of_its_own(
    settings: Settings, tmp_path: Path
) -> None:
    pipeline = card_fraud_module(tmp_path, "anew")
    topics = pipeline.topics
    await ensure_topics(settings, pipeline)
    count = pipeline.feature_names.index("customer_id_count_1d")
    said = "a topic was deleted, nothing is read from it any more"
    with Workers(settings, pipeline, tmp_path) as workers:
        worker, labeller = workers.start("score"), workers.start("label")
        async with (
            Output(settings, topics.predictions) as predictions,
            Output(settings, topics.scored) as scored,
        ):
            await publish(settings, topics.events, events("old", 30), partition=0)
            await predictions.wait(30)
            async with admin_client(settings) as admin:
                await admin.delete_topics([topics.events])
                await until(lambda: gone(admin, topics.events), "the topic is gone")
            await until(lambda: said in worker.said(), "the worker says so", within=8.0)
            await ensure_topics(settings, pipeline)
            assert await worker.exit_code(40) != 0
            assert "was deleted and made anew" in worker.said()
            assert await labeller.exit_code(40) != 0  # label windows are of the events' state
            workers.start("score")
            await publish(settings, topics.events, events("new", 10), partition=0)
            await predictions.wait(40)
            await scored.wait(40)
    found = [decoder(Scored).decode(record.value) for record in scored.records[30:]]
    assert unpack([one.vector for one in found])[:, count].tolist() == list(range(1, 11))
    ids = [decoder(Prediction).decode(record.value).id for record in predictions.records]
    assert len(set(ids)) == 40


async def test_a_topic_that_is_written_to_is_made_anew(settings: Settings, tmp_path: Path) -> None:
    pipeline = card_fraud_module(tmp_path, "written")
    topics = pipeline.topics
    await ensure_topics(settings, pipeline)
    with Workers(settings, pipeline, tmp_path) as workers:
        worker = workers.start("score")
        async with Output(settings, topics.predictions) as predictions:
            await publish(settings, topics.events, events("old", 30), partition=0)
            await predictions.wait(30)
        async with admin_client(settings) as admin:
            await admin.delete_topics([topics.predictions])
        said = "a topic was deleted, making it anew without what was in it"
        await until(lambda: said in worker.said(), "the worker says so", within=8.0)
        await until(lambda: topic_exists(settings, topics.predictions), "it is there")
        async with Output(settings, topics.predictions) as predictions:
            await publish(settings, topics.events, events("new", 10), partition=0)
            await predictions.wait(10)
        assert worker.alive, worker.said()


async def gone(admin: Any, topic: str) -> bool:
    return topic not in await admin.list_topics()


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_a_group_whose_offsets_have_expired_goes_on_where_it_was(
    settings: Settings, tmp_path: Path, delivery: str
) -> None:
    settings = settings.model_copy(update={"delivery": delivery})
    pipeline = card_fraud_module(tmp_path, f"expired-{delivery.replace('_', '-')}")
    topics = pipeline.topics
    await ensure_topics(settings, pipeline)
    with Workers(settings, pipeline, tmp_path) as workers:
        async with Output(settings, topics.predictions) as predictions:
            worker = workers.start("score")
            await publish(settings, topics.events, events("first", 40), partition=0)
            await publish(settings, topics.events, events("other", 7), partition=3)
            await predictions.wait(47)
            await until(lambda: caught_up(settings, pipeline, "score", topics.events), "committed")
            worker.end()
            group = group_id(pipeline.name, "score")
            async with admin_client(settings) as admin:
                node = await admin.find_coordinator(group)
                answer = await admin._send_request(DeleteGroupsRequest([group]), node)
                assert [code for _, code in answer.results] == [0]
            worker = workers.start("score")
            await publish(settings, topics.events, events("later", 10), partition=0)
            await predictions.wait(57)
            await predictions.settle()
            assert worker.alive, worker.said()
            assert "going on where the work had come to" in worker.said()
    assert len(predictions.records) == 57
