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


@dataclass(frozen=True)
class Arms:
    """Who serves each event of a micro-batch."""

    challenger: NDArray[np.bool_]
    """[n] Whether the version on its way does; else the one that it is compared with."""
    propensity: NDArray[np.float64]
    """[n] The probability of the arm that the event is in."""


def arms(entities: Sequence[bytes], share: float, salt: int) -> Arms:
    """The arm of each entity; equal entities are in one arm, and stay there as the share grows.

    Args:
        entities: What stays in one arm, as bytes: an event's key, say.
        share: Of the entities that the version on its way serves, from 0 to 1.
        salt: The version on its way.
    """
    challenger = places(entities, salt) < share
    return Arms(challenger, np.where(challenger, share, 1.0 - share))


def places(entities: Sequence[bytes], salt: int) -> NDArray[np.float64]:
    """Each entity's place, uniform in [0, 1): 53 bits of XXH3, as many as a float holds. [n]."""
    hashes = (xxh3_64_intdigest(entity, salt) for entity in entities)
    bits = np.fromiter(hashes, np.uint64, len(entities)) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53
