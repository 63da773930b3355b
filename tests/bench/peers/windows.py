"""Card fraud's twelve window features by pipelined Redis commands: one round trip a batch.

A sorted set of payments for each customer, one for each terminal, and one of each terminal's
confirmed frauds, by time. A customer's members are packed so that numpy reads those of a whole
batch at once; a payment's id in them makes a repeated delivery count once. The server runs a
pipeline in order, so each payment sees those before it in the same batch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.workloads import Batch

DAY = 86_400
WINDOWS = (DAY, 7 * DAY, 30 * DAY)
DELAY = 7 * DAY
"""How late frauds are confirmed: a terminal's windows end there."""
_PAYMENT = struct.Struct("<Id16s")
_MEMBER = np.dtype([("time", "<u4"), ("amount", "<f8"), ("id", "S16")])
_REPLIES = 2 + 1 + 2 * len(WINDOWS)
"""Commands, and so replies, for each payment."""

Command = tuple[bytes | int, ...]


def commands(batch: Batch) -> Iterator[Command]:
    """What to send for a batch: each payment's commands in order, then the trimming."""
    customers: dict[bytes, int] = {}
    terminals: dict[bytes, int] = {}
    for payment, name, time in zip(
        batch.events, batch.ids, batch.times.astype(int).tolist(), strict=True
    ):
        event_id = name.encode()
        customer, terminal = (
            b"c:" + payment.customer_id.encode(),
            b"t:" + payment.terminal_id.encode(),
        )
        frauds = b"f" + terminal[1:]
        yield b"ZADD", customer, time, _PAYMENT.pack(time, payment.amount, event_id)
        yield b"ZRANGEBYSCORE", customer, b"(%d" % (time - WINDOWS[-1]), time
        yield b"ZADD", terminal, time, event_id
        newest = time - DELAY
        for window in WINDOWS:
            older = b"(%d" % (newest - window)
            yield b"ZCOUNT", terminal, older, newest
            yield b"ZCOUNT", frauds, older, newest
        customers[customer] = time - WINDOWS[-1]
        terminals[terminal] = newest - WINDOWS[-1]
    for key, gone in chain(customers.items(), terminals.items()):
        yield b"ZREMRANGEBYSCORE", key, b"-inf", gone


def aggregates(batch: Batch, replies: Sequence[Any]) -> NDArray[np.float64]:
    """Float64 [n, 12] from the replies: count and mean by customer's window, then count and
    rate of frauds by terminal's."""
    n = len(batch.ids)
    members = replies[1 : n * _REPLIES : _REPLIES]
    past = np.frombuffer(b"".join(chain.from_iterable(members)), _MEMBER)
    owner = np.repeat(np.arange(n), [len(found) for found in members])
    age = batch.times[owner].astype(np.int64) - past["time"]
    columns: list[NDArray[Any]] = []
    for window in WINDOWS:
        inside = age < window
        count = np.bincount(owner[inside], minlength=n)
        total = np.bincount(owner[inside], past["amount"][inside], minlength=n)
        columns += [count, total / count]  # never empty: the payment itself is in it
    for position in range(3, _REPLIES, 2):
        count = np.array(replies[position : n * _REPLIES : _REPLIES])
        frauds = np.array(replies[position + 1 : n * _REPLIES : _REPLIES])
        columns += [count, frauds / np.maximum(count, 1)]
    return np.stack(columns, axis=1).astype(np.float64)
