"""A network, fitted epoch by epoch, by one process or by several."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streams.errors import TrainingError
from streams.spec import Pipeline
from workers.examples.reading import Examples
from workers.training.begun import begin_from
from workers.training.checkpoint import Checkpoint, FitProgress
from workers.training.export import build
from workers.training.losses import Loss
from workers.training.preparing import Logits, Normalise, as_tensors, preparing
from workers.training.ranks import OneRank, Ranks

log = structlog.get_logger(__name__)

_AT_ONCE = 8192
"""Rows that a model answers in one go."""


@dataclass(frozen=True)
class Epoch:
    """How far training has come."""

    epoch: int
    epochs: int
    loss: float
    """Mean training loss of the epoch."""
    metric: float
    """The validation slice's: average precision, or accuracy with several classes; of a value its
    loss, negative."""
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
    begins: bytes | None = None
    """Weights that the network begins with, as `packed` makes them."""


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
    loss: Loss,
    slices: tuple[Examples, Examples | None],
    how: How,
) -> Fit:
    """Train until the validation metric has not improved for `patience` epochs.

    The slices are those of training, of which each rank has its own, and of validation, which only
    the first rank has.

    Raises:
        TrainingError: the loss is not finite.
    """
    ranks, parameters, device = how.ranks, pipeline.training, how.ranks.device()
    train, validate = slices
    network = build(pipeline).to(device)
    if how.begins is not None:
        begin_from(network, how.begins)
    if ranks.rank:  # of one seed all would drop the same units
        torch.manual_seed(int(parameters["seed"]) + ranks.rank)
    model = Logits(preparing(pipeline.layout, copy.deepcopy(normalise)), network).to(device)
    loss = loss.to(device)
    tensors, labels = _tensors(train, device), torch.from_numpy(train.label).to(device)
    if ranks.size > 1 and len(labels) == 1:
        log.warning("the only example of a rank is left out", rank=ranks.rank)
    validation = None if validate is None else _tensors(validate, device)

    def measured() -> float:
        assert validate is not None
        assert validation is not None
        return loss.quality(logits(model, validation), validate.label)

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
        mean_loss = _epoch(model, loss, optimizer, (tensors, labels), batch, ranks)
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


def logits(model: nn.Module, tensors: Sequence[Tensor]) -> NDArray[np.float32]:
    """What a model answers to the tensors of n rows, [n, outputs]."""
    model.eval()
    with torch.no_grad():
        split = [torch.split(one, _AT_ONCE) for one in tensors]
        parts = [model(*part).cpu() for part in zip(*split, strict=True)]
    found: NDArray[np.float32] = torch.cat(parts).numpy()
    return found


def _epoch(
    model: Logits,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    slice_: tuple[Sequence[Tensor], Tensor],
    batch: int,
    ranks: Ranks,
) -> float:
    """One pass in random order; the mean loss, of all ranks."""
    tensors, labels = slice_
    model.train()
    order = torch.randperm(len(labels)).to(labels.device)
    batches = ranks.batches(order, batch)
    # a batch of one breaks batch normalisation
    only = ranks.size == 1 and len(order) == 1
    sound = [len(rows) > 1 or only for rows in batches]
    pairs = list(zip(batches, sound, strict=True))
    shares = ranks.shares(loss.weight(labels[rows]) if ok else 0.0 for rows, ok in pairs)
    total = torch.zeros((), device=labels.device)
    for (rows, ok), share in zip(pairs, shares, strict=True):
        optimizer.zero_grad(set_to_none=True)
        if ok:
            value = loss(model(*(one[rows] for one in tensors)), labels[rows])
            (value * share).backward()
            total += value.detach() * len(rows)
        ranks.add_gradients(model.parameters())
        optimizer.step()
    ranks.average(model.network.buffers(), len(order))
    mean = ranks.total(float(total)) / ranks.total(len(order))
    if not np.isfinite(mean):
        raise TrainingError(
            f"the training loss became {mean} - lower model.parameters.learning_rate, "
            "or normalise the features"
        )
    return mean


def _tensors(examples: Examples, device: torch.device) -> list[Tensor]:
    """The tensors of examples on the device, as they were served."""
    return [one.to(device) for one in as_tensors(examples.rows)]
