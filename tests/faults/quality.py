"""Whether `P.metrics` and `P.drift` say what was served and labelled, once all of it was read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import pytest

from streams.distributions import Distribution
from streams.evaluation.totals import Total
from streams.kafka.offsets import offsets_client
from streams.kafka.reading import TopicFollower
from streams.kafka.topics import group_id
from streams.ledger.topic import read_state
from streams.ports.batches import SourceRecord
from streams.records import Example, Scored, decoder
from streams.settings import Settings
from streams.spec import Pipeline
from streams.sums import Cell
from tests.reference.quality import by_cell, measures, value_measures
from tests.reference.served import wrong_distributions
from tests.waiting import until

_CAUGHT_UP = 60.0
_decode_example, _decode_cell = decoder(Example).decode, decoder(Cell).decode
_decode_scored, _decode_drift = decoder(Scored).decode, decoder(Distribution).decode


async def wrong_cells(settings: Settings, pipeline: Pipeline) -> list[str]:
    """The cells that are missing, too many, or not those of brute force."""
    examples = await _by_partition(settings, pipeline.topics.examples)
    ends = {number: records[-1].offset + 1 for number, records in examples.items()}
    topic = pipeline.topics.examples
    await until(
        lambda: _counted(settings, pipeline, ends, topic), "the evaluators are done", _CAUGHT_UP
    )
    latest = await _by_partition(settings, pipeline.topics.metrics)
    wrong = []
    for number in examples | latest:
        truth = by_cell(pipeline, [_decode_example(one.value or b"") for one in examples[number]])
        newest = {one.key: _decode_cell(one.value or b"") for one in latest[number]}
        cells = {(c.start, c.version, c.slice): c for c in newest.values() if c.events}
        wrong += [
            f"{number}: {name}"
            for name in truth.keys() | cells.keys()
            if not _same(pipeline, cells.get(name), truth.get(name))
        ]
    return wrong


def _same(pipeline: Pipeline, cell: Cell | None, examples: list[Example] | None) -> bool:
    """Rankings are left out: the versions of a run give scores that are closer than a bin."""
    if cell is None or examples is None:
        return False
    task = pipeline.predicts
    expected = measures(examples) if task.classes else value_measures(examples, task.quantiles)
    found = Total.of([cell]).measures()
    exact = expected.keys() - {"average_precision", "roc_auc"}
    return cell.events == len(examples) and all(
        found.get(name) == pytest.approx(expected[name], abs=1e-9) for name in exact
    )


async def wrong_drift(settings: Settings, pipeline: Pipeline) -> list[str]:
    """The records of `P.drift` that are missing, too many, or not those of brute force."""
    served = await _by_partition(settings, pipeline.topics.scored)
    ends = {number: records[-1].offset + 1 for number, records in served.items()}
    topic = pipeline.topics.scored
    await until(
        lambda: _counted(settings, pipeline, ends, topic), "what was served is counted", _CAUGHT_UP
    )
    versions = (await read_state(settings, pipeline)).versions
    references = {number: made.reference for number, made in versions.items()}
    latest = await _by_partition(settings, pipeline.topics.drift)
    wrong = []
    for number in served | latest:
        newest = {one.key: _decode_drift(one.value or b"") for one in latest[number]}
        events = [_decode_scored(one.value or b"") for one in served[number]]
        found = wrong_distributions(pipeline, references, events, newest.values())
        wrong += [f"{number}: {name}" for name in found]
    return wrong


async def _counted(
    settings: Settings, pipeline: Pipeline, ends: Mapping[int, int], topic: str
) -> bool:
    group = group_id(pipeline.name, "evaluate")
    async with offsets_client(settings) as asked:
        found = await asked.committed(group, topic, ends)
    return all((found[number] or 0) >= end for number, end in ends.items())


async def _by_partition(settings: Settings, topic: str) -> defaultdict[int, list[SourceRecord]]:
    follower = TopicFollower(settings, topic)
    await follower.start()
    found = defaultdict[int, list[SourceRecord]](list)
    try:
        for record in await follower.read_to_end():
            found[record.partition].append(record)
    finally:
        await follower.stop()
    return found
