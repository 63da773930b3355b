"""Training a network to a candidate: a pure function of examples, slices, parameters and seed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from streams.spec import Pipeline
from workers.examples.reading import Examples
from workers.training.candidate import (
    Candidate,
    choose_threshold,
    class_weights,
    statistics,
    versions,
)
from workers.training.epochs import How, fit, logits
from workers.training.export import ExportedModel, Normalise, export, verify
from workers.training.slices import Spans, cut, require_support


class _Plan(msgspec.Struct):
    """What the first rank tells the others before they begin."""

    mean: list[float]
    scale: list[float]
    weights: list[float]


def train(
    pipeline: Pipeline,
    examples: Examples,
    slices: Spans,
    how: How | None = None,
    own: Examples | None = None,
) -> Candidate:
    """Train a candidate on the training slice; the evaluation slice is not looked at.

    The same arguments give the same bytes on the same machine. The first of several ranks calls
    this with all examples, and with its own of the training slice; the others call `assist`.

    Raises:
        TrainingError: too few examples or positives, or the loss is not finite.
        ModelError: the network cannot be exported, or its export answers otherwise.
    """
    how = how or How()
    parameters = pipeline.model.training()
    sliced = cut(examples, slices)
    classes = max(2, pipeline.model.outputs)
    require_support(sliced, pipeline.policies.retrain, classes)
    seed = int(parameters["seed"])
    mean, scale = statistics(sliced.train.vector, pipeline.normalised)
    normalise = Normalise(mean, scale)
    weights = class_weights(sliced.train.label, classes, parameters["positive_weight"])
    plan = _Plan(mean.tolist(), scale.tolist(), weights.tolist())
    how.ranks.broadcast(msgspec.json.encode(plan))
    with _deterministic(seed, how) as device:
        own = sliced.train if own is None else own
        found = fit(pipeline, normalise, weights, (own, sliced.validate), how)
        offset = prior_offset(weights, pipeline)
        served = ExportedModel(normalise.cpu(), found.network.cpu(), offset)
        data = export(served, len(pipeline.feature_names))
        verify(data, served, sliced.validate.vector[:2048])
        scores = _scores(served, sliced.validate.vector)
    return Candidate(
        onnx=data,
        threshold=choose_threshold(scores, sliced.validate.label),
        normalisation={"mean": mean.tolist(), "scale": scale.tolist()},
        counts=sliced.counts,
        parameters=parameters,
        seed=seed,
        metrics={
            "validation": found.metric,
            "epoch": float(found.epoch),
            "training_seconds": round(found.seconds, 3),
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
    with _deterministic(int(pipeline.model.training()["seed"]), how):
        fit(pipeline, normalise, np.array(plan.weights), (own, None), how)


def prior_offset(weights: NDArray[np.float64], pipeline: Pipeline) -> NDArray[np.float64]:
    """What to add to the logits so that scores are probabilities under the true prior, [outputs].

    Weighting class k by w_k in the loss is training as if it were w_k times as frequent, which
    shifts its logit by log w_k (Elkan, The Foundations of Cost-Sensitive Learning, 2001).
    """
    shift = -np.log(weights)
    return shift[1:] - shift[0] if pipeline.model.outputs == 1 else shift


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


def _scores(served: nn.Module, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return logits(served, torch.from_numpy(vectors))


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
