"""Estimators beside the network, on the card world: `python -m tests.bench.estimators`.

Each learns from the same training slice and is measured on the same later one. The ONNX file is run
by onnxruntime on one thread, beside the library's own answer to the same batches on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from streams.pipelines.card_fraud import pipeline as declared
from streams.spec import LightGBM, Model, Pipeline, Sklearn, XGBoost
from streams.spec.estimators import Ready
from tests.bench.training import DAY, EVALUATE, FIRST, LAST, VALIDATE, examples
from workers.evaluation.metrics import measures
from workers.evaluation.opponent import evaluate
from workers.examples.reading import Examples, columns
from workers.releases.onnx_files import run, session
from workers.training import fit
from workers.training.candidate import Candidate, class_weights
from workers.training.estimators import learning
from workers.training.export import build
from workers.training.preparing import Normalise
from workers.training.slices import Spans, cut

BATCH = 1024
SECONDS = 1.0
"""For which each is asked again and again."""
END = (LAST + 1) * DAY
SPANS = Spans(
    ((FIRST + 1) * DAY, END - (VALIDATE + EVALUATE) * DAY),
    (END - (VALIDATE + EVALUATE) * DAY, END - EVALUATE * DAY),
    (END - EVALUATE * DAY, END),
)
HEAD = ("", "train, s", "AUC", "AP", "ONNX, kB", "served, µs a row", "own, µs", "own/served")
FITS: dict[str, Ready] = {
    "XGBoost": XGBoost(
        n_estimators=50, learning_rate=0.3, max_depth=3, tree_method="exact", base_score=0.5
    ),
    "LightGBM": LightGBM(n_estimators=100, num_leaves=31, learning_rate=0.1),
    "random forest": Sklearn(lambda: RandomForestClassifier(100, min_samples_leaf=5)),
    "logistic regression": Sklearn(
        lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    ),
}
Answers = Callable[[NDArray[np.float32]], object]


class Measured(NamedTuple):
    """What came of one."""

    name: str
    candidate: Candidate
    seconds: float
    """Of training, export and its check."""
    served: float
    """Microseconds a row, by onnxruntime; by the library itself."""
    own: float


def measured(found: Examples) -> Iterator[Measured]:
    """Every one in turn."""
    sliced = cut(found, SPANS)
    held = np.resize(sliced.evaluate.vector, (BATCH, sliced.evaluate.vector.shape[1]))
    yield _measured("network", declared, found, fit.train, (held, _network()))
    for name, one in FITS.items():
        pipeline = replace(declared, model=Model(fit=one))
        yield _measured(name, pipeline, found, learning.train, (held, _library(pipeline, found)))


def _measured(
    name: str,
    pipeline: Pipeline,
    found: Examples,
    train: Callable[[Pipeline, Examples, Spans], Candidate],
    asked: tuple[NDArray[np.float32], Answers],
) -> Measured:
    begun = time.perf_counter()
    candidate = train(pipeline, found, SPANS)
    seconds = time.perf_counter() - begun
    (batch, own), loaded = asked, session(candidate.onnx)
    served = _microseconds(lambda rows: run(loaded, rows), batch)
    return Measured(name, candidate, seconds, served, _microseconds(own, batch))


def _library(pipeline: Pipeline, found: Examples) -> Answers:
    """What the library itself answers, fitted to the same."""
    sliced = cut(found, SPANS)
    weights = class_weights(sliced.train.label, 2, pipeline.training["positive_weight"])
    slices = [(part.vector, part.label) for part in (sliced.train, sliced.validate)]
    training = learning.training_of(pipeline, (slices[0], slices[1]), weights)
    learned = learning.fitted(pipeline, training)
    assert learned.predict is not None
    return learned.predict


def _network() -> Answers:
    """The network with weights as drawn: they change nothing in what it costs."""
    width = len(declared.feature_names)
    network = torch.nn.Sequential(Normalise(np.zeros(width), np.ones(width)), build(declared))
    network.eval()
    torch.set_num_threads(1)

    def answer(rows: NDArray[np.float32]) -> object:
        with torch.inference_mode():
            return torch.sigmoid(network(torch.from_numpy(rows)))

    return answer


def _microseconds(ask: Answers, batch: NDArray[np.float32]) -> float:
    """Median of a row."""
    ask(batch)
    found, ends = [], time.perf_counter() + SECONDS
    while time.perf_counter() < ends:
        begun = time.perf_counter()
        ask(batch)
        found.append(time.perf_counter() - begun)
    return float(np.median(found)) / len(batch) * 1e6


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.estimators", description=__doc__)
    parser.add_argument("--customers", type=int, default=2000)
    given = parser.parse_args()
    found = columns(list(examples(given.customers)), declared)
    held = cut(found, SPANS).evaluate
    console = Console()
    table = Table(title=f"{len(found):,} examples, {int(held.label.sum())} frauds to be found")
    for name in (
        "",
        "train, s",
        "AUC",
        "AP",
        "ONNX, kB",
        "served, µs a row",
        "own, µs",
        "own/served",
    ):
        table.add_column(name, justify="right")
    for one in measured(found):
        quality = measures(evaluate(one.candidate.onnx, held), held.label)
        table.add_row(
            one.name,
            f"{one.seconds:.1f}",
            f"{quality['roc_auc']:.4f}",
            f"{quality['average_precision']:.4f}",
            f"{len(one.candidate.onnx) / 1000:,.0f}",
            f"{one.served:.2f}",
            f"{one.own:.2f}",
            f"{one.own / one.served:.1f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
