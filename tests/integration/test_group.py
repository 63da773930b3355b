"""Ranks of `torch.distributed`: each step is that of one process on the same batch; none hangs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException, spawn

from streams.spec import Model
from tests.synthetic import in_columns, made
from tests.synthetic import pipeline as declared
from workers.devstack.servers import free_port
from workers.training import group
from workers.training.epochs import How, fit
from workers.training.group import Group
from workers.training.launched import RankLost
from workers.training.losses import loss_of
from workers.training.preparing import Normalise
from workers.training.ranks import OneRank

EXAMPLES = in_columns(made(1.0, per_day=1100))
SHARDS = [slice(0, 1084), slice(1084, 1095), slice(1095, 1095)]
"""Of three ranks: most of the examples, a few, none."""
BATCH, EPOCHS = 128, 3
WEIGHTS, NORMALISE = [1.0, 3.0], Normalise(np.zeros(4), np.array([2.0, 10.0, 1.0, 1.0]))


def network(features: int) -> nn.Module:
    """Without random numbers, so that one process can do the same."""
    return nn.Sequential(nn.Linear(features, 8), nn.ReLU(), nn.Linear(8, 1))


def normal(features: int) -> nn.Module:
    """With batch normalisation, which takes no batch of one."""
    return nn.Sequential(nn.BatchNorm1d(features), nn.Linear(features, 1))


class Noting(Group):
    """Notes which rows each step takes."""

    taken: list[list[Tensor]]

    def batches(self, order: Tensor, batch: int) -> list[Tensor]:
        found = list(super().batches(order, batch))
        self.taken.append(found)
        return found


class Replaying(OneRank):
    """One process that takes the same rows."""

    def __init__(self, epochs: list[list[Tensor]]) -> None:
        self.epochs = iter(epochs)

    def batches(self, order: Tensor, batch: int) -> list[Tensor]:
        return next(self.epochs)


def fitted(build: Callable[[int], nn.Module], rows: slice, how: How) -> dict[str, Tensor]:
    """Weights after some epochs on these rows; validated on all."""
    parameters = {"epochs": EPOCHS, "batch_size": BATCH, "patience": EPOCHS, "seed": 3}
    pipeline = replace(declared, model=Model(network=build, parameters=parameters))
    torch.manual_seed(3)
    whole = None if how.ranks.rank else EXAMPLES
    torch.set_num_threads(1)
    loss, slices = loss_of(pipeline, WEIGHTS), (EXAMPLES.take(rows), whole)
    return fit(pipeline, NORMALISE, loss, slices, how).network.state_dict()


def joined(rank: int, size: int, port: int) -> Noting:
    """This process, as torchrun would have started it."""
    given = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
    os.environ |= {name: str(value) for name, value in given.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    found = Noting()
    found.taken = []
    return found


def _fits(rank: int, port: int, folder: Path) -> None:
    ranks = joined(rank, len(SHARDS), port)
    weights = fitted(network, SHARDS[rank], How(ranks=ranks))
    torch.save((ranks.taken, weights), folder / f"fitted-{rank}")
    statistics = fitted(normal, SHARDS[rank], How(ranks=ranks))
    torch.save(statistics, folder / f"normal-{rank}")
    ranks.leave()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What three ranks have made."""
    found = tmp_path_factory.mktemp("ranks")
    spawn(_fits, (free_port(), found), nprocs=len(SHARDS))  # type: ignore[no-untyped-call]
    return found


def test_a_step_is_that_of_one_process_on_the_same_batch(folder: Path) -> None:
    found = [torch.load(folder / f"fitted-{rank}", weights_only=True) for rank in range(3)]
    batches = []
    for epoch in range(EPOCHS):
        of_ranks = [taken[epoch] for taken, _ in found]
        for rows, shard in zip(of_ranks, SHARDS, strict=True):
            assert sorted(torch.cat(rows).tolist()) == list(range(shard.stop - shard.start))
            assert all(len(part) != 1 for part in rows)
        steps = zip(*of_ranks, strict=True)
        parts = [[r + s.start for r, s in zip(step, SHARDS, strict=True)] for step in steps]
        batches.append([torch.cat(step) for step in parts])
        assert len(batches[-1]) == -(-1095 // BATCH)
    alone = fitted(network, slice(0, 1095), How(ranks=Replaying(batches)))
    for name, tensor in alone.items():
        for _, weights in found:
            torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-5)
            assert torch.equal(weights[name], found[0][1][name])


def test_running_means_are_those_of_all_examples(folder: Path) -> None:
    found = [torch.load(folder / f"normal-{rank}", weights_only=True) for rank in range(3)]
    with torch.no_grad():
        mean = NORMALISE(torch.from_numpy(EXAMPLES.vector)).mean(dim=0)
    for one in found:
        torch.testing.assert_close(one["0.running_mean"], mean, rtol=0.05, atol=0.2)
        assert torch.equal(one["0.running_mean"], found[0]["0.running_mean"])


def _hangs(rank: int, port: int, folder: Path) -> None:
    group.PATIENCE = timedelta(seconds=3)
    ranks = joined(rank, 2, port)
    ranks.total(1.0)
    (folder / f"pid-{rank}").write_text(str(os.getpid()))
    if rank:
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    with pytest.raises(RankLost, match="Timed out"):
        ranks.total(1.0)
    os.kill(int((folder / "pid-1").read_text()), signal.SIGKILL)


@pytest.mark.timeout(60)
def test_a_rank_that_hangs_is_lost(tmp_path: Path) -> None:
    with pytest.raises(ProcessExitedException, match="SIGKILL") as ended:
        spawn(_hangs, (free_port(), tmp_path), nprocs=2)  # type: ignore[no-untyped-call]
    assert ended.value.error_index == 1
