"""A network, fitted epoch by epoch, by one process or by several."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streams.errors import TrainingError
from streams.spec import Pipeline
from workers.examples.reading import Examples
from workers.training.candidate import validation_metric
from workers.training.checkpoint import Checkpoint, FitProgress
from workers.training.export import Normalise, build
from workers.training.ranks import OneRank, Ranks

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Epoch:
    """How far training has come."""

    epoch: int
    epochs: int
    loss: float
    """Mean training loss of the epoch."""
    metric: float
    """The validation slice's: average precision, or accuracy with several classes."""
    best: float
    seconds: float


OnEpoch = Callable[[Epoch], None]


@dataclass(frozen=True)
class How:
    """How a network is fitted, whatever to."""

    report: OnEpoch = lambda progress: None
    threads: int = 1
    ranks: Ranks = field(default_factory=OneRank)
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Fit:
    """A network with its best weights."""

    network: nn.Module
    metric: float
    epoch: int
    seconds: float


def fit(
    pipeline: Pipeline,
    normalise: Normalise,
    weights: NDArray[np.float64],
    slices: tuple[Examples, Examples | None],
    how: How,
) -> Fit:
    """Train until the validation metric has not improved for `patience` epochs.

    `weights` are the classes', [classes]; the slices are those of training, of which each rank has
    its own, and of validation, which only the first rank has.

    Raises:
        TrainingError: the loss is not finite.
    """
    ranks, parameters, device = how.ranks, pipeline.model.training(), how.ranks.device()
    train, validate = slices
    network = build(pipeline).to(device)
    if ranks.rank:  # of one seed all would drop the same units
        torch.manual_seed(int(parameters["seed"]) + ranks.rank)
    normalise = copy.deepcopy(normalise).to(device)
    loss = _Loss(weights, pipeline.model.outputs).to(device)
    vectors, labels = _tensors(train, normalise, device)
    if ranks.size > 1 and len(labels) == 1:
        log.warning("the only example of a rank is left out", rank=ranks.rank)
    validation = None if validate is None else _tensors(validate, normalise, device)[0]

    def measured() -> float:
        assert validate is not None
        assert validation is not None
        return validation_metric(logits(network, validation), validate.label)

    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=float(parameters["learning_rate"]),
        weight_decay=float(parameters["weight_decay"]),
    )
    epochs, batch = int(parameters["epochs"]), int(parameters["batch_size"])
    begun = time.monotonic()
    known = how.checkpoint.read(network, optimizer, ranks) if how.checkpoint else None
    done = known or FitProgress(kept=copy.deepcopy(network.state_dict()))
    begun -= done.seconds
    for epoch in range(done.epoch + 1, epochs + 1):
        mean_loss = _epoch(network, loss, optimizer, (vectors, labels), batch, ranks)
        metric = ranks.first(measured)
        done.epoch, done.seconds = epoch, time.monotonic() - begun
        if metric > done.best:
            done.best, done.best_epoch = metric, epoch
            done.kept = copy.deepcopy(network.state_dict())
        how.report(Epoch(epoch, epochs, mean_loss, metric, done.best, done.seconds))
        if epoch - done.best_epoch >= int(parameters["patience"]):
            break
        if how.checkpoint:
            how.checkpoint.write(network, optimizer, done, ranks)
    network.load_state_dict(done.kept)
    return Fit(network, float(done.best), done.best_epoch, time.monotonic() - begun)


def logits(network: nn.Module, vectors: Tensor) -> NDArray[np.float32]:
    """What a network answers to vectors [n, features], [n, outputs]."""
    network.eval()
    with torch.no_grad():
        parts = [network(part).cpu() for part in torch.split(vectors, 8192)]
    found: NDArray[np.float32] = torch.cat(parts).numpy()
    return found


def _epoch(
    network: nn.Module,
    loss: _Loss,
    optimizer: torch.optim.Optimizer,
    slice_: tuple[Tensor, Tensor],
    batch: int,
    ranks: Ranks,
) -> float:
    """One pass in random order; the mean loss, of all ranks."""
    vectors, labels = slice_
    network.train()
    order = torch.randperm(len(vectors)).to(vectors.device)
    batches = ranks.batches(order, batch)
    # a batch of one breaks batch normalisation
    only = ranks.size == 1 and len(order) == 1
    sound = [len(rows) > 1 or only for rows in batches]
    pairs = list(zip(batches, sound, strict=True))
    shares = ranks.shares(loss.weight(labels[rows]) if ok else 0.0 for rows, ok in pairs)
    total = torch.zeros((), device=vectors.device)
    for (rows, ok), share in zip(pairs, shares, strict=True):
        optimizer.zero_grad(set_to_none=True)
        if ok:
            value = loss(network(vectors[rows]), labels[rows])
            (value * share).backward()
            total += value.detach() * len(rows)
        ranks.add_gradients(network.parameters())
        optimizer.step()
    ranks.average(network.buffers(), len(order))
    mean = ranks.total(float(total)) / ranks.total(len(order))
    if not np.isfinite(mean):
        raise TrainingError(
            f"the training loss became {mean} - lower model.parameters.learning_rate, "
            "or normalise the features"
        )
    return mean


class _Loss(nn.Module):
    """Cross-entropy with class weights, on logits [n, outputs] and labels [n]."""

    weights: Tensor

    def __init__(self, weights: NDArray[np.float64], outputs: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        self._binary = outputs == 1

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean, by `weight`."""
        if self._binary:
            return nn.functional.binary_cross_entropy_with_logits(
                logits[:, 0], labels, pos_weight=self.weights[1]
            )
        return nn.functional.cross_entropy(logits, labels.long(), weight=self.weights)

    def weight(self, labels: Tensor) -> float:
        """What the mean over labels [n] is divided by."""
        return float(len(labels) if self._binary else self.weights[labels.long()].sum())


def _tensors(
    examples: Examples, normalise: Normalise, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Normalised vectors and labels on the device: normalising once is enough."""
    with torch.no_grad():
        vectors = normalise(torch.from_numpy(examples.vector).to(device))
    return vectors, torch.from_numpy(examples.label).to(device)
