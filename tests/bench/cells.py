"""What a cell of live quality costs, and how far its metrics are from those of the scores.

    python -m tests.bench.cells

Scores whose log-odds are normal, those of class 1 higher by `--apart`, are counted into one cell in
batches of 2,000.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from streams.evaluation.cells import Counted, add
from streams.evaluation.totals import Total
from streams.records import encode
from streams.spec.tasks import Task
from streams.sums import Cell
from workers.evaluation.metrics import point

BATCH = 2_000


def row(count: int, share: float, apart: float) -> str:
    """A row of the table, for one cell."""
    rng = np.random.default_rng(1)
    labels = (rng.random(count) < share).astype(np.float64)
    odds = rng.normal(apart * labels - 4, 1.5)
    scores = (1 / (1 + np.exp(-odds))).astype(np.float32).astype(np.float64)
    keys = [str(key) for key in rng.integers(0, 5_000, count)]
    everything = Counted(
        labels=labels,
        scores=scores[:, None],
        decisions=(scores >= 0.5).astype(np.int64),
        weights=np.ones(count, np.int64),
        keys=keys,
        fed_back=np.ones(count, np.int64),
        delays=np.zeros(count),
    )
    cell, began, written = Cell(0.0, 86_400.0, 1, "champion", ""), time.perf_counter(), b""
    for first in range(0, count, BATCH):
        add(
            cell,
            everything.select(np.arange(first, min(first + BATCH, count))),
            Task("binary", 1),
            200,
        )
        written = encode(cell)
    each = (time.perf_counter() - began) / count * 1e6
    found = Total.of([cell]).measures()
    names = ("average_precision", "roc_auc")
    off = [abs(found[name] - point(name, scores, labels.astype(np.float32))) for name in names]
    return (
        f"| {count:,} | {share:.0%} | {apart:g} | {off[0]:.5f} | {off[1]:.5f} | {each:.1f} µs | "
        f"{len(written):,} |"
    )


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, nargs="+", default=[2_000, 10_000, 50_000, 200_000])
    parser.add_argument("--apart", type=float, nargs="+", default=[1.0, 3.0])
    options = parser.parse_args()
    print("| Events | Class 1 | Apart | AP off by | AUC off by | An example | Bytes of the cell |")
    print("|---|---|---|---|---|---|---|")
    for count in options.events:
        for share in (0.01, 0.1):
            for apart in options.apart:
                print(row(count, share, apart))


if __name__ == "__main__":
    main()
