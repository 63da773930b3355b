"""False alarms of the drift test without drift, its delay with one, beside other detectors.

    python -m tests.bench.drift [--only alarms candidates cost] [--train 11] [--customers 1000]
        [--seeds 30] [--detectors ours]

Worlds of the Handbook, each of its own seed, with its 15 features and a logistic regression's
score. A version is trained on so many days, five more are held out, labels take seven, and then 30
days are served; a drift begins on the tenth. Delays are in days: 0 is found in the day it begins.
river's detectors stand beside where river is installed (`pip install river`). The others are spared
`is_weekend`, which differs from day to day and would alarm them on each. Tables are Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from aiokafka import ConsumerRecord
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, ks_2samp

from streams.distributions import Binning, Distribution, Reference
from streams.evaluation.served import ServedCounts
from streams.ports.batches import MicroBatch
from streams.records import Scored, encode
from streams.spec import Column, Drift, Event, Feedback, Model, Pipeline
from streams.spec.layout import pack
from tests.bench.gate import chance, fitted
from tests.reference.handbook_features import DAY, NAMES, fast_features
from tests.unit.pipelines import Order
from workers.evaluation.drift import judge
from workers.evaluation.reference import SliceColumns, reference_of
from workers.worlds.card_fraud import World, simulate

WARM, HELD, LABELS, LIVE, BEGINS = 50, 5, 7, 30, 10
"""Days until windows are full, held out, until labels are there, served, and before the drift."""
POLICY = Drift()
SPARED = [number for number, name in enumerate((*NAMES, "score")) if name != "is_weekend"]
"""The columns that the others look at."""
Floats = NDArray[np.float64]


class Stream(NamedTuple):
    """A world: what was trained on, and what is served."""

    time: Floats
    day: NDArray[np.int64]
    key: NDArray[np.int64]
    x: NDArray[np.float32]
    """[n, 16]: the features and the score."""
    first: int
    """The first day that is served."""

    def columns(self, day: int) -> NDArray[np.float32]:
        """[n, 16] of a day."""
        found: NDArray[np.float32] = self.x[self.day == day]
        return found

    @property
    def live(self) -> range:
        """The days that are served."""
        return range(self.first, self.first + LIVE)


class Bench:
    """A seed's world, without drift and with each."""

    def __init__(self, seed: int, customers: int, train: int, live: int = LIVE) -> None:
        self._seed = seed
        self._train = range(WARM, WARM + train)
        self._first = WARM + train + HELD + LABELS
        days = self._first + live
        world = World(customers, 2 * customers, days, radius=7.0, seed=seed)
        self._frame = simulate(world)
        features = fast_features(self._frame)
        self._model = self._fitted(features, self._train)
        self.still = self._stream(self._frame, features)
        self.reference = self._reference(self.still, self._train)
        self.trained = self.still.x[np.isin(self.still.day, self._train)]

    def drifts(self) -> Iterator[tuple[str, Stream]]:
        """A stream with each of the drifts."""
        after = self._frame["day"].to_numpy() >= self._first + BEGINS
        since = np.maximum(0, self._frame["day"].to_numpy() - self._first - BEGINS + 1)
        for name, factor in (
            ("amounts x 1.5", np.where(after, 1.5, 1.0)),
            ("amounts rise by 3 % a day", 1.03**since),
        ):
            frame = self._frame.assign(amount=(self._frame["amount"] * factor).round(2))
            yield name, self._stream(frame, fast_features(frame))
        features = fast_features(self._frame)
        broken = features.copy()
        broken[after, NAMES.index("customer_count_1d")] = 0.0
        yield "a count is always 0", self._stream(self._frame, broken)
        shared = features.copy()
        chosen = after & (np.random.default_rng(1).random(len(after)) < 0.15)
        shared[chosen, NAMES.index("is_night")] = 1.0
        yield "15 % become a category", self._stream(self._frame, shared)
        stream = self._stream(self._frame, features)
        stream.x[after, -1] = chance(self._model.logit(features[after]) + 1.0)
        yield "scores' logits + 1", stream

    def _stream(self, frame: pd.DataFrame, features: Floats) -> Stream:
        scores = chance(self._model.logit(features))
        return Stream(
            frame["seconds"].to_numpy(np.float64),
            frame["day"].to_numpy(np.int64),
            frame["customer_id"].to_numpy(np.int64),
            np.column_stack([features, scores]).astype(np.float32),
            self._first,
        )

    def candidates(self, stream: Stream) -> list[int]:
        """On which days after the drift began its candidates came to serve, if all are let through.

        None is made but for drift, so that nothing else ends one.
        """
        found, due, reference = list[int](), 0, self.reference
        for day in range(stream.first, int(stream.day.max()) + 1):
            if due and day >= due + LABELS:
                days = range(due - HELD - len(self._train), due - HELD)
                stream.x[:, -1] = chance(self._fitted(stream.x, days).logit(stream.x[:, :-1]))
                reference, due = self._reference(stream, days), 0
                found.append(day - stream.first - BEGINS)
            if not due and judge(reference, _cell(reference, stream, day), POLICY).alarms:
                due = day + 1
        return found

    def _fitted(self, x: NDArray[Any], days: range) -> Any:
        rows = np.isin(self._frame["day"].to_numpy(), days)
        labels = self._frame["is_fraud"].to_numpy(np.float64)[rows]
        return fitted(x[rows, : len(NAMES)].astype(np.float64), labels)

    def _reference(self, stream: Stream, days: range) -> Reference:
        trained, later = (
            self._seen(stream, days),
            self._seen(stream, range(days.stop, days.stop + HELD)),
        )
        return reference_of(list(NAMES), trained, later, DAY, seed=self._seed)

    def _seen(self, stream: Stream, days: range) -> SliceColumns:
        rows = np.isin(stream.day, days)
        span = (days.start * DAY, days.stop * DAY)
        x = stream.x[rows]
        return SliceColumns(span, stream.time[rows], x[:, :-1], x[:, -1:], stream.key[rows])


Detector = Callable[[Bench, Stream], list[bool]]
"""Which of the days that are served are alarms."""


def ours(policy: Drift) -> Detector:
    """What this is a benchmark of."""

    def detect(bench: Bench, stream: Stream) -> list[bool]:
        return [bool(judge(bench.reference, cell, policy).alarms) for cell in _cells(bench, stream)]

    return detect


def _cells(bench: Bench, stream: Stream) -> Iterator[Distribution]:
    for day in stream.live:
        yield _cell(bench.reference, stream, day)


def _cell(reference: Reference, stream: Stream, day: int) -> Distribution:
    columns = stream.columns(day)
    cell = Distribution(day * DAY, DAY, 1, events=len(columns))
    Binning(reference).add(cell, columns)
    return cell


def always(bench: Bench, stream: Stream) -> list[bool]:
    """Fires every day: no delay, and every alarm false."""
    return [True for _ in stream.live]


def index_above(level: float) -> Detector:
    """The stability index of any column above a fixed level."""

    def detect(bench: Bench, stream: Stream) -> list[bool]:
        found = [judge(bench.reference, cell, POLICY).columns for cell in _cells(bench, stream)]
        return [
            max(one.psi for one in columns if one.column != "is_weekend") > level
            for columns in found
        ]

    return detect


def kolmogorov_smirnov(bench: Bench, stream: Stream) -> list[bool]:
    """A two-sample test of each column against what was trained on; Bonferroni over columns."""
    return [
        any(
            ks_2samp(bench.trained[:, one], day[:, one], method="asymp").pvalue
            < POLICY.rate / len(SPARED)
            for one in SPARED
        )
        for day in map(stream.columns, stream.live)
    ]


def chi_squared(bench: Bench, stream: Stream) -> list[bool]:
    """The same bins as ours as one multinomial for all days; Bonferroni over columns."""
    references = [np.array(one.counts) for one in bench.reference.columns.values()]

    def unlike(reference: NDArray[np.int64], counts: Sequence[int]) -> bool:
        table = np.stack([reference, np.array(counts)])
        table = table[:, table.sum(axis=0) > 0]
        return bool(chi2_contingency(table).pvalue < POLICY.rate / len(SPARED))

    return [
        any(unlike(references[one], cell.counts[one]) for one in SPARED)
        for cell in _cells(bench, stream)
    ]


def river_detector(make: Callable[[Any], Any]) -> Detector:
    """One of river's for each column, fed with every event since training; any that fires."""

    def detect(bench: Bench, stream: Stream) -> list[bool]:
        from river import drift

        mean, scale = bench.trained.mean(axis=0), bench.trained.std(axis=0) + 1e-9
        rows = (stream.day >= WARM) & (stream.day < stream.first + LIVE)
        days, values = stream.day[rows], (stream.x[rows] - mean) / scale
        alarms = set[int]()
        for column in values[:, SPARED].T:
            detector = make(drift)
            for day, value in zip(days.tolist(), column.tolist(), strict=True):
                detector.update(value)
                if detector.drift_detected:
                    alarms.add(day)
        return [day in alarms for day in stream.live]

    return detect


DETECTORS: dict[str, Detector] = {
    "ours": ours(POLICY),
    "ours, rate=0.1 and least=0": ours(Drift(rate=0.1, least=0.0)),
    "always fires": always,
    "stability index > 0.25": index_above(0.25),
    "chi-squared, Bonferroni": chi_squared,
    "Kolmogorov-Smirnov, Bonferroni": kolmogorov_smirnov,
}
RIVER: dict[str, Detector] = {
    "river ADWIN": river_detector(lambda drift: drift.ADWIN()),
    "river PageHinkley": river_detector(lambda drift: drift.PageHinkley()),
}


def alarms(options: argparse.Namespace) -> None:
    """False alarms and delays of each detector."""
    known = DETECTORS | (RIVER if importlib.util.find_spec("river") else {})
    detectors = {name: one for name, one in known.items() if name.startswith(options.detectors)}
    false = defaultdict[str, list[float]](list)
    delays = defaultdict[tuple[str, str], list[float]](list)
    for seed in range(options.seeds):
        bench = Bench(seed, options.customers, options.train)
        for name, detect in detectors.items():
            false[name].append(float(np.mean(detect(bench, bench.still))))
        for drift, stream in bench.drifts():
            for name, detect in detectors.items():
                found = detect(bench, stream)[BEGINS:]
                delays[name, drift].append(float(np.argmax(found)) if any(found) else np.inf)
    kinds = list(dict.fromkeys(drift for _, drift in delays))
    print(
        f"\n{options.seeds} worlds of {options.customers:,} customers, trained on {options.train} "
        f"days; declared: {POLICY.rate:.1%} of days.\n"
    )
    print(f"| Detector | False alarms, of days | {' | '.join(kinds)} |")
    print(f"|---|---|{'---|' * len(kinds)}")
    for name in detectors:
        said = [_delay(delays[name, drift]) for drift in kinds]
        print(f"| {name} | {np.mean(false[name]):.1%} | {' | '.join(said)} |", flush=True)


def _delay(found: list[float]) -> str:
    """Median and largest delay; how many were found, where not all were."""
    known = [one for one in found if np.isfinite(one)]
    if not known:
        return "none found"
    missed = "" if len(known) == len(found) else f", {len(known)} of {len(found)} found"
    return f"{np.median(known):g} (most {max(known):g}){missed}"


def candidates(options: argparse.Namespace) -> None:
    """What a drift that goes on makes."""
    print("\n| World | Days after the drift began on which a candidate of it came to serve |")
    print("|---|---|")
    for seed in range(min(10, options.seeds)):
        bench = Bench(seed, options.customers, options.train, live=70)
        _, stream = next(bench.drifts())
        found = ", ".join(map(str, bench.candidates(stream)))
        print(f"| {seed} | {found} |", flush=True)


class Served(NamedTuple):
    """A pipeline of many columns, and what counts for it."""

    pipeline: Pipeline
    reference: Reference

    async def of(self, version: int) -> Reference:
        """The reference of any version."""
        return self.reference


def cost(options: argparse.Namespace) -> None:
    """What counting an event costs, with decoding and without, and what the records weigh."""
    del options
    print("\n| Features | An event | Of it decoding | Cell | Reference | Making a reference |")
    print("|---|---|---|---|---|---|")
    for features in (15, 100, 400):
        print(asyncio.run(_cost(features, batches=40, size=2000)), flush=True)


async def _cost(features: int, batches: int, size: int) -> str:
    rng = np.random.default_rng(1)
    names = [f"f{number}" for number in range(features)]
    pipeline = Pipeline(
        name="bench",
        event=Event(Order, id="order_id", key="shopper", time="at"),
        features=[Column("amount")],
        model=Model(network=lambda width: width),
        feedback=Feedback(horizon="1h", missing=0, keep="1h"),
    )
    pipeline.__dict__["feature_names"] = tuple(names)  # as wide as is asked for
    count = 50_000
    seen = SliceColumns(
        (0, 20 * DAY),
        np.linspace(0, 20 * DAY, count, endpoint=False),
        rng.normal(size=(count, features)).astype(np.float32),
        rng.random((count, 1)),
        rng.integers(0, 2000, count),
    )
    began = time.perf_counter()
    reference = reference_of(names, seen, seen, DAY)
    making = time.perf_counter() - began
    served = Served(pipeline, reference)
    counts, schema = ServedCounts(pipeline, served), pipeline.schema_hash
    vectors = pack(rng.normal(size=(batches * size, features)).astype(np.float32))
    records: list[Any] = [
        ConsumerRecord(
            "t",
            0,
            number,
            0,
            0,
            b"k",
            encode(Scored(f"e{number}", 1e9 + number, {}, vector, 0.5, 1, schema=schema)),
            None,
            0,
            0,
            (),
        )
        for number, vector in enumerate(vectors)
    ]
    began, written = time.perf_counter(), b""
    for first in range(0, len(records), size):
        batch = MicroBatch("t", 0, records[first : first + size], first, first)
        written = (await counts.count(batch))[-1][1] or b""
    each = (time.perf_counter() - began) / len(records)
    began = time.perf_counter()
    for record in records:
        counts._read(record)
    decoding = (time.perf_counter() - began) / len(records)
    return (
        f"| {features} | {each * 1e6:.1f} µs | {decoding * 1e6:.1f} µs | {len(written):,} bytes | "
        f"{len(encode(reference)):,} bytes | {making:.1f} s |"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = {"alarms": alarms, "candidates": candidates, "cost": cost}
    parser.add_argument("--only", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--customers", type=int, default=1000)
    parser.add_argument("--train", type=int, default=11)
    parser.add_argument("--detectors", default="", help="how the names of those to run begin")
    options = parser.parse_args()
    for name in options.only:
        parts[name](options)
    print(f"\nProcessor seconds: {time.process_time():.0f}.")


if __name__ == "__main__":
    main()
