"""How producers of different families choose the partition of a key."""

from __future__ import annotations

from zlib import crc32

from aiokafka.partitioner import murmur2


def by_murmur2(key: bytes, partitions: int) -> int:
    """As Java's clients and aiokafka choose."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def by_crc32(key: bytes, partitions: int) -> int:
    """As librdkafka's clients choose."""
    return crc32(key) % partitions
