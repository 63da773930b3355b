"""What goes before a network: a row's tensors are normalised, scaled, and given to it by name."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streams.spec.layout import FEATURES, Layout, Rows, tensors_of
from streams.spec.layout import Tensor as RowTensor


class Normalise(nn.Module):
    """(x - mean) / scale, column by column; statistics are float32 [features]."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, vectors: Tensor) -> Tensor:
        """[n, features] -> [n, features]."""
        return (vectors - self.mean) / self.scale


class Prepare(nn.Module):
    """What a network is given of a row with inputs: its one tensor, or all by name.

    Features are normalised. Images become float32 [n, channels, height, width] of 0 to 1, sounds
    float32 of -1 to 1, and indices int64.
    """

    def __init__(self, layout: Layout, normalise: Normalise) -> None:
        super().__init__()
        self.normalise = normalise
        self._tensors = layout.tensors

    def forward(self, *given: Tensor) -> Tensor | dict[str, Tensor]:
        """The tensors of n rows, each [n, *shape], in the layout's order."""
        pairs = zip(self._tensors, given, strict=True)
        made = {one.name: self._prepared(one, values) for one, values in pairs}
        return made if len(made) > 1 else next(iter(made.values()))

    def _prepared(self, tensor: RowTensor, values: Tensor) -> Tensor:
        match tensor.kind:
            case "image":
                grey = len(tensor.shape) == 2
                channels = values.unsqueeze(1) if grey else values.permute(0, 3, 1, 2)
                return channels.to(torch.float32) / 255
            case "sound":
                return values.to(torch.float32) / 32768
            case "indices":
                return values.to(torch.int64)
            case _:
                made: Tensor = self.normalise(values) if tensor.name == FEATURES else values
                return made


def preparing(layout: Layout, normalise: Normalise) -> nn.Module:
    """What goes before a network of this layout."""
    return normalise if layout.tabular else Prepare(layout, normalise)


class Logits(nn.Module):
    """A network, and what goes before it: the tensors of n rows -> logits [n, outputs]."""

    def __init__(self, normalise: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network

    def forward(self, *tensors: Tensor) -> Tensor:
        """The tensors, each [n, *shape], as they are served."""
        given = self.normalise(*tensors)
        found: Tensor
        found = self.network(**given) if isinstance(given, dict) else self.network(given)
        return found


def as_tensors(rows: Rows) -> list[Tensor]:
    """The tensors of rows, each [n, *shape]."""
    return [torch.from_numpy(values) for values in tensors_of(rows).values()]
