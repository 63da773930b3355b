"""A network's weights, as bytes that the next candidate begins from; nothing in them is run."""

from __future__ import annotations

import io

import numpy as np
import structlog
import torch
from torch import nn

log = structlog.get_logger(__name__)


def packed(network: nn.Module) -> bytes:
    """Weights and buffers as an archive of NumPy's; equal ones, equal bytes."""
    held = io.BytesIO()
    arrays = {name: one.detach().cpu().numpy() for name, one in network.state_dict().items()}
    np.savez(held, allow_pickle=False, **arrays)
    return held.getvalue()


def begin_from(network: nn.Module, data: bytes) -> None:
    """Put `packed` weights into a network; another's are left out, and the log says so."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        found = {name: torch.from_numpy(archive[name]) for name in archive.files}
    own = network.state_dict()
    if {name: one.shape for name, one in found.items()} != {n: one.shape for n, one in own.items()}:
        log.warning("the champion's weights do not fit the network: the candidate begins anew")
        return
    network.load_state_dict(found)
