"""Where the events of a key are: producers of other families put keys on other partitions.

librdkafka takes the CRC-32 of a key, Java and aiokafka its murmur2; and a topic that is given more
partitions puts most keys on others than before. The keys of what was served tell which of these the
events follow. A label that finds no event where it came is passed on to where its event may be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from streams.kafka.partitioning import by_crc32, by_murmur2

_LEAST_KEYS = 8
"""From fewer keys nothing is concluded."""
_SHARE = 0.9
"""A way of choosing partitions must explain this share of what the others leave unexplained."""


_FAMILIES: dict[str, Callable[[bytes, int], int]] = {"murmur2": by_murmur2, "CRC-32": by_crc32}


@dataclass(frozen=True)
class Homes:
    """The ways in which the events' partitions were chosen; the present one first."""

    ways: Sequence[tuple[str, int]] = ()
    """Family, and number of partitions."""
    unexplained: bool = False
    """Whether many keys are where none of the known ways puts them."""

    @classmethod
    def of(cls, served: Iterable[tuple[int, bytes]], partitions: int) -> Homes:
        """What partitions and keys of served events, of several partitions, tell."""
        left = {(at, key) for at, key in served if key}
        if len(left) < _LEAST_KEYS:
            return cls()
        total, ways = len(left), list[tuple[str, int]]()
        for count in range(partitions, 0, -1):
            for name, choose in _FAMILIES.items():
                found = {(at, key) for at, key in left if choose(key, count) == at}
                # the present way explains only what came since it holds
                share = 0.5 if not ways and count == partitions else _SHARE
                if len(found) >= max(_LEAST_KEYS, share * len(left)):
                    ways.append((name, count))
                    left -= found
        return cls(ways, len(left) > max(_LEAST_KEYS, (1 - _SHARE) * total))

    def others(self, key: bytes, partition: int) -> list[int]:
        """The partitions, but this one, on which events of a key may be."""
        found = dict.fromkeys(_FAMILIES[name](key, count) for name, count in self.ways)
        return [at for at in found if at != partition]

    def __str__(self) -> str:
        return ", before: ".join(f"{name} of {count}" for name, count in self.ways) or "unknown"
