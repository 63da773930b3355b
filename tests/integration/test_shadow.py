"""The shadow on real servers: what it writes, and what a challenger that fails does not stop."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import msgspec
import psutil
import pytest

from streams.adapters.triton.scorer import TritonScorer
from streams.kafka.topics import ensure_topics
from streams.records import encode
from streams.settings import Settings
from streams.spec import Pipeline
from tests.faults.harness import Output, Workers, card_fraud_module, caught_up, publish
from tests.models import challenge, linear, publish_rivals
from tests.shadowing import T0, compared, examples, served, vectors
from tests.stack import own_stack
from tests.waiting import until
from workers.releases.onnx_files import run, session
from workers.rollouts.shadowed import read_shadowed

EVENTS = 400


def says(pipeline: Pipeline, data: bytes, count: int) -> list[float]:
    """What a model says of the events, computed here."""
    scores: list[float] = run(session(data), vectors(pipeline, count))[:, 0].tolist()
    return scores


async def test_what_was_served_is_compared_and_what_was_trained_on_is_not(
    settings: Settings, tmp_path: Path
) -> None:
    pipeline = card_fraud_module(tmp_path / "work", "shadow-compares")
    topics, width = pipeline.topics, len(pipeline.feature_names)
    await ensure_topics(settings, pipeline)
    challenger = linear(width, 0.5)
    second = await publish_rivals(settings, pipeline, linear(width), challenger)
    second = msgspec.structs.replace(second, slices={"train": [0, T0 + 50], "evaluate": [0, T0]})
    await challenge(settings, pipeline, second, since=T0 + 100)
    await publish(settings, topics.scored, served(pipeline, EVENTS))
    await publish(settings, topics.examples, examples(pipeline, EVENTS))
    await publish(settings, topics.scored, [(b"c1", b"{no json")])
    with Workers(settings, pipeline, tmp_path / "work") as workers:
        worker = workers.start("shadow")
        async with (
            Output(settings, topics.shadow) as out,
            Output(settings, topics.dead_letters) as letters,
        ):
            await out.wait(2 * (EVENTS - 50))
            await out.settle()
            await letters.settle()
        assert worker.alive, worker.said()
        assert letters.records == []
        assert worker.times_said(b"records cannot be read") == 1
    found = compared(out.records)
    expected = says(pipeline, challenger, EVENTS)
    for known in (False, True):
        ours = {one.event_id: one for one in found if (one.label is not None) == known}
        assert set(ours) == {f"e{number}" for number in range(50, EVENTS)}
        for number in range(50, EVENTS):
            one = ours[f"e{number}"]
            assert (one.champion, one.champion_score, one.challenger) == (1, 0.5, 2)
            assert one.challenger_score == pytest.approx(expected[number], abs=1e-5)
            assert one.since == T0 + 100
            assert one.label == (float(number % 2) if known else None)
    assert len(found) == 2 * (EVENTS - 50)
    read = await read_shadowed(settings, pipeline, most=100 * EVENTS)
    assert read is not None
    assert sorted(map(encode, read)) == sorted(map(encode, found))
    assert await read_shadowed(settings, pipeline, most=EVENTS) is None


async def test_no_challenger_and_a_dead_one_hold_nothing_up(
    settings: Settings, tmp_path: Path
) -> None:
    """Without a challenger it commits and writes nothing; a dead one is given up, and said."""
    pipeline = card_fraud_module(tmp_path / "work", "shadow-goes-on")
    topics, width = pipeline.topics, len(pipeline.feature_names)
    await ensure_topics(settings, pipeline)
    second = await publish_rivals(settings, pipeline, linear(width), linear(width, 0.5))
    await publish(settings, topics.scored, served(pipeline, EVENTS))

    async def at_the_end() -> bool:
        return await caught_up(settings, pipeline, "shadow", topics.scored)

    with Workers(settings, pipeline, tmp_path / "work") as workers:
        worker = workers.start("shadow", shadow_patience=2.0)
        async with Output(settings, topics.shadow) as out:
            await until(at_the_end, "all committed", said=worker.said)
            await challenge(settings, pipeline, msgspec.structs.replace(second, version=7))
            await until(lambda: worker.times_said(b"shadowing"), "it knows", said=worker.said)
            await publish(settings, topics.scored, served(pipeline, EVENTS, EVENTS))
            await until(at_the_end, "given up", said=worker.said)
            assert worker.times_said(b"the challenger does not answer") == 1
            await out.settle()
            assert out.records == []
            await challenge(settings, pipeline, second)
            await until(lambda: worker.times_said(b"shadowing") > 1, "it knows", said=worker.said)
            await publish(settings, topics.scored, served(pipeline, EVENTS, 2 * EVENTS))
            await out.wait(EVENTS)
        assert worker.alive, worker.said()
    assert {one.challenger for one in compared(out.records)} == {2}


async def test_a_challenger_that_hangs_delays_neither_the_champion_nor_the_shadow_for_long(
    tmp_path: Path,
) -> None:
    pipeline = card_fraud_module(tmp_path / "work", "shadow-hangs")
    topics, width = pipeline.topics, len(pipeline.feature_names)
    with ExitStack() as ending:
        stack, settings = ending.enter_context(own_stack(tmp_path / "stack"))
        await ensure_topics(settings, pipeline)
        second = await publish_rivals(settings, pipeline, linear(width), linear(width, 0.5))
        await challenge(settings, pipeline, second)
        hanging = model_processes(stack.pids()["triton"], pipeline.name, 2)
        assert hanging
        for process in hanging:
            process.suspend()
            ending.callback(process.kill)
        champion = TritonScorer(settings, pipeline.name, 1)
        workers = ending.enter_context(Workers(settings, pipeline, tmp_path / "work"))
        worker = workers.start("shadow", shadow_patience=2.0)
        await publish(settings, topics.scored, served(pipeline, EVENTS))
        gave_up = b"the challenger does not answer"
        while not worker.times_said(gave_up):
            async with asyncio.timeout(1.0):
                await champion.infer(1, vectors(pipeline, 50))
            await asyncio.sleep(0.05)
            assert worker.alive, worker.said()
        await until(
            lambda: caught_up(settings, pipeline, "shadow", topics.scored),
            "all committed",
            said=worker.said,
        )
        assert worker.times_said(gave_up) == 1
        await champion.close()


def model_processes(triton: int, name: str, version: int) -> list[psutil.Process]:
    """The processes in which the embedded Triton runs a version."""
    children = psutil.Process(triton).children(recursive=True)
    return [one for one in children if f"/{name}/{version}/" in " ".join(one.cmdline())]
