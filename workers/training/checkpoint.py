"""How far a fit has come, in a file: one that was cut off goes on there, and ends the same way."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workers.training.ranks import Ranks

log = structlog.get_logger(__name__)

_ABOUT = "about"


@dataclass
class FitProgress:
    """What a fit knows after an epoch, beside its network and optimizer."""

    kept: dict[str, Tensor]
    """The best weights."""
    epoch: int = 0
    best: float = field(default=-np.inf)
    best_epoch: int = 0
    seconds: float = 0.0


class _About(msgspec.Struct):
    """Where a fit was."""

    epoch: int
    best: float
    best_epoch: int
    seconds: float


Arrays = dict[str, NDArray[Any]]


class Checkpoint:
    """A rank's checkpoints: NumPy archives of tensors, so that nothing in them is ever run.

    Each begins with two SHA-256: of what it is a fit of, and of all that follows. The last two are
    kept: ranks that were cut off while they wrote one go on at the one before.
    """

    def __init__(self, path: Path, of: Mapping[str, Any], every: float = 10.0) -> None:
        """They are taken up only by a fit of the same (`of`), and written each so many seconds."""
        self._paths = [path.with_suffix(f".{turn}") for turn in (0, 1)]
        self._fit = _digest(msgspec.json.encode(of, order="sorted"))
        self._every = every
        self._written = time.monotonic()
        self._fails = False
        """Whether the log has said that none can be written."""

    def write(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, done: FitProgress, ranks: Ranks
    ) -> None:
        """Keep where the fit is, if its time has come: all ranks after the same epoch.

        Where it cannot be written the fit goes on without, and the log says so once.
        """
        if not ranks.first(lambda: float(time.monotonic() - self._written >= self._every)):
            return
        about = _About(done.epoch, done.best, done.best_epoch, done.seconds)
        arrays = {_ABOUT: np.frombuffer(msgspec.json.encode(about), np.uint8)}
        arrays |= {f"network/{name}": _array(t) for name, t in network.state_dict().items()}
        arrays |= {f"kept/{name}": _array(t) for name, t in done.kept.items()}
        arrays |= {name: _array(tensor) for name, tensor in _moments(optimizer)}
        arrays |= {f"random/{device}": _array(state) for device, state in _random()}
        try:
            self._keep(arrays)
        except OSError as error:
            if not self._fails:
                at = str(self._paths[0])
                log.warning("a checkpoint cannot be written", at=at, error=str(error))
            self._fails = True
        self._written = time.monotonic()

    def _keep(self, arrays: Arrays) -> None:
        """In place of the older one."""
        held = io.BytesIO()
        np.savez(held, allow_pickle=False, **arrays)
        data = held.getvalue()
        new = self._paths[0].with_suffix(".new")
        new.write_bytes(self._fit + _digest(data) + data)
        new.replace(self._paths[0])
        self._paths.reverse()

    def read(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, ranks: Ranks
    ) -> FitProgress | None:
        """Put network, optimizer and random numbers where they were; None where nothing is kept.

        Ranks go on together, at the last epoch that all have kept.
        """
        kept = {
            one[0]: (path, one[1]) for path in self._paths if (one := self._kept(path)) is not None
        }
        epoch = ranks.least(max(kept, default=0))
        if not ranks.least(int(epoch in kept)):
            return None
        path, found = kept[epoch]
        self._paths.sort(key=lambda one: one == path)  # the next is written over the other
        about = msgspec.json.decode(found[_ABOUT].tobytes(), type=_About)
        network.load_state_dict(_part(found, "network/"))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(found, "optimizer/").items():
            number, _, moment = name.partition("/")
            moments.setdefault(int(number), {})[moment] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        for device, state in _part(found, "random/").items():
            (torch.cuda.set_rng_state if device == "cuda" else torch.set_rng_state)(state)
        log.info("a fit goes on where it was cut off", epoch=epoch)
        best = {name: t.to(_device(network)) for name, t in _part(found, "kept/").items()}
        return FitProgress(best, about.epoch, about.best, about.best_epoch, about.seconds)

    def _kept(self, path: Path) -> tuple[int, Arrays] | None:
        """What a file holds, after its epoch; None where there is none of this fit.

        One that is damaged, or of another fit, is deleted.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("a checkpoint cannot be read", at=str(path), error=str(error))
            return None
        size = len(self._fit)
        fit, digest, held = data[:size], data[size : 2 * size], data[2 * size :]
        sound = _digest(held) == digest
        if not sound:
            log.warning("a checkpoint is damaged and is not used", at=str(path))
        if not sound or fit != self._fit:
            path.unlink()
            return None
        with np.load(io.BytesIO(held), allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
        return msgspec.json.decode(found[_ABOUT].tobytes(), type=_About).epoch, found


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _device(network: nn.Module) -> torch.device:
    found: torch.device = next(iter(network.state_dict().values())).device
    return found


def _moments(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for number, moments in optimizer.state_dict()["state"].items():
        for name, tensor in moments.items():
            yield f"optimizer/{number}/{name}", tensor


def _random() -> Iterator[tuple[str, Tensor]]:
    yield "cpu", torch.get_rng_state()
    if torch.cuda.is_available():
        yield "cuda", torch.cuda.get_rng_state()


def _array(tensor: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = tensor.detach().cpu().numpy()
    return found


def _part(found: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): torch.from_numpy(array)
        for name, array in found.items()
        if name.startswith(prefix)
    }
