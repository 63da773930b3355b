"""Which of two versions serves an entity: decided by a hash, so that nobody changes back and forth.

An entity's place in [0, 1) is a hash of its name, salted by the version on its way. That version
serves the entities whose place is below its share. A share that grows keeps those it had, and the
canaries of two versions have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streams.ports.models import Beside
from streams.records import ARMS, CANARY


@dataclass(frozen=True)
class Arms:
    """Who serves each event of a micro-batch."""

    theirs: NDArray[np.bool_]
    """[n] Whether the version beside the champion does."""
    arms: NDArray[np.int8]
    """[n] Index in `ARMS`."""
    propensities: NDArray[np.float64]
    """[n] Share of the entities that are in the event's arm."""

    @classmethod
    def of(cls, beside: Beside, entities: Sequence[bytes]) -> Arms:
        """The arms of events of these entities, [n], while a version serves beside the champion.

        Equal entities are in one arm, and none leaves the version on its way as its share grows.
        """
        served = places(entities, beside.on_its_way) < beside.share
        theirs = served if beside.arm == CANARY else ~served
        return cls(
            theirs,
            np.where(theirs, ARMS.index(beside.arm), 0).astype(np.int8),
            np.where(served, beside.share, 1.0 - beside.share),
        )


def places(entities: Sequence[bytes], salt: int) -> NDArray[np.float64]:
    """Each entity's place, uniform in [0, 1): 53 bits of XXH3, as many as a float holds. [n]."""
    hashes = (xxh3_64_intdigest(entity, salt) for entity in entities)
    bits = np.fromiter(hashes, np.uint64, len(entities)) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53
