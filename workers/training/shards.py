"""Examples, read by several ranks: each reads its own partitions, the first has them all after."""

from __future__ import annotations

import io

import numpy as np

from streams.errors import DriftloopError, TrainingError, Unavailable
from streams.settings import Settings
from streams.spec import Pipeline
from streams.versions import Logged
from workers.examples.reading import Examples, OffsetRanges, Reading, read_examples
from workers.training.ranks import Ranks

_FAILED, _AWAY = b"!", b"?"
"""Begins what a rank sends that could not read its examples, or found no broker."""
_TEXT = ("event_id", "key", "origin")


def shard(window: OffsetRanges, ranks: Ranks) -> OffsetRanges:
    """The partitions that are this rank's: they are dealt out in turn."""
    mine = sorted(window.ranges)[ranks.rank :: ranks.size]
    return OffsetRanges({partition: window.ranges[partition] for partition in mine})


async def read_together(
    settings: Settings,
    pipeline: Pipeline,
    window: OffsetRanges,
    ranks: Ranks,
    logged: Logged | None = None,
) -> tuple[Examples, Reading | None]:
    """This rank's examples, and what all have read, for the first.

    Raises:
        TrainingError: a rank could not read its examples; for the first rank, whoever it was.
        Unavailable: no broker answers a rank, as well.
    """
    try:
        own = await read_examples(settings, pipeline, shard(window, ranks), logged)
    except DriftloopError as error:
        if ranks.rank:
            mark = _AWAY if isinstance(error, Unavailable) else _FAILED
            ranks.gather(mark + str(error).encode())
        raise
    if ranks.size == 1:
        return own.examples, own
    parts = ranks.gather(_packed(own))
    if not parts:
        return own.examples, None
    for part in parts:
        if part.startswith((_FAILED, _AWAY)):
            kind = Unavailable if part.startswith(_AWAY) else TrainingError
            # their constructors make the message; here it is made already
            raise kind.__new__(kind, part[1:].decode())
    return own.examples, _joined([_unpacked(part) for part in parts])


def _joined(readings: list[Reading]) -> Reading:
    """In the order of (event time, event id), as one process reads them."""
    whole = readings[0].examples
    for one in readings[1:]:
        whole = whole.followed_by(one.examples)
    order = np.lexsort((whole.event_id, whole.event_time))
    marks = [one.watermark for one in readings if len(one.examples)]
    return Reading(whole.take(order), min(marks, default=0.0))


def _packed(reading: Reading) -> bytes:
    """A NumPy archive, with text as fixed-width Unicode: nothing in it is ever run."""
    file = io.BytesIO()
    columns = {name: getattr(reading.examples, name) for name in Examples.__dataclass_fields__}
    columns |= {name: columns[name].astype(np.str_) for name in _TEXT}
    np.savez(file, allow_pickle=False, watermark=np.array(reading.watermark), **columns)
    return file.getvalue()


def _unpacked(data: bytes) -> Reading:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        columns = {name: file[name] for name in Examples.__dataclass_fields__}
        columns |= {name: columns[name].astype(object) for name in _TEXT}
        return Reading(Examples(**columns), float(file["watermark"]))
