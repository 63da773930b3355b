"""The good events of a micro-batch, in columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streams.dead_letters import Rejected
from streams.errors import BadRecord
from streams.ports.batches import SourceRecord
from streams.spec import Columns
from streams.spec.features import Block


@dataclass(frozen=True)
class Decoded:
    """The good events of a micro-batch, in offset order."""

    records: list[SourceRecord]
    """[n] where they came from."""
    ids: list[str]
    """[n] event ids."""
    entities: Mapping[str, list[str]]
    """[n] names of the entity, by key field: whole numbers digit by digit."""
    columns: Columns
    """Cleaned fields by name, read-only; the event time in seconds since 1970."""
    times: NDArray[np.float64]
    """[n] event time, seconds since 1970."""
    features: dict[int, Block]
    """Features that need no state, by their position: float64 [n, width] each."""
    inputs: dict[str, NDArray[Any]]
    """Tensors by name, [n, *shape] each."""
    rejected: list[Rejected]
    """The others, each with its cause."""

    def hashes(self) -> NDArray[np.uint64]:
        """[n] 64-bit hashes of the event ids."""
        encoded = map(str.encode, self.ids)
        return np.fromiter(map(xxh3_64_intdigest, encoded), np.uint64, len(self.ids))

    def keys(self) -> list[bytes]:
        """[n] their records' keys; the id of an event without one."""
        pairs = zip(self.records, self.ids, strict=True)
        return [record.key or event_id.encode() for record, event_id in pairs]

    def select(self, keep: NDArray[np.bool_], rejected: Iterable[Rejected] = ()) -> Decoded:
        """The events where `keep` is set, with more rejected ones."""
        chosen = np.flatnonzero(keep).tolist()
        return Decoded(
            records=[self.records[i] for i in chosen],
            ids=[self.ids[i] for i in chosen],
            entities={key: [names[i] for i in chosen] for key, names in self.entities.items()},
            columns=read_only({name: column[keep] for name, column in self.columns.items()}),
            times=self.times[keep],
            features={at: block[keep] for at, block in self.features.items()},
            inputs={name: tensor[keep] for name, tensor in self.inputs.items()},
            rejected=[*self.rejected, *rejected],
        )

    def without(self, bad: Mapping[int, BadRecord]) -> Decoded:
        """The events that are not `bad`; those, by their row, are rejected."""
        if not bad:
            return self
        keep = np.ones(len(self.records), bool)
        keep[list(bad)] = False
        return self.select(keep, [(self.records[i], bad[i]) for i in sorted(bad)])

    def followed_by(self, other: Decoded) -> Decoded:
        """Both, one after the other."""
        return Decoded(
            records=self.records + other.records,
            ids=self.ids + other.ids,
            entities={key: names + other.entities[key] for key, names in self.entities.items()},
            columns=read_only(
                {
                    k: np.concatenate([column, other.columns[k]])
                    for k, column in self.columns.items()
                }
            ),
            times=np.concatenate([self.times, other.times]),
            features={
                at: np.concatenate([block, other.features[at]])
                for at, block in self.features.items()
            },
            inputs={
                name: np.concatenate([tensor, other.inputs[name]])
                for name, tensor in self.inputs.items()
            },
            rejected=self.rejected + other.rejected,
        )


def read_only(columns: dict[str, NDArray[Any]]) -> Columns:
    """Nobody changes what other features, and the windows, read as well."""
    for column in columns.values():
        column.flags.writeable = False
    return columns
