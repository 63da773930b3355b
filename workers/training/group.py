"""Ranks that exchange tensors: torch.distributed, by gloo on CPUs and by NCCL between GPUs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor, distributed, nn

from workers.training.launched import RankLost, given_rank, given_ranks

PATIENCE = timedelta(minutes=30)
"""A rank may read its examples for so much longer than another; who says nothing longer is lost."""


class Group:
    """One rank of several; `Ranks` says what is asked of it."""

    def __init__(self, meeting: str | None = None) -> None:
        """Join those that torchrun has started; they meet by a file, or where torchrun says."""
        self._gpus = torch.cuda.device_count()
        each = 0 < int(os.environ.get("LOCAL_WORLD_SIZE", "1")) <= self._gpus
        with _exchange():
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if each else "gloo",
                init_method=f"file://{meeting}" if meeting else "env://",
                timeout=PATIENCE,
                rank=given_rank(),
                world_size=given_ranks(),
            )
        self.backend = "nccl" if each else "gloo"
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()

    def device(self) -> torch.device:
        """A GPU of its own, or one that it shares where there are fewer."""
        if not self._gpus:
            return torch.device("cpu")
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % self._gpus)
        torch.cuda.set_device(device)
        return device

    def batches(self, order: Tensor, batch: int) -> Sequence[Tensor]:
        """As many for all ranks: where one has more examples, more of each batch is its own.

        One with few examples has pairs of them in some of the steps, and none in the others.
        """
        steps = max(1, -(-round(self.total(len(order))) // batch))
        parts = order.tensor_split(max(1, min(steps, len(order) // 2)))
        found = [order[:0]] * steps
        for number, part in enumerate(parts):
            found[number * steps // len(parts)] = part
        return found

    def shares(self, weights: Iterable[float]) -> Sequence[float]:
        """Of each step's weight, given this rank's, the share that is this rank's."""
        own = torch.tensor(list(weights), dtype=torch.float64)
        whole = own.clone()
        _sum(whole)
        found: list[float] = torch.where(whole > 0, own / whole, 0.0).tolist()
        return found

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gradients become the sum of all ranks', in one exchange."""
        held = list(parameters)
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in held]
        )
        _sum(flat)
        sums = torch.split(flat, [p.numel() for p in held])
        for parameter, gradient in zip(held, sums, strict=True):
            parameter.grad = gradient.view_as(parameter)

    def average(self, buffers: Iterable[Tensor], examples: int) -> None:
        """Buffers of floating point become the mean of all ranks', by their examples."""
        whole = self.total(examples)
        for buffer in buffers:
            if buffer.is_floating_point():
                mean = buffer.double()  # in which a constant stays what it is
                mean = mean * examples if examples else torch.zeros_like(mean)
                _sum(mean)
                buffer.copy_(mean / whole)

    def total(self, value: float) -> float:
        """The sum of all ranks' values."""
        found = torch.tensor(value, dtype=torch.float64)
        _sum(found)
        return float(found)

    def first(self, value: Callable[[], float]) -> float:
        """What the first rank's call returns; the others make none."""
        found = torch.tensor(value() if self.rank == 0 else 0.0, dtype=torch.float64)
        _spread(found)
        return float(found)

    def least(self, value: int) -> int:
        """The least of all ranks' values."""
        found = torch.tensor(value)
        with _exchange():
            distributed.all_reduce(found, op=distributed.ReduceOp.MIN)
        return int(found)

    def broadcast(self, data: bytes) -> bytes:
        """The first rank's."""
        size = torch.tensor(len(data))
        _spread(size)
        found = _tensor(data) if self.rank == 0 else torch.empty(int(size), dtype=torch.uint8)
        _spread(found)
        return found.numpy().tobytes()

    def gather(self, data: bytes) -> list[bytes]:
        """All ranks', for the first; nothing for the others."""
        with _exchange():
            if self.rank > 0:
                distributed.send(torch.tensor(len(data)), dst=0)
                distributed.send(_tensor(data), dst=0)
                return []
            return [data, *map(_received, range(1, self.size))]

    def leave(self) -> None:
        """Wait for the others, and have done."""
        with _exchange():
            distributed.barrier()
        distributed.destroy_process_group()


@contextmanager
def _exchange() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch has no other for a connection that was closed
        raise RankLost(str(error).partition("\n")[0]) from error


def _sum(tensor: Tensor) -> None:
    with _exchange():
        distributed.all_reduce(tensor)


def _spread(tensor: Tensor) -> None:
    with _exchange():
        distributed.broadcast(tensor, src=0)


def _received(rank: int) -> bytes:
    size = torch.tensor(0)
    distributed.recv(size, src=rank)
    found = torch.empty(int(size), dtype=torch.uint8)
    distributed.recv(found, src=rank)
    return found.numpy().tobytes()


def _tensor(data: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())
