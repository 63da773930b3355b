"""What the tests of the shadow feed it: events as they were served, and their examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from streams.records import Example, Scored, Shadowed, decoder, encode
from streams.spec import Pipeline
from tests.faults.harness import Record

T0 = 1_700_000_000.0
_decode = decoder(Shadowed).decode


def vectors(pipeline: Pipeline, count: int) -> Any:
    """Float32 [count, features], each row another."""
    width = len(pipeline.feature_names)
    return np.random.default_rng(1).normal(size=(count, width)).astype("<f4")


def served(pipeline: Pipeline, count: int, first: int = 0) -> list[Record]:
    """Records of `P.scored` by version 1: events `e<first>` and on, a second apart."""
    schema = pipeline.schema_hash
    rows = vectors(pipeline, first + count)[first:]
    return [
        (
            b"c%d" % (number % 50),
            encode(Scored(f"e{number}", T0 + number, {}, row.tobytes(), 0.5, 1, None, schema)),
        )
        for number, row in enumerate(rows, first)
    ]


def examples(pipeline: Pipeline, count: int, first: int = 0) -> list[Record]:
    """Records of `P.examples` of the same events."""
    schema = pipeline.schema_hash
    rows = vectors(pipeline, first + count)[first:]
    return [
        (
            b"c%d" % (number % 50),
            encode(
                Example(
                    f"e{number}",
                    T0 + number,
                    row.tobytes(),
                    0.5,
                    1,
                    float(number % 2),
                    T0 + number + 60,
                    "feedback",
                    f"c{number % 50}",
                    schema,
                )
            ),
        )
        for number, row in enumerate(rows, first)
    ]


def compared(records: Iterable[Any]) -> list[Shadowed]:
    """What records of `P.shadow` say."""
    return [_decode(record.value) for record in records]
