"""The judge finds nothing in a sound run, and each offence where it is done on purpose."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from aiokafka import ConsumerRecord

from streams.records import encode
from streams.spec.layout import pack, unpack
from streams.testing import Rehearsal
from tests.faults.judge import Judge
from tests.faults.truth import CAUSE, SPEED, START, Generator, Sent, Truth, event_id, label_of
from tests.faults.watched import pipeline

HISTORY, LIVE, STEP = 2000, 2000, 540
COLUMNS = len(pipeline.feature_names)
"""Events, and seconds of event time between the live ones: 12 days in all."""


class AnyScore:
    """Takes every score that is not negative."""

    def add(self, name: str, version: int, vector: bytes, score: float) -> list[str]:
        del version, vector
        return [name] if score < 0 else []

    def rest(self) -> list[str]:
        return []


@dataclass
class Run:
    """What went in and what came out, as records in the order of their topics."""

    source: list[Sent] = field(default_factory=list)
    predictions: list[Any] = field(default_factory=list)
    scored: list[Any] = field(default_factory=list)
    examples: list[Any] = field(default_factory=list)
    dead_letters: list[dict[str, str]] = field(default_factory=list)

    @property
    def keys(self) -> dict[str, bytes | None]:
        """The key of each event."""
        good = (sent for sent in self.source if not sent.cause)
        return {orjson.loads(sent.value)["transaction_id"]: sent.key for sent in good}


@pytest.fixture(scope="module")
def sound() -> Run:
    """The product's own code in memory, on one partition."""
    return asyncio.run(rehearsed())


async def rehearsed() -> Run:
    """A sound run."""
    run, generator = Run(), Generator(3, 1, customers=100, terminals=50, recent=40)
    run.source = generator.history(HISTORY)
    live = [generator.live(START + i * STEP) for i in range(LIVE)]
    run.source += [sent for sent in live if sent.cause != "missing-key"]  # a rehearsal makes keys
    rehearsal = Rehearsal(pipeline, lambda v: np.full((len(v), 1), 0.5, np.float32))
    for start in range(0, len(run.source), 100):
        result = await rehearsal.score([s.value for s in run.source[start : start + 100]])
        run.predictions += result.predictions
        run.scored += result.scored
        run.examples += result.examples
        run.dead_letters += result.dead_letters
        labels = [label_of(int(p.event_id[1:])) for p in result.predictions]
        await rehearsal.label(
            {"event_id": p.event_id, "label": label, "labelled_at": p.event_time + 3600}
            for p, label in zip(result.predictions, labels, strict=True)
            if label is not None and p.event_time >= START - 4 * 86_400
        )
    return run


def judged(run: Run, *, exactly_once: bool = True, pause: int = 1) -> Judge:
    """The judge after a run, in which outputs were read after each `pause` events."""
    judge = Judge(Truth(HISTORY), AnyScore(), exactly_once)
    keys = run.keys
    waiting = [
        (
            take,
            deque(_record(i, keys.get(o.event_id), encode(o), ()) for i, o in enumerate(outputs)),
        )
        for outputs, take in (
            (run.predictions, judge.prediction),
            (run.scored, judge.scored),
            (run.examples, judge.example),
        )
    ]
    waiting.append((judge.dead_letter, deque(map(_letter, run.dead_letters))))
    for offset, sent in enumerate(run.source):
        headers = ((CAUSE, sent.cause.encode()),) if sent.cause else ()
        judge.source(_record(offset, sent.key, sent.value, headers))
        if (offset + 1) % pause == 0 or offset + 1 == len(run.source):
            for take, records in waiting:
                while records and take(records[0]):
                    records.popleft()
    judge.conclude(sum(len(records) for _, records in waiting))
    return judge


def _output(one: Any, keys: dict[str, bytes | None]) -> ConsumerRecord:
    return _record(0, keys.get(one.event_id), encode(one), ())


def _letter(letter: dict[str, str]) -> ConsumerRecord:
    headers = tuple((name, text.encode()) for name, text in letter.items() if name != "value")
    return _record(0, None, letter["value"].encode(), headers)


def _record(
    offset: int, key: bytes | None, value: bytes, headers: tuple[tuple[str, bytes], ...]
) -> ConsumerRecord:
    return ConsumerRecord("topic", 0, offset, 0, 0, key, value, None, 0, 0, headers)


def test_a_sound_run_has_no_offence(sound: Run) -> None:
    judge = judged(sound)
    assert dict(judge.offences) == {"invented": 0}
    assert judge.open == 0


def test_outputs_that_come_a_minute_late_are_no_offence(sound: Run) -> None:
    judge = judged(sound, pause=60 * SPEED // STEP)
    assert dict(judge.offences) == {"invented": 0}
    assert judge.counts["predicted"] > HISTORY + 0.9 * LIVE
    assert min(judge.counts[name] for name in ("repeated", "bad", "examples")) > 10
    windows = unpack([one.vector for one in sound.scored[-1000:]])
    assert windows[:, 3:].max(axis=0).min() > 0, "a feature that is always zero proves nothing"


def first(outputs: list[Any]) -> Any:
    """One in the middle of the live stream."""
    return outputs[len(outputs) * 3 // 4]


def changed(outputs: list[Any], **fields: Any) -> None:
    """Change that one."""
    at = len(outputs) * 3 // 4
    outputs[at] = msgspec.structs.replace(outputs[at], **fields)


def other_id(run: Run) -> None:
    """A prediction says that its event is the record after its own."""
    offset = int(first(run.predictions).id.partition("-")[2])
    changed(run.predictions, id=f"0-{offset + 1}")


def nudge(run: Run, column: int) -> None:
    """Another number in one column of a vector, which then belongs to other events."""
    vectors = unpack([first(run.scored).vector])
    vectors[0, column] += 1
    changed(run.scored, vector=pack(vectors)[0])


def swap(run: Run) -> None:
    """Two predictions of one customer change places."""
    keys = run.keys
    names = [keys[one.event_id] for one in run.predictions]
    at = next(i for i, name in enumerate(names) if name in names[i + 1 :])
    other = names.index(names[at], at + 1)
    found = run.predictions
    found[at], found[other] = found[other], found[at]


@pytest.mark.parametrize(
    ("offence", "harm"),
    [
        ("lost", lambda run: run.predictions.pop(3000)),
        ("doubled", lambda run: run.predictions.append(first(run.predictions))),
        ("out of order", swap),
        *(
            ("wrong features", lambda run, c=column: nudge(run, c))
            for column in range(len(pipeline.feature_names))
        ),
        ("wrong score", lambda run: changed(run.predictions, score=-1.0)),
        ("wrong content", other_id),
        ("wrong content", lambda run: changed(run.predictions, event_time=1.0)),
        ("scored lost", lambda run: run.scored.pop()),
        ("scored doubled", lambda run: run.scored.append(first(run.scored))),
        ("dead letters lost", lambda run: run.dead_letters.pop()),
        ("dead letters doubled", lambda run: run.dead_letters.append(run.dead_letters[0])),
        ("dead letters wrong", lambda run: run.dead_letters[0].update(cause="other")),
        ("dead letters wrong", lambda run: run.dead_letters[0].update(value="other")),
        ("examples lost", lambda run: run.examples.pop(10)),
        ("examples doubled", lambda run: run.examples.append(first(run.examples))),
        ("examples wrong", lambda run: changed(run.examples, label=0.5)),
        ("examples wrong", lambda run: changed(run.examples, origin="correction")),
        ("invented", lambda run: changed(run.predictions, event_id=event_id(10**9))),
    ],
)
def test_each_offence_is_found(sound: Run, offence: str, harm: Callable[[Run], object]) -> None:
    run = copy.copy(sound)
    for name in ("predictions", "scored", "examples"):
        setattr(run, name, list(getattr(run, name)))
    run.dead_letters = [dict(letter) for letter in run.dead_letters]
    harm(run)
    judge = judged(run)
    assert judge.offences[offence] >= 1
    assert offence in judge.named or offence == "invented"


def test_an_identical_repeat_is_no_offence_under_at_least_once(sound: Run) -> None:
    run = copy.copy(sound)
    run.predictions = [*run.predictions, first(run.predictions)]
    judge = judged(run, exactly_once=False)
    assert judge.offences.total() == 0
    assert judge.counts["repeats"] == 1


def test_a_repeat_with_another_id_is_an_offence_under_at_least_once(sound: Run) -> None:
    run = copy.copy(sound)
    other = msgspec.structs.replace(first(run.predictions), id="0-7")
    run.predictions = [*run.predictions, other]
    assert judged(run, exactly_once=False).offences["wrong content"] == 1
