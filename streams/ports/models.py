"""Models: which version serves, and the server that answers for it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from streams.distributions import Reference
from streams.spec.layout import Rows


class Scorer(Protocol):
    """A model server."""

    async def infer(self, version: int, rows: Rows) -> NDArray[np.float32]:
        """Scores float32 [n, outputs] of rows by one version.

        Rows on which the model errs, but not all, may hold numbers that are not finite.

        Raises `Unavailable` (retry) or `ModelError` (the version answers wrongly).
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Challenger(Protocol):
    """Which version is compared with the champion on live events, as the ledger says."""

    @property
    def version(self) -> int:
        """The challenger's version; 0 while none is compared."""
        ...

    @property
    def champion(self) -> int:
        """The version that it is compared with; 0 for none."""
        ...

    @property
    def since(self) -> float:
        """Event time at which the comparison began, seconds since 1970."""
        ...

    @property
    def unseen(self) -> float:
        """Event time from which on no event had a part in making either version."""
        ...


class Beside(NamedTuple):
    """A version that serves some of the entities beside the champion."""

    version: int
    threshold: float
    """Score from which it decides for class 1."""
    arm: str
    """`canary`, of the version on its way; `holdout`, of the one before it."""
    on_its_way: int
    """The version on its way: it salts who is in which arm."""
    share: float
    """Of the entities that the version on its way serves."""


class Champion(Protocol):
    """Which version serves, as the ledger says."""

    @property
    def version(self) -> int:
        """The champion's version; 0 while there is none."""
        ...

    @property
    def threshold(self) -> float:
        """Score from which the champion decides for class 1."""
        ...

    @property
    def beside(self) -> Beside | None:
        """Who serves some of the entities while a version is rolled out; None for nobody."""
        ...


class References(Protocol):
    """What versions were trained on, as the ledger says."""

    async def of(self, version: int) -> Reference | None:
        """A version's reference; None where it has none, or is of other features."""
        ...
