"""Training a network to a candidate: a pure function of examples, slices, parameters and seed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from streams.spec import Pipeline
from workers.evaluation.values import loss_bound
from workers.examples.reading import Examples
from workers.training.begun import packed
from workers.training.candidate import (
    Candidate,
    choose_threshold,
    label_numbers,
    statistics,
    versions,
)
from workers.training.epochs import How, fit, logits
from workers.training.export import export, verify
from workers.training.kept import kept, with_kept
from workers.training.losses import loss_of
from workers.training.preparing import Normalise, as_tensors, preparing
from workers.training.slices import Spans, cut, require_support

_KIND = "network"
"""Of what a file carries for the next candidate."""


class _Plan(msgspec.Struct):
    """What the first rank tells the others before they begin."""

    mean: list[float]
    scale: list[float]
    labels: list[float]
    """What the loss is made from."""
    begins: bytes | None
    """The champion's weights."""


def train(
    pipeline: Pipeline,
    examples: Examples,
    slices: Spans,
    how: How | None = None,
    own: Examples | None = None,
    champion: bytes | None = None,
) -> Candidate:
    """Train a candidate on the training slice; the evaluation slice is not looked at.

    The same arguments give the same bytes on the same machine. The first of several ranks calls
    this with all examples, and with its own of the training slice; the others call `assist`. It
    begins with the weights that the champion's file carries, where one is given.

    Raises:
        TrainingError: too few examples or positives, or the loss is not finite.
        ModelError: the network cannot be exported, or its export answers otherwise.
    """
    how = how or How()
    parameters = dict(pipeline.training)
    sliced = cut(examples, slices)
    require_support(sliced, pipeline.policies.retrain, pipeline.predicts)
    seed = int(parameters["seed"])
    mean, scale = statistics(sliced.train.vector, pipeline.normalised)
    normalise = Normalise(mean, scale)
    numbers = label_numbers(pipeline, sliced.train.label)
    loss, how = loss_of(pipeline, numbers), replace(how, begins=kept(champion, _KIND))
    plan = _Plan(mean.tolist(), scale.tolist(), numbers, how.begins)
    how.ranks.broadcast(msgspec.json.encode(plan))
    with _deterministic(seed, how) as device:
        own = sliced.train if own is None else own
        found = fit(pipeline, normalise, loss, (own, sliced.validate), how)
        prepare = preparing(pipeline.layout, normalise.cpu())
        served = loss.served(prepare, found.network.cpu())
        data = export(served, pipeline.layout)
        verify(data, served, sliced.validate.rows[:2048])
        scores = logits(served, as_tensors(sliced.validate.rows))
        if pipeline.policies.retrain.warm_start:
            data = with_kept(data, _KIND, packed(found.network))
    label = {"label": numbers} if pipeline.predicts.numeric else {}
    return Candidate(
        onnx=data,
        threshold=_threshold(pipeline, scores, sliced.validate.label),
        normalisation={"mean": mean.tolist(), "scale": scale.tolist(), **label},
        counts=sliced.counts,
        parameters=parameters,
        seed=seed,
        metrics={
            "validation": found.metric,
            "epoch": float(found.epoch),
            "training_seconds": round(found.seconds, 3),
            **loss_bound(pipeline.predicts, scores, sliced.validate.label),
        },
        environment=environment(device, how),
    )


def assist(pipeline: Pipeline, own: Examples, how: How) -> None:
    """Help the first rank to train, with this rank's examples of the training slice.

    Raises:
        TrainingError: the loss is not finite.
    """
    plan = msgspec.json.decode(how.ranks.broadcast(b""), type=_Plan)
    normalise = Normalise(np.array(plan.mean), np.array(plan.scale))
    with _deterministic(int(pipeline.training["seed"]), how):
        how = replace(how, begins=plan.begins)
        fit(pipeline, normalise, loss_of(pipeline, plan.labels), (own, None), how)


def _threshold(
    pipeline: Pipeline, scores: NDArray[np.float32], labels: NDArray[np.float32]
) -> float:
    """What the version decides by; 0.5 where no score is held against it."""
    return choose_threshold(scores, labels) if pipeline.predicts.thresholds else 0.5


def environment(device: torch.device, how: How) -> dict[str, str]:
    """What decides the bytes that come out, beside examples and parameters."""
    ranks = how.ranks
    several = {"processes": str(ranks.size), "backend": ranks.backend} if ranks.size > 1 else {}
    hardware = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return {
        **versions("onnx", "numpy"),
        "torch": str(torch.__version__),
        "device": hardware,
        "threads": str(how.threads),
        **several,
    }


@contextlib.contextmanager
def _deterministic(seed: int, how: How) -> Iterator[torch.device]:
    """Fixed seed, deterministic algorithms, and few threads; as it was before, afterwards."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    device = how.ranks.device()
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        torch.set_num_threads(how.threads)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(seed)
        try:
            yield device
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1])
