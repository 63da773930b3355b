"""`make faults`: a seeded schedule of faults under load, judged from outside.

The short run has one fault of each kind at least, and takes about six minutes; `--hours`
goes on for so long. Exits with 1, and keeps every log, where a guarantee was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import orjson
import structlog

from streams.kafka import workarounds
from streams.kafka.topics import ensure_topics
from streams.settings import Settings
from streams.spec import Pipeline
from tests.faults.cluster import Cluster
from tests.faults.harness import Workers, card_fraud_module, child_environment
from tests.faults.marks import Mark
from tests.faults.quality import wrong_cells, wrong_drift
from tests.faults.report import Recovery, Report
from tests.faults.schedule import ROUND, Fault, Kind, schedule
from tests.stack import own_stack
from workers.devstack.stack import Stack

SESSION = 6.0
GIVEN_UP = 60.0
"""Seconds after which a recovery is called off, and counted as that long."""
_VERDICT = 180.0


@dataclass
class Oracle:
    """The oracle's process, as seen from here."""

    process: asyncio.subprocess.Process
    log: Path
    status: dict[str, Any] = field(default_factory=dict)
    verdict: dict[str, Any] | None = None

    async def listen(self) -> None:
        """Take in what it says, until its end."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said = orjson.loads(line)
            if "verdict" in said:
                self.verdict = said["verdict"]
            else:
                self.status = said

    async def live(self) -> None:
        """Return when the history is scored and the live stream runs.

        Raises:
            RuntimeError: the oracle has ended.
        """
        while not self.status.get("live"):
            self._check()
            await asyncio.sleep(0.1)

    async def recovered(self, mark: Mark, partitions: int) -> Recovery:
        """Wait until every partition has an output of an event sent after the mark."""
        seconds = 0.0
        while seconds < GIVEN_UP:
            self._check()
            newest, at = self.status[mark.stream].values(), self.status["at"]
            # a new partition has no examples before its first events have matured
            least = partitions if mark.stream == "examples" else self.status["partitions"]
            there = len(newest) >= max(least, mark.partitions)
            seconds = time.time() - mark.since
            if at > mark.since and there and min(newest) > mark.after:
                seconds = at - mark.since
                break
            await asyncio.sleep(0.02)
        return Recovery(mark.what, round(seconds, 2), mark.limit)

    async def conclude(self) -> dict[str, Any]:
        """Stop the stream; the verdict."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"stop\n")
        async with asyncio.timeout(_VERDICT):
            await self.process.wait()
            while self.verdict is None:
                self._check()
                await asyncio.sleep(0.05)
        return self.verdict

    def _check(self) -> None:
        if self.process.returncode:
            raise RuntimeError(f"the oracle ended: {self.log.read_text()[-2000:]}")


@asynccontextmanager
async def running_oracle(
    settings: Settings, pipeline: Pipeline, folder: Path, seed: int, rate: float
) -> AsyncIterator[Oracle]:
    """The oracle as a process of its own."""
    log = folder / "oracle.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.faults.oracle",
            pipeline.name.replace("-", "_"),
            "--seed",
            str(seed),
            "--rate",
            str(rate),
            env=child_environment(settings, folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            limit=1 << 20,
        )
    oracle = Oracle(process, log)
    listening = asyncio.create_task(oracle.listen())
    try:
        yield oracle
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await listening


async def run(arguments: argparse.Namespace, folder: Path) -> Report:
    """One run; all files are in `folder`."""
    report = Report(
        seed=arguments.seed,
        delivery=arguments.delivery,
        command=_command(arguments),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
    )
    begun = time.monotonic()
    pipeline = card_fraud_module(folder / "work", "faults", "tests.faults.watched")
    changes = {"session_timeout_ms": int(SESSION * 1000), "delivery": arguments.delivery}
    with own_stack(folder / "state", **changes) as (stack, settings):
        await ensure_topics(settings, pipeline)
        with Workers(settings, pipeline, folder / "work") as workers:
            await _disturb(arguments, settings, pipeline, stack, workers, report)
    report.load = round(os.getloadavg()[2], 1)
    report.seconds = round(time.monotonic() - begun, 1)
    return report


async def _disturb(
    arguments: argparse.Namespace,
    settings: Settings,
    pipeline: Pipeline,
    stack: Stack,
    workers: Workers,
    report: Report,
) -> None:
    seed, folder = arguments.seed, settings.state_dir.parent / "work"
    async with running_oracle(settings, pipeline, folder, seed, arguments.rate) as oracle:

        async def recovered(mark: Mark) -> None:
            report.recoveries.append(await oracle.recovered(mark, settings.partitions))

        cluster = Cluster(settings, pipeline, stack, workers, Random(seed), recovered)
        _say("starting: servers, a first version, workers, forty days of history")
        await cluster.start()
        await oracle.live()
        watching = asyncio.create_task(cluster.crew.watch())
        try:
            await _inject_all(arguments, cluster, oracle, report)
            await cluster.whole()
            report.verdict = await oracle.conclude()
            for what, look in (("cells wrong", wrong_cells), ("drift wrong", wrong_drift)):
                wrong = await look(settings, pipeline)
                report.verdict["offences"][what] = len(wrong)
                report.verdict["named"][what] = wrong[:5]
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        report.endings = cluster.crew.endings


async def _inject_all(
    arguments: argparse.Namespace, cluster: Cluster, oracle: Oracle, report: Report
) -> None:
    deadline = time.monotonic() + arguments.hours * 3600
    endless = bool(arguments.hours)
    count = 100_000 if endless else arguments.faults
    faults = schedule(arguments.seed, count, SESSION, arguments.kinds or ROUND)
    for number, fault in enumerate(faults, 1):
        if endless and time.monotonic() > deadline:
            break
        await asyncio.sleep(fault.pause)
        before = len(report.recoveries)
        await cluster.inject(fault)
        report.faults.append(fault.kind)
        _progress(number, fault, oracle, report.recoveries[before:])


def _command(arguments: argparse.Namespace) -> str:
    length = f"--hours {arguments.hours:g}" if arguments.hours else f"--faults {arguments.faults}"
    return (
        f"python -m tests.faults.run {length} --seed {arguments.seed} --rate {arguments.rate:g} "
        f"--delivery {arguments.delivery}"
        + (f" --kinds {' '.join(arguments.kinds)}" if arguments.kinds else "")
    )


def _progress(number: int, fault: Fault, oracle: Oracle, recoveries: list[Recovery]) -> None:
    status = oracle.status
    took = ", ".join(f"{one.seconds:.1f} s" for one in recoveries) or "not measured"
    named = "; ".join(f"{what} {' '.join(ids)}" for what, ids in status["named"].items())
    _say(
        f"fault {number} {fault.kind}: recovery {took}; {status['sent']:,} in, "
        f"{status['predicted']:,} out, {status['open']:,} open, "
        f"{status['offences']} offences {named}".rstrip()
    )


def _say(line: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", flush=True)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(prog="python -m tests.faults.run", description=__doc__)
    made.add_argument(
        "--faults", type=int, default=len(ROUND), help=f"how many faults ({len(ROUND)})"
    )
    made.add_argument("--hours", type=float, default=0.0, help="go on for so long instead")
    made.add_argument("--seed", type=int, default=1, help="of events, schedule and choices (1)")
    made.add_argument("--rate", type=float, default=500.0, help="events a second (500)")
    made.add_argument(
        "--delivery",
        choices=["exactly_once", "at_least_once"],
        default="exactly_once",
        help="mode to test (exactly_once)",
    )
    made.add_argument(
        "--kinds",
        nargs="+",
        type=Kind,
        choices=list(Kind),
        metavar="KIND",
        help=f"only these faults, of: {', '.join(Kind)}",
    )
    made.add_argument("--json", type=Path, help="file for the report as JSON")
    made.add_argument("--markdown", type=Path, help="file for the report as Markdown")
    made.add_argument("--keep", type=Path, help="directory for logs and data, kept (temporary)")
    return made


def main() -> None:
    """Run, report, and say by the exit code whether every guarantee was kept."""
    workarounds.apply()
    arguments = parser().parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # servers go away on purpose
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="driftloop-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    report = asyncio.run(run(arguments, folder))
    if arguments.json:
        arguments.json.write_bytes(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2))
    if arguments.markdown:
        arguments.markdown.write_text(report.markdown())
    print("", report.markdown(), sep="\n")
    for line in report.endings:
        print("ended by itself, and was started again:", line)
    if report.broken:
        print("BROKEN:", *report.broken, f"logs: {folder}", sep="\n  ")
        sys.exit(1)
    if not arguments.keep:
        shutil.rmtree(folder)
    print("every guarantee was kept")


if __name__ == "__main__":
    main()
