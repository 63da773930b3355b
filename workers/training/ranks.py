"""The processes that train a candidate together, as the fit sees them; also one that is alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Ranks(Protocol):
    """One of `size` processes, each with examples of its own, that fit one network.

    All call the same methods in the same order. Every step is of one batch of all examples, of
    which each rank has a part. Every method that exchanges something raises `RankLost`.
    """

    rank: int
    size: int
    backend: str
    """What exchanges their tensors."""

    def device(self) -> torch.device:
        """Where this rank computes."""
        ...

    def batches(self, order: Tensor, batch: int) -> Sequence[Tensor]:
        """This rank's rows of each step, in this order; as many steps for all ranks.

        Of one process the last may have one row, of several ranks none has, where a rank has two.
        """
        ...

    def shares(self, weights: Iterable[float]) -> Sequence[float]:
        """Of each step's weight, given this rank's, the share that is this rank's."""
        ...

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gradients become the sum of all ranks'."""
        ...

    def average(self, buffers: Iterable[Tensor], examples: int) -> None:
        """Buffers of floating point, such as running means, become the mean of all ranks'.

        A rank counts by its examples.
        """
        ...

    def total(self, value: float) -> float:
        """The sum of all ranks' values."""
        ...

    def first(self, value: Callable[[], float]) -> float:
        """What the first rank's call returns; the others make none."""
        ...

    def least(self, value: int) -> int:
        """The least of all ranks' values."""
        ...

    def broadcast(self, data: bytes) -> bytes:
        """The first rank's."""
        ...

    def gather(self, data: bytes) -> list[bytes]:
        """All ranks', for the first; nothing for the others."""
        ...

    def leave(self) -> None:
        """Have done."""
        ...


class OneRank:
    """The only process: nothing is exchanged."""

    rank, size, backend = 0, 1, "none"

    def device(self) -> torch.device:
        """The GPU, where there is one."""
        import torch

        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def batches(self, order: Tensor, batch: int) -> Sequence[Tensor]:
        """Batches of this size; the last has what is left."""
        import torch

        return torch.split(order, batch)

    def shares(self, weights: Iterable[float]) -> Sequence[float]:
        """All of each."""
        return [1.0 for _ in weights]

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """They are the sum."""

    def average(self, buffers: Iterable[Tensor], examples: int) -> None:
        """They are the mean."""

    def total(self, value: float) -> float:
        """The value."""
        return value

    def first(self, value: Callable[[], float]) -> float:
        """What the call returns."""
        return value()

    def least(self, value: int) -> int:
        """The value."""
        return value

    def broadcast(self, data: bytes) -> bytes:
        """The same."""
        return data

    def gather(self, data: bytes) -> list[bytes]:
        """The only one."""
        return [data]

    def leave(self) -> None:
        """There is nothing to leave."""
