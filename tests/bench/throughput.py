"""Events per second and CPU per event of Driftloop and its rivals, on one stack, in one run.

    python -m tests.bench.throughput --workload stateless --only ours confluent --rounds 3

Starts Kafka, Triton and Valkey, loads each workload's topic once, and lets every contender score
the same records with the same model, one after the other, round by round. All write the same two
records an event (prediction, and what was scored), to topics of their own, and commit; rivals
deliver at least once, our worker exactly once unless its line says otherwise. A rate is taken
from a tenth of the events (or 2 s after the first prediction) to the last, or until `--seconds`
are over: start-up is not in it. The first contender runs once more before all, to warm the broker
up, and each is first in its turn. The first round's vectors and scores are compared.

The rivals' environment is made once and kept in the cache directory.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import redis
from rich.console import Console

from streams.errors import ConfigurationError, DriftloopError
from streams.kafka import workarounds
from streams.settings import Settings, load_settings
from tests.bench.contenders import CONTENDERS, ContenderFailed, Starter, peers_python
from tests.bench.loading import create_topics, drop_topics, prepare, rewind
from tests.bench.measuring import Answers, Limits, Span, measure, read_answers
from tests.bench.reporting import Report, Results, print_table
from tests.bench.servers import servers
from tests.bench.workloads import WORKLOADS, Workload
from workers.devstack.stack import Stack

EVENTS = {"stateless": 500_000, "card-fraud": 200_000, "pictures": 200_000, "messages": 200_000}
AGREEMENT = {"stateless": 1.0, "card-fraud": 0.98, "pictures": 1.0, "messages": 1.0}
"""Least share of events on which a rival's vector and score are ours. A terminal's payments lie
in all partitions, which no two runs read in quite the same order."""

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    workload: Sequence[str]
    events: int | None
    rounds: int
    seconds: float
    partitions: int
    only: Sequence[str]
    json: Path | None


def main() -> None:
    """The program."""
    workarounds.apply()
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--workload",
        nargs="+",
        choices=list(WORKLOADS),
        default=list(WORKLOADS),
        help="what to run (default: both)",
    )
    add(
        "--events",
        type=_positive,
        help="events to load (default: 500,000 stateless, 200,000 card-fraud)",
    )
    add("--rounds", type=_positive, default=3, help="times each contender runs (default: 3)")
    add("--seconds", type=_positive, default=10, help="longest span of a run (default: 10)")
    add("--partitions", type=_positive, default=4, help="of the events' topic (default: 4)")
    add(
        "--only",
        nargs="+",
        choices=list(CONTENDERS),
        default=list(CONTENDERS),
        help="contenders to run (default: all)",
    )
    add("--json", type=Path, metavar="FILE", help="write the report there too")
    options = Options(**vars(parser.parse_args()))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # contenders end as after Ctrl-C
    try:
        run(options)
    except DriftloopError as error:
        console.print(f"error: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def run(options: Options) -> Report:
    """Run the benchmark; prints tables, writes the report, returns it.

    Raises:
        DriftloopError: a server or a contender failed; says which.
    """
    if options.json and not options.json.absolute().parent.is_dir():
        raise ConfigurationError(f"--json {options.json}: no such directory - make it first")
    rivals = any(CONTENDERS[name].program for name in options.only)
    cache = load_settings().cache_dir
    python = peers_python(cache, console.print) if rivals else None
    with servers(options.partitions, console.print) as (stack, settings):
        report = Report.begin(options.partitions, options.rounds, python)
        for name in options.workload:
            bench = Bench(options, settings, name, stack, python)
            report.workloads[name] = asyncio.run(bench.run())
            print_table(name, report.workloads[name])
    if options.json:
        report.write(options.json)
    return report


class Bench:
    """All rounds on one workload."""

    def __init__(
        self, options: Options, settings: Settings, name: str, stack: Stack, python: Path | None
    ) -> None:
        self._options = options
        self._settings = settings
        self._name = name
        self._workload: Workload = WORKLOADS[name]
        self._servers = stack.pids()
        self._events = options.events or EVENTS[name]
        self._starter = Starter(settings, self._workload, name, settings.state_dir / name, python)
        self._reference: tuple[str, Answers] | None = None

    async def run(self) -> Results:
        """Spans and agreement of each contender."""
        with console.status(f"{self._name}: loading {self._events:,} events"):
            await prepare(self._settings, self._workload, self._events)
        names, rounds = list(self._options.only), self._options.rounds
        results = Results(self._events, {name: [] for name in CONTENDERS if name in names})
        with self._starter.workers:
            # round 0 is for the broker, whose code is compiled while it runs: it counts for nobody
            for number in range(rounds + 1):
                first = max(0, number - 1) % len(names)  # each is first in its turn
                for name in names[first:] + names[:first] if number else names[:1]:
                    title = f"{self._name}, round {number} of {rounds}: {name}"
                    with console.status(title):
                        span = await self._once(name, number, results)
                    if number:
                        results.spans[name].append(span)
                        console.print(f"{title}: {span.rate:,.0f} events/s")
        return results

    async def _once(self, name: str, number: int, results: Results) -> Span:
        """One contender, once, on empty topics and an empty feature state."""
        contender = CONTENDERS[name]
        topics = contender.topics(self._workload)
        await drop_topics(self._settings, topics)
        await create_topics(self._settings, topics)
        await rewind(self._settings, self._workload.pipeline)
        with redis.Redis.from_url(self._settings.redis.get_secret_value()) as client:
            client.flushall()
        limits = Limits(self._events, self._options.seconds)
        worker = self._starter.start(contender, f"{name}-{number}")
        try:
            span = await measure(self._settings, topics[0], worker, self._servers, limits)
        except ContenderFailed as error:
            raise ContenderFailed(f"{name}: {error}") from None
        finally:
            await asyncio.to_thread(worker.end)
        if number == 1:
            results.agreement[name] = await self._compare(name, topics[1], span)
        await drop_topics(self._settings, topics)
        return span

    async def _compare(self, name: str, topic: str, span: Span) -> float:
        """Share of events on which a contender agrees with the first one."""
        answers = await read_answers(self._settings, topic, self._workload.pipeline.layout)
        if span.complete and len(answers.rows) != self._events:
            raise ContenderFailed(f"{name}: {len(answers.rows)} of {self._events} events scored")
        if self._reference is None:
            self._reference = name, answers
            return 1.0
        first, reference = self._reference
        share = reference.agreement(answers)
        if share < AGREEMENT[self._name]:
            raise ContenderFailed(f"{name} agrees with {first} on {share:.1%} of the events only")
        return share


if __name__ == "__main__":
    main()
