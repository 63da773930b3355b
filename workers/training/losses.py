"""What a network is fitted to, by the pipeline's task: its loss, and what is put around it after.

A loss is made from a few numbers that the training slice's labels give, so that every rank has the
same one: the weight of each class, or the mean and the scale of a number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streams.spec import Pipeline
from workers.evaluation import metrics
from workers.evaluation.rankings import rank_point
from workers.training.export import (
    NO_LOGIT,
    Exported,
    ExportedModel,
    ExportedRanking,
    ExportedValue,
)

Labels = NDArray[np.float32]


class Loss(nn.Module, ABC):
    """A mean over examples, of what a network answers [n, outputs] and labels [n]."""

    @abstractmethod
    def weight(self, labels: Tensor) -> float:
        """What the mean over labels [n] is divided by."""

    @abstractmethod
    def quality(self, answers: NDArray[np.float32], labels: Labels) -> float:
        """Of answers [n, outputs] to a slice: higher is better."""

    @abstractmethod
    def served(self, normalise: nn.Module, network: nn.Module) -> Exported:
        """What is exported."""


class ClassLoss(Loss):
    """Cross-entropy with class weights, on logits."""

    weights: Tensor

    def __init__(self, weights: Sequence[float], binary: bool) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        self._binary = binary
        self._offset = prior_offset(np.array(weights, np.float64), binary)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean, by `weight`."""
        if self._binary:
            return nn.functional.binary_cross_entropy_with_logits(
                logits[:, 0], labels, pos_weight=self.weights[1]
            )
        return nn.functional.cross_entropy(logits, labels.long(), weight=self.weights)

    def weight(self, labels: Tensor) -> float:
        """Examples, each as often as its class counts."""
        return float(len(labels) if self._binary else self.weights[labels.long()].sum())

    def quality(self, answers: NDArray[np.float32], labels: Labels) -> float:
        """Average precision, or accuracy with several classes."""
        name = "average_precision" if self._binary else "accuracy"
        return metrics.point(name, answers, labels)

    def served(self, normalise: nn.Module, network: nn.Module) -> Exported:
        """Probabilities under the true prior."""
        return ExportedModel(normalise, network, self._offset)


class ValueLoss(Loss):
    """The loss of a point and the pinball losses of its quantiles, of labels in units of `scale`.

    The pinball loss q max(e, 0) + (1 - q) max(-e, 0) of the error e = label - answer is least in
    the mean where the answer is the quantile q (Koenker and Bassett, "Regression quantiles",
    Econometrica 46, 1978). Huber's loss of a point is squared below one `scale` and linear above
    ("Robust estimation of a location parameter", Annals of Mathematical Statistics 35, 1964).
    """

    label: Tensor
    quantiles: Tensor

    def __init__(self, label: Sequence[float], quantiles: Sequence[float], point_loss: str) -> None:
        """`label`: its mean and its scale."""
        super().__init__()
        self.register_buffer("label", torch.tensor(label, dtype=torch.float32))
        self.register_buffer("quantiles", torch.tensor(quantiles, dtype=torch.float32))
        self._label = tuple(label)
        self._point_loss = {"huber": nn.HuberLoss, "squared": nn.MSELoss, "absolute": nn.L1Loss}[
            point_loss
        ]()

    def forward(self, answers: Tensor, labels: Tensor) -> Tensor:
        """The mean over examples, and over point and quantiles."""
        wanted = (labels - self.label[0]) / self.label[1]
        errors = wanted[:, None] - answers[:, 1:]
        pinball = torch.maximum(self.quantiles * errors, (self.quantiles - 1.0) * errors)
        point: Tensor = self._point_loss(answers[:, 0], wanted)
        return (point + pinball.mean(dim=0).sum()) / answers.shape[1]

    def weight(self, labels: Tensor) -> float:
        """Examples."""
        return float(len(labels))

    def quality(self, answers: NDArray[np.float32], labels: Labels) -> float:
        """The loss, negative."""
        with torch.no_grad():
            device = self.label.device
            found = self(*(torch.from_numpy(one).to(device) for one in (answers, labels)))
        return -float(found)

    def served(self, normalise: nn.Module, network: nn.Module) -> Exported:
        """Numbers in the label's own unit."""
        mean, scale = self._label
        return ExportedValue(normalise, network, mean, scale)


class ListLoss(Loss):
    """The cross-entropy of a request's labels, as shares of their sum, and the softmax of logits.

    ListNet's top-one loss (Cao et al., "Learning to rank: from pairwise approach to listwise
    approach", ICML 2007). Candidates whose label is NaN are none; a request without a label above 0
    counts for nothing.
    """

    def __init__(self, top: int) -> None:
        super().__init__()
        self._top = top

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over requests of which something was chosen."""
        absent = torch.isnan(labels)
        gains = labels.masked_fill(absent, 0.0)
        told = torch.log_softmax(logits.masked_fill(absent, NO_LOGIT), dim=1)
        total = gains.sum(dim=1, keepdim=True)
        losses = -(gains / total.clamp(min=1e-12) * told).sum(dim=1)
        found: Tensor = losses.sum() / (total > 0).sum().clamp(min=1)
        return found

    def weight(self, labels: Tensor) -> float:
        """Requests of which something was chosen."""
        return float((labels > 0).any(dim=1).sum())

    def quality(self, answers: NDArray[np.float32], labels: Labels) -> float:
        """nDCG."""
        return rank_point("ndcg", answers, labels, self._top)

    def served(self, normalise: nn.Module, network: nn.Module) -> Exported:
        """Each candidate's share of the softmax."""
        return ExportedRanking(normalise, network)


def loss_of(pipeline: Pipeline, numbers: Sequence[float] | None = None) -> Loss:
    """The loss of a pipeline's task, from `label_numbers`; without, of labels nobody has seen."""
    task = pipeline.predicts
    if task.classes:
        return ClassLoss(numbers or [1.0] * task.classes, binary=task.thresholds)
    if task.ranks:
        return ListLoss(task.top)
    asked = str(pipeline.training["point_loss"])
    return ValueLoss(numbers or [0.0, 1.0], task.quantiles, asked)


def prior_offset(weights: NDArray[np.float64], binary: bool) -> NDArray[np.float64]:
    """What to add to the logits so that scores are probabilities under the true prior, [outputs].

    Weighting class k by w_k in the loss is training as if it were w_k times as frequent, which
    shifts its logit by log w_k (Elkan, The Foundations of Cost-Sensitive Learning, 2001).
    """
    shift = -np.log(weights)
    return shift[1:] - shift[0] if binary else shift
