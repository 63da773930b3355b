"""A fit that is cut off goes on where it was, and ends with the same bytes; on nothing else."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog
from torch import nn

from streams.spec import Model
from tests.synthetic import in_columns, made
from tests.synthetic import pipeline as declared
from workers.training.checkpoint import Checkpoint
from workers.training.epochs import Epoch, How
from workers.training.fit import train
from workers.training.slices import slices_at

OF = {"offsets": [0, 100], "seed": 7}


def network(features: int) -> nn.Module:
    """With random numbers and running means of its own."""
    return nn.Sequential(
        nn.Linear(features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)
    )


pipeline = replace(
    declared,
    model=Model(network=network, parameters={"epochs": 6, "batch_size": 128, "patience": 6}),
)
EXAMPLES = in_columns(made(6.0, per_day=300))
SLICES = slices_at(pipeline.policies.retrain, float(EXAMPLES.event_time[-1]))


class CutOffError(Exception):
    """As a kill would be."""


def fitted(
    path: Path, cut_off: int = 0, of: object = None, every: float = 0.0
) -> tuple[bytes, list[int]]:
    """The file that comes out, and the epochs that it took."""
    epochs = list[int]()

    def tell(now: Epoch) -> None:
        epochs.append(now.epoch)
        if now.epoch == cut_off:
            raise CutOffError

    checkpoint = Checkpoint(path, of or OF, every)  # type: ignore[arg-type]
    return train(pipeline, EXAMPLES, SLICES, How(tell, checkpoint=checkpoint)).onnx, epochs


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Of a fit that was not cut off."""
    return fitted(tmp_path_factory.mktemp("whole") / "c")[0]


@pytest.mark.parametrize("cut_off", [2, 3, 5])
def test_it_goes_on_and_ends_the_same_way(tmp_path: Path, whole: bytes, cut_off: int) -> None:
    with pytest.raises(CutOffError):
        fitted(tmp_path / "c", cut_off)
    found, epochs = fitted(tmp_path / "c")
    assert epochs == list(range(cut_off, 7))
    assert found == whole


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:-1000], id="short"),
        pytest.param(lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], id="a bit"),
    ],
)
def test_the_newest_that_is_whole_is_taken_up(
    tmp_path: Path, whole: bytes, damaged: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(CutOffError):
        fitted(tmp_path / "c", 4)
    newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(damaged(newest.read_bytes()))
    with structlog.testing.capture_logs() as lines:
        found, epochs = fitted(tmp_path / "c")
    said = [line["event"] for line in lines]
    assert said.count("a checkpoint is damaged and is not used") == 1
    assert epochs == [3, 4, 5, 6]
    assert found == whole


def test_what_another_fit_has_kept_is_deleted(tmp_path: Path, whole: bytes) -> None:
    with pytest.raises(CutOffError):
        fitted(tmp_path / "c", 4, {**OF, "seed": 8})
    found, epochs = fitted(tmp_path / "c", every=3600.0)
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert found == whole
    assert list(tmp_path.iterdir()) == []


def test_a_fit_goes_on_where_none_can_be_written(tmp_path: Path, whole: bytes) -> None:
    with structlog.testing.capture_logs() as lines:
        found, _ = fitted(tmp_path / "away" / "c")
    said = [line["event"] for line in lines]
    assert said.count("a checkpoint cannot be written") == 1
    assert found == whole


def test_it_is_written_when_its_time_has_come(tmp_path: Path) -> None:
    fitted(tmp_path / "c", every=3600.0)
    assert list(tmp_path.iterdir()) == []


def test_nothing_in_it_is_ever_run(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    with pytest.raises(CutOffError):
        fitted(tmp_path / "c", 3)
    fit = (tmp_path / "c.0").read_bytes()[:32]
    for path in (tmp_path / "c.0", tmp_path / "c.1"):
        held = io.BytesIO()
        np.savez(held, allow_pickle=True, about=np.array([Runs()], dtype=object))
        path.write_bytes(fit + hashlib.sha256(held.getvalue()).digest() + held.getvalue())
    with pytest.raises(ValueError, match="allow_pickle=False"):
        fitted(tmp_path / "c")
    assert not (tmp_path / "ran").exists()
