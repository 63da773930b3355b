"""Training by one process and by two, on the card world: `python -m tests.bench.training`.

Each run reads the same examples from Kafka and makes a candidate by another seed. The first seed of
two processes is run once more as it was, and once by the command `torchrun`: both have to make the
same file.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from streams.kafka.topics import ensure_topics
from streams.records import Example
from streams.settings import Settings
from streams.spec.layout import pack
from tests.reference.handbook_features import fast_features
from tests.stack import own_stack
from tests.synthetic import write_examples
from workers.environment import environment, find_pipeline
from workers.releases.repository import digest
from workers.training.job import JOB, MODEL, Job, Step, run_job
from workers.training.slices import Spans
from workers.worlds.card_fraud import World, simulate

DAY, PARTITIONS = 86_400.0, 8
FIRST, LAST = 38, 64
"""Days of the world whose examples are learned from and judged on."""
VALIDATE, EVALUATE = 2, 5
PIPELINE = """
import os
from dataclasses import replace
from streams.pipelines.card_fraud import pipeline as declared
parameters = {**declared.model.parameters, "seed": int(os.environ["BENCH_SEED"])}
pipeline = replace(declared, model=replace(declared.model, parameters=parameters))
"""
console = Console()


class Made(NamedTuple):
    """What a run made."""

    sha256: str
    seconds: float
    """Of the whole run; of reading, before torch starts; of an epoch."""
    reading: float
    epoch: float
    precision: float
    """Average precision of the evaluation slice."""
    epochs: float


def examples(customers: int) -> Iterator[Example]:
    """The world's payments, as the labeller writes them."""
    frame = simulate(World(customers=customers, terminals=2 * customers, days=LAST, radius=7.0))
    vectors = pack(fast_features(frame).astype(np.float32))
    days = frame["day"].to_numpy()
    for i in np.flatnonzero(days >= FIRST):
        row = frame.iloc[i]
        at = float(row["seconds"])
        yield Example(
            event_id=str(i),
            event_time=at + DAY,
            vector=vectors[i],
            score=0.0,
            version=0,
            label=float(row["is_fraud"]),
            labelled_at=at + 8 * DAY,
            origin="feedback",
            key=str(row["customer_id"]),
        )


async def made(settings: Settings, job: Job, seed: int) -> Made:
    """One run."""
    os.environ["BENCH_SEED"] = str(seed)
    begun, read, epochs = time.monotonic(), 0.0, [0.0]

    def take(step: Step) -> None:
        nonlocal read
        if step.stage == "read":
            read = time.monotonic() - begun
        elif step.stage == "train":
            epochs.append(step.seconds)

    judged = await run_job(settings, job, take)
    metrics = judged.manifest.metrics
    return Made(
        judged.manifest.model_sha256,
        time.monotonic() - begun,
        read,
        float(np.median(np.diff(epochs))),
        metrics["average_precision"],
        metrics["epoch"],
    )


async def by_torchrun(settings: Settings, job: Job, seed: int) -> tuple[str, float]:
    """The file's digest, and seconds, where the command `torchrun` starts the same two ranks."""
    given = {**os.environ, **environment(settings), "BENCH_SEED": str(seed)}
    given["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", str(job.processes))
    with tempfile.TemporaryDirectory(prefix="driftloop-bench-") as name:
        (Path(name) / JOB).write_bytes(msgspec.json.encode(job))
        begun = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *torchrun, "-m", "workers.training.child", name),
            env=given,
            stdout=asyncio.subprocess.DEVNULL,
        )
        if await process.wait():
            raise RuntimeError(f"torchrun ended with {process.returncode}")
        return digest((Path(name) / MODEL).read_bytes()), time.monotonic() - begun


async def measure(settings: Settings, folder: Path, customers: int, seeds: int) -> None:
    """Write the examples, run, and tell."""
    (folder / "trained.py").write_text(PIPELINE)
    sys.path.insert(0, str(folder))
    os.environ["BENCH_SEED"] = "0"
    pipeline = find_pipeline("trained")
    await ensure_topics(settings, pipeline)
    topic, found = pipeline.topics.examples, list(examples(customers))
    await write_examples(settings, topic, found, PARTITIONS)
    end = (LAST + 1) * DAY
    spans = Spans(
        ((FIRST + 1) * DAY, end - (VALIDATE + EVALUATE) * DAY),
        (end - (VALIDATE + EVALUATE) * DAY, end - EVALUATE * DAY),
        (end - EVALUATE * DAY, end),
    )
    counts = np.bincount(
        [sum(e.key.encode()) % PARTITIONS for e in found], minlength=PARTITIONS
    ).tolist()
    offsets = {f"{topic}-{p}": [0, count] for p, count in enumerate(counts)}
    job = Job("trained", offsets, end, spans.as_manifest())
    runs = {
        processes: [
            await made(settings, msgspec.structs.replace(job, processes=processes), seed)
            for seed in range(seeds)
        ]
        for processes in (1, 2)
    }
    first, two = runs[2][0].sha256, msgspec.structs.replace(job, processes=2)
    again = await made(settings, two, 0)
    torchrun, seconds = await by_torchrun(settings, two, 0)
    tell(len(found), runs)
    for name, sha256 in (("again", again.sha256), (f"by torchrun, {seconds:.1f} s", torchrun)):
        same = "the same bytes" if sha256 == first else "OTHER BYTES"
        console.print(f"two processes, the first seed {name}: {same} ({sha256[:16]})")


def tell(count: int, runs: dict[int, list[Made]]) -> None:
    """The table, and the difference beside the seeds' spread."""
    table = Table(title=f"{count:,} examples, {len(runs[1])} seeds")
    for name in ("processes", "a run, s", "reading, s", "an epoch, s", "average precision"):
        table.add_column(name, justify="right")
    for processes, found in runs.items():
        values = np.array([[r.seconds, r.reading, r.epoch, r.precision] for r in found])
        mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1)
        quality = f"{mean[3]:.4f} ± {spread[3]:.4f}"
        table.add_row(str(processes), *(f"{one:.2f}" for one in mean[:3]), quality)
    console.print(table)
    one, two = (np.array([r.precision for r in runs[n]]) for n in (1, 2))
    spread = float(np.sqrt((one.var(ddof=1) + two.var(ddof=1)) / 2))
    console.print(f"two minus one {two.mean() - one.mean():+.4f}; spread of the seeds {spread:.4f}")


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.training", description=__doc__)
    parser.add_argument("--customers", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="driftloop-bench-") as name:
        home = Path(name)
        with own_stack(home / "state", partitions=PARTITIONS) as (_, settings):
            asyncio.run(measure(settings, home, given.customers, given.seeds))


if __name__ == "__main__":
    main()
