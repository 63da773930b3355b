"""A flame graph of the hot path: a scoring worker on a backlog, sampled by py-spy.

    make profile                         # writes profile.svg; open it in a browser
    python -m tests.bench.profile --events 500000 --out profile.svg

py-spy starts the worker as its child, which needs no rights; its samples include start-up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory

from streams.errors import ConfigurationError
from streams.kafka import workarounds
from streams.kafka.topics import ensure_topics
from streams.settings import Settings
from tests.bench.loading import publish_network, write_events
from tests.bench.measuring import Limits, measure
from tests.bench.open_loop import events
from tests.bench.servers import servers
from tests.faults.harness import ROOT, Worker, card_fraud_module
from workers.environment import environment


async def profile(settings: Settings, count: int, out: Path) -> float:
    """Drain a backlog under the sampler; returns events a second."""
    sampler = Path(sysconfig.get_path("scripts")) / "py-spy"
    if not sampler.exists():
        raise ConfigurationError(f"no {sampler} - install the `dev` extra")
    with TemporaryDirectory() as directory:
        folder = Path(directory)
        pipeline = card_fraud_module(folder, "profiled")
        await ensure_topics(settings, pipeline)
        await publish_network(settings, pipeline)
        await write_events(settings, pipeline, events(0, count))
        log = folder / "worker.log"
        process = _sampled(sampler, settings, pipeline.name, log, out)
        try:
            topic = pipeline.topics.predictions
            span = await measure(settings, topic, Worker(process, log), {}, Limits(count, 120.0))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    return span.rate


def _sampled(
    sampler: Path, settings: Settings, module: str, log: Path, out: Path
) -> subprocess.Popen[bytes]:
    """A scoring worker as the sampler's child."""
    options = ["record", "--rate", "250", "--threads", "--output", str(out.resolve())]
    path = os.pathsep.join([str(log.parent), str(ROOT)])
    with log.open("wb") as file:
        return subprocess.Popen(
            [sampler, *options, "--", sys.executable, "-m", "workers.cli", "score", module],
            env={**os.environ, **environment(settings), "PYTHONPATH": path},
            stdout=file,
            stderr=file,
            cwd=log.parent,
        )


def main() -> None:
    """Profile and say where the picture is."""
    workarounds.apply()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--out", type=Path, default=Path("profile.svg"))
    options = parser.parse_args()
    with servers() as (_, settings):
        rate = asyncio.run(profile(settings, options.events, options.out))
    print(f"{rate:,.0f} events/s under the sampler; flame graph: {options.out}")


if __name__ == "__main__":
    main()
