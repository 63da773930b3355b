"""Cells of live quality: equal to brute force, restated by corrections, each example once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import ConsumerRecord
from structlog.testing import capture_logs

from streams.evaluation.processor import Evaluation
from streams.evaluation.recent import BUCKETS
from streams.evaluation.totals import Total, top_precision
from streams.ports.batches import MicroBatch, OutputRecord, SourceRecord
from streams.records import Example, decoder, encode
from streams.spec import Decision, Evaluate, Feedback, Model, Pipeline, Policies, Slices
from streams.spec.layout import pack
from streams.sums import Cell
from tests.reference.quality import by_cell, measures
from tests.unit.pipelines import declare
from workers.evaluation.metrics import point

DAY = 86_400.0
T0 = 20_000 * DAY
PIPELINE = declare(
    feedback=Feedback(horizon="1h", missing=0, keep="3d"),
    policies=Policies(evaluate=Evaluate(slices=Slices(by=("channel", "amount>200")))),
)


def examples(count: int, seed: int = 0, days: float = 2.0) -> list[Example]:
    """Matured events of three versions, one in ten of class 1, whose scores tell something."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.1).astype(int)
    scores = 1 / (1 + np.exp(-rng.normal(3 * labels - 3, 1.5))).astype(np.float32)
    vectors = np.zeros((count, 6), np.float32)
    vectors[:, 0] = rng.gamma(2, 100, count)
    vectors[np.arange(count), rng.integers(1, 3, count)] = 1.0
    times = T0 + np.sort(rng.uniform(0, days * DAY, count))
    return [
        Example(
            event_id=f"o{i}",
            event_time=float(times[i]),
            vector=vector,
            score=float(scores[i]),
            version=int(rng.integers(3)),
            label=float(labels[i]),
            labelled_at=float(times[i]) + 600,
            origin="feedback" if i % 3 else "horizon",
            key=f"shopper-{rng.integers(40)}",
            decision=int(scores[i] >= 0.5),
        )
        for i, vector in enumerate(pack(vectors))
    ]


def corrected(one: Example, label: float) -> Example:
    return msgspec.structs.replace(
        one, label=label, previous=one.label, origin="correction", labelled_at=one.labelled_at + 9
    )


class Nothing:
    """No version has a reference."""

    async def of(self, version: int) -> None:
        return None


class Topics:
    """`P.examples` and `P.metrics` of one partition."""

    def __init__(self, pipeline: Pipeline = PIPELINE) -> None:
        self.pipeline = pipeline
        self.written: list[SourceRecord] = []
        self.letters: list[OutputRecord] = []
        self.next = 0

    async def evaluator(self) -> Evaluation:
        """One that takes up what was written."""

        async def read(topic: str, partition: int) -> Sequence[SourceRecord]:
            return [one for one in self.written if one.topic == topic]

        found = Evaluation(self.pipeline, 0, read, Nothing())
        assert await found.open({}) == {}
        return found

    async def count(self, evaluator: Evaluation, values: Sequence[Any], first: int = -1) -> None:
        """Count values as consecutive records."""
        first = self.next if first < 0 else first
        topic = self.pipeline.topics.examples
        records = [record(topic, first + i, value) for i, value in enumerate(values)]
        self.next = max(self.next, first + len(values))
        outputs = await evaluator.process(MicroBatch(topic, 0, records, first, first))
        for key, value, _ in outputs[self.pipeline.topics.metrics]:
            self.written.append(record(self.pipeline.topics.metrics, 0, value, key))
        self.letters += outputs[self.pipeline.topics.dead_letters]

    def cells(self) -> dict[tuple[float, int, str], Cell]:
        """As a reader of the topic sees them."""
        latest = {one.key: one.value for one in self.written}
        found = [decoder(Cell).decode(value) for value in latest.values() if value]
        return {(cell.start, cell.version, cell.slice): cell for cell in found if cell.events}


def record(topic: str, offset: int, value: Any, key: bytes | None = b"k") -> SourceRecord:
    data = value if isinstance(value, bytes | None) else encode(value)
    found: SourceRecord = ConsumerRecord(topic, 0, offset, 0, 0, key, data, None, 0, 0, ())
    return found


def check_against_brute_force(topics: Topics, counted: Iterable[Example]) -> None:
    truth, cells = by_cell(topics.pipeline, counted), topics.cells()
    assert cells.keys() == truth.keys()
    for name, found in cells.items():
        expected, total = measures(truth[name]), Total.of([found]).measures()
        assert found.events == len(truth[name])
        ranked = {"average_precision", "roc_auc"}
        for metric, value in expected.items():
            tolerance = 1e-3 if metric in ranked else 1e-9
            assert total[metric] == pytest.approx(value, abs=tolerance), (name, metric)
        assert total.keys() - {"coverage", "label_delay"} == expected.keys()


async def test_what_decisions_cost_is_the_mean_of_the_declared_costs() -> None:
    topics, found = Topics(), examples(3000)
    await topics.count(await topics.evaluator(), found)
    total = Total.of(cell for cell in topics.cells().values() if not cell.slice)
    missed = sum(one.label == 1 and one.decision == 0 for one in found)
    false = sum(one.label == 0 and one.decision == 1 for one in found)
    assert missed > 0
    assert false > 0
    measured = total.measures(costs=((0, 1), (50, 0)))
    assert measured["cost"] == pytest.approx((50 * missed + false) / len(found))
    assert "cost" not in total.measures()


async def test_cells_equal_brute_force() -> None:
    topics, counted = Topics(), examples(3000)
    evaluator = await topics.evaluator()
    for first in range(0, 3000, 700):
        await topics.count(evaluator, counted[first : first + 700])
    check_against_brute_force(topics, counted)
    assert {name[2] for name in topics.cells()} == {"", "channel=web", "channel=app", "amount>200"}


async def test_cells_are_restated_when_labels_change() -> None:
    topics, counted = Topics(), examples(1500, seed=1)
    evaluator = await topics.evaluator()
    await topics.count(evaluator, counted)
    changes = [corrected(one, 1 - one.label) for one in counted[::5]]
    back = [corrected(one, 1 - one.label) for one in changes[::2]]
    await topics.count(evaluator, changes[:100])
    await topics.count(evaluator, [*changes[100:], *back])
    check_against_brute_force(topics, [*counted, *changes, *back])


async def test_another_worker_goes_on_from_what_was_written() -> None:
    topics, counted = Topics(), examples(1200, seed=2)
    for first in range(0, 1200, 300):
        evaluator = await topics.evaluator()
        await topics.count(evaluator, counted[first : first + 300])
        await evaluator.close()
    check_against_brute_force(topics, counted)


async def test_an_example_that_comes_again_is_counted_once() -> None:
    topics, counted = Topics(), examples(900, seed=3)
    await topics.count(await topics.evaluator(), counted[:600])
    await topics.count(await topics.evaluator(), counted[400:], first=400)
    check_against_brute_force(topics, counted)


async def test_label_delay_and_coverage_are_those_at_maturity() -> None:
    topics, counted = Topics(), examples(300, seed=4, days=0.5)
    evaluator = await topics.evaluator()
    await topics.count(evaluator, counted)
    late = [one for one in counted if one.origin == "horizon"]
    await topics.count(evaluator, [corrected(one, 1 - one.label) for one in late])
    total = Total.of(cell for cell in topics.cells().values() if not cell.slice).measures()
    assert total["coverage"] == pytest.approx(200 / 300)
    assert total["label_delay"] == pytest.approx(600.0)


async def test_what_is_no_example_of_the_pipeline_is_set_aside_alone() -> None:
    topics, counted = Topics(), examples(40, seed=5)
    replaced = msgspec.structs.replace
    bad = [
        b"{",
        b'{"event_id": 1}',
        replaced(counted[0], score=[0.1, 0.9]),
        replaced(counted[0], score=1.5),
        replaced(counted[0], decision=7),
    ]
    await topics.count(await topics.evaluator(), [*counted, None, *bad])
    check_against_brute_force(topics, counted)
    causes = [dict(headers)["cause"].decode() for _, _, headers in topics.letters]
    assert causes == ["malformed", *["invalid"] * 4]


async def test_labels_that_are_no_class_are_left_out_and_said_once() -> None:
    topics, counted = Topics(), examples(60, seed=8)
    evaluator = await topics.evaluator()
    numbers = [msgspec.structs.replace(one, label=100.89) for one in counted[40:]]
    with capture_logs() as logs:
        await topics.count(evaluator, numbers[:5])
        await topics.count(evaluator, [*counted[:40], *numbers[5:]])
    check_against_brute_force(topics, counted[:40])
    assert [line["event"] for line in logs] == ["labels that are no class are not measured"]
    assert topics.letters == []
    # once they are classes, and where they were
    await topics.count(evaluator, [corrected(one, 1.0) for one in numbers])
    await topics.count(evaluator, [corrected(one, 7.5) for one in counted[:10]])
    ones = [msgspec.structs.replace(one, label=1.0) for one in numbers]
    check_against_brute_force(topics, [*counted[10:40], *ones])


async def test_events_of_other_features_are_in_no_slice() -> None:
    topics = Topics()
    other = msgspec.structs.replace(examples(1)[0], vector=bytes(4))
    await topics.count(await topics.evaluator(), [other])
    assert [name for *_, name in topics.cells()] == [""]


async def test_several_classes() -> None:
    pipeline = declare(
        model=Model(network=lambda features: features, outputs=3),
        decision=Decision(classes=("a", "b", "c")),
        feedback=Feedback(horizon="1h", missing=0, classes=("a", "b", "c")),
    )
    topics, rng = Topics(pipeline), np.random.default_rng(6)
    scores = rng.dirichlet([0.7] * 3, 800)
    labels = np.array([rng.choice(3, p=row) for row in scores])
    counted = [
        msgspec.structs.replace(
            one, score=row.tolist(), label=float(label), decision=int(row.argmax()), version=1
        )
        for one, row, label in zip(examples(800, days=0.5), scores, labels, strict=True)
    ]
    await topics.count(await topics.evaluator(), counted)
    [cell] = topics.cells().values()
    total = Total.of([cell]).measures()
    hits = [(labels == one) & (scores.argmax(1) == one) for one in range(3)]
    recall = np.mean([hit.sum() / (labels == one).sum() for one, hit in enumerate(hits)])
    assert total["recall"] == pytest.approx(recall)
    assert total["accuracy"] == pytest.approx(np.mean(scores.argmax(1) == labels))
    assert total["log_loss"] == pytest.approx(-np.log(scores[np.arange(800), labels]).mean())
    for name in ("average_precision", "roc_auc"):
        expected = point(name, scores, labels.astype(np.float32))
        assert total[name] == pytest.approx(expected, abs=1e-3)
    assert "bias" not in total


async def test_the_keys_at_the_top() -> None:
    topics, counted = Topics(), examples(500, seed=7, days=0.9)
    counted = [msgspec.structs.replace(one, version=1) for one in counted]
    await topics.count(await topics.evaluator(), counted)
    highest: dict[str, tuple[float, bool]] = {}
    for one in counted:
        score, hit = highest.get(one.key, (0.0, False))
        highest[one.key] = (max(score, float(one.score)), hit or one.label == 1)  # type: ignore[arg-type]
    top = sorted(highest.values(), key=lambda each: -each[0])[:10]
    [cell] = [cell for cell in topics.cells().values() if not cell.slice]
    assert top_precision([cell], 10) == pytest.approx(np.mean([hit for _, hit in top]))


async def test_cells_that_no_label_can_change_are_forgotten_but_for_recent_ones_of_all_events() -> (
    None
):
    topics = Topics()
    evaluator = await topics.evaluator()
    for day in range(20):
        [one] = examples(1)
        await topics.count(
            evaluator, [msgspec.structs.replace(one, event_time=T0 + day * DAY, version=1)]
        )
    starts = {
        part: {cell.start for cell in evaluator.cells if bool(cell.slice) is part}
        for part in (True, False)
    }
    assert starts[True] == {T0 + day * DAY for day in range(15, 20)}
    assert starts[False] == {T0 + day * DAY for day in range(19 - BUCKETS, 20)}
    assert len({start for start, *_ in topics.cells()}) == 20


async def test_cells_of_other_buckets_are_left_alone() -> None:
    topics, counted = Topics(), examples(50)
    await topics.count(await topics.evaluator(), counted)
    evaluate = replace(PIPELINE.policies.evaluate, every="1h")
    hourly = Topics(replace(PIPELINE, policies=replace(PIPELINE.policies, evaluate=evaluate)))
    hourly.written = list(topics.written)
    evaluator = await hourly.evaluator()
    assert evaluator._cells == {}
