"""Packs micro-batches for `feature_state.lua`, and unpacks its answers.

Little-endian throughout. Events are grouped by entity, so that the server reads and writes each
entity once; an event's row number tells where its answer belongs.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.adapters.fold_journal import Answer
from streams.ports.features import FoldBatch, Folded, LabelBatch
from streams.spec.windows import FoldPlan, KeyPlan

LAYOUT = 3
"""Version of the entity's string; one code version never reads another's."""

_WEEK = 7 * 86_400
_DOUBLES, _DUPLICATE = 1, 2
_LARGEST = 0x7FFFFFFF


@dataclass(frozen=True)
class _Key:
    """What is sent with every batch for one key plan, and how its rows are read."""

    plan: KeyPlan
    edges: tuple[int, ...]
    """The plan's edges, the age to which ids are remembered, and to which events are; ascending."""
    prefix: bytes
    packed: bytes
    values: NDArray[np.intp]
    """Columns of the batch's values that are summed."""
    scanned: NDArray[np.intp]
    """Columns of the batch's values that are scanned."""
    labels: NDArray[np.intp]
    """Columns of a label batch: the labels' sum, and the classes."""
    record: np.dtype[np.void]
    label: np.dtype[np.void]
    row: np.dtype[np.void]
    rest: np.dtype[np.void]
    newer: NDArray[np.intp]
    older: NDArray[np.intp]
    """The positions in `edges` of each window's older edge; `newer` has the newer ones."""


class Wire:
    """Packs batches of one pipeline and plan, and reads the answers."""

    def __init__(self, pipeline: str, plan: FoldPlan, topic_id: str = "") -> None:
        kept = [_kept(key, plan) for key in plan.keys]
        text = repr((LAYOUT, kept, topic_id))
        digest = hashlib.sha256(text.encode()).hexdigest()[:6]
        # one hash slot, so that one call may touch all keys of the pipeline
        self.prefix = f"{{{pipeline}}}{digest}"
        self.plan = plan
        self.ttl = max([_WEEK, *(2 * (k.kept + k.remember) for k in plan.keys)])
        self._keys = {
            k: _key(f"{self.prefix}{k}:".encode(), key, plan, self.ttl // 16)
            for k, key in enumerate(plan.keys)
            if key.kept
        }
        self._row = np.dtype([(f"k{k}", key.row) for k, key in self._keys.items()])

    def fold(self, batch: FoldBatch) -> list[bytes | int]:
        """Arguments of the function that folds a batch."""
        offsets = (batch.offsets - batch.first).astype("<u4").tobytes()
        args: list[bytes | int] = [batch.first, batch.next, batch.committed, self.ttl, offsets]
        rows = np.arange(len(batch.offsets))
        scaled, whole = _hundredths(batch.values)
        for k, key in self._keys.items():
            order, groups, names = _group(batch.entities[k], key.prefix)
            records = np.empty(len(rows), key.record)
            records["time"], records["row"], records["exact"] = batch.times, rows, 1
            if key.plan.values:
                records["exact"], records["values"] = _exact(batch.values, scaled, whole, key)
            if key.plan.scanned:
                records["scanned"] = batch.values.take(key.scanned, 1)
            if key.plan.remember:
                records["id"] = batch.ids
            args += [key.packed, groups, names, records.take(order).tobytes()]
        return args

    def fold_labels(self, batch: LabelBatch) -> list[bytes | int]:
        """Arguments of the function that adds labels."""
        first = int(batch.offsets.min()) if len(batch.offsets) else batch.next
        offsets = (batch.offsets - first).astype("<u4").tobytes()
        args: list[bytes | int] = [first, batch.next, self.ttl, offsets, batch.first, batch.note]
        labelled = [key for key in self._keys.values() if key.plan.labels]
        deltas = batch.deltas[:, None]
        if batch.by_class is not None:
            deltas = np.concatenate([deltas, batch.by_class], axis=1)
        scaled, whole = _hundredths(deltas)
        exact = np.logical_and.reduce(whole, axis=1)
        sent = np.where(exact[:, None], scaled, deltas)
        for key, entities in zip(labelled, batch.entities, strict=True):
            records = np.empty(len(batch.offsets), key.label)
            records["time"], records["row"] = batch.times, np.arange(len(batch.offsets))
            records["exact"], records["deltas"] = exact, sent.take(key.labels, 1)
            order, groups, names = _group(entities, key.prefix)
            args += [key.packed, groups, names, records.take(order).tobytes()]
        return args

    def answer(self, blob: bytes) -> Answer:
        """Read what a fold returned, and what the journal kept of it."""
        first, following, n = _ANSWER.unpack_from(blob)
        offsets = np.frombuffer(blob, "<u4", n, _ANSWER.size) + np.int64(first)
        at = _ANSWER.size + 4 * n
        rows = np.frombuffer(blob, self._row, n if self._keys else 0, at)
        at += rows.nbytes
        blocks = []
        for k, key in self._keys.items():
            (count,) = _COUNT.unpack_from(blob, at)
            rest = np.frombuffer(blob, key.rest, count, at + _COUNT.size)
            at += _COUNT.size + rest.nbytes
            blocks.append(_windows(key, rows[f"k{k}"], rest))
            if key.plan.scans:
                blocks.append(rows[f"k{k}"]["scans"])
        # a key without state has no windows, and the first key alone finds duplicates
        aggregates = np.concatenate(blocks, axis=1) if blocks else np.empty((n, 0))
        found = 0 in self._keys and self._keys[0].plan.remember
        duplicate = rows["k0"]["mode"] == _DUPLICATE if found else np.zeros(n, np.bool_)
        return Answer(following, offsets, Folded(aggregates, duplicate))


_ANSWER = struct.Struct("<QQI")
_COUNT = struct.Struct("<I")


def _kept(key: KeyPlan, plan: FoldPlan) -> tuple[object, ...]:
    """What a stored entity of the key is made of; what came later is there where it is used."""
    kept: tuple[object, ...] = (key.key, key.edges, key.values, key.labels, key.remember, key.lag)
    if key.scanned or key.classes:
        texts = [field in plan.texts for field in key.scanned]
        kept += (key.classes, key.scanned, texts)
    return kept


def _key(prefix: bytes, key: KeyPlan, plan: FoldPlan, refresh: int) -> _Key:
    edges = tuple(sorted({*key.edges, key.kept, *([key.remember] if key.remember else [])}))
    columns = key.columns
    begin: list[Any] = [("time", "<u4"), ("row", "<u4"), ("exact", "u1")]
    record = list(begin)
    if key.remember:
        record.append(("id", "<u8"))
    if key.values:
        record.append(("values", "<f8", (len(key.values),)))
    if key.scanned:
        record.append(("scanned", "<f8", (len(key.scanned),)))
    labels = [0, *(1 + plan.classes.index(number) for number in key.classes)]
    edge = np.dtype([("count", "<u4"), ("sums", "<f8", (columns,))])
    row: list[Any] = [("mode", "u1"), ("edges", edge, (len(edges),))]
    if key.scans:
        row.append(("scans", "<f8", (len(key.scans),)))
    head = (columns, len(key.values), len(edges), key.remember, key.label_age, refresh, *edges)
    return _Key(
        plan=key,
        edges=edges,
        prefix=prefix,
        packed=struct.pack(f"<BBBIII{len(edges)}I", *head) + _scans(key, edges),
        values=np.array([plan.values.index(value) for value in key.values], np.intp),
        scanned=np.array([plan.values.index(value) for value in key.scanned], np.intp),
        labels=np.array(labels, np.intp),
        record=np.dtype(record),
        label=np.dtype([*begin, ("deltas", "<f8", (len(labels),))]),
        row=np.dtype(row),
        rest=np.dtype([("row", "<u4"), ("sums", "<f8", (len(edges), columns))]),
        newer=np.array([edges.index(key.edges[newer]) for newer, _ in key.windows], np.intp),
        older=np.array([edges.index(key.edges[older]) for _, older in key.windows], np.intp),
    )


def _scans(key: KeyPlan, edges: Sequence[int]) -> bytes:
    """What the functions are told of scans; nothing where there are none."""
    if not key.scans:
        return b""
    parts = [struct.pack("<BB", len(key.scanned), len(key.scans))]
    for scan in key.scans:
        newer, older = (1 + edges.index(key.edges[edge]) for edge in scan.window)
        column = 1 + key.scanned.index(scan.field) if scan.field else 1
        parts.append(struct.pack("<BBBBI", scan.kind, newer, older, column, scan.back))
    return b"".join(parts)


def _group(names: Sequence[bytes], prefix: bytes) -> tuple[NDArray[np.intp], bytes, bytes]:
    """Order of rows by entity, (size of key, rows) of each as u32 pairs, and all keys."""
    index: dict[bytes, int] = {}
    codes = np.array([index.setdefault(name, len(index)) for name in names], np.intp)
    groups = np.empty((len(index), 2), "<u4")
    groups[:, 0] = np.fromiter(map(len, index), "<u4", len(index)) + len(prefix)
    groups[:, 1] = np.bincount(codes, minlength=len(index))
    keys = prefix + prefix.join(index) if index else b""
    return codes.argsort(kind="stable"), groups.tobytes(), keys


def _hundredths(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values times 100, rounded, and which of them were whole hundredths."""
    scaled = np.rint(values * 100)
    return scaled, (scaled / 100 == values) & (np.abs(scaled) <= _LARGEST)


def _exact(
    values: NDArray[np.float64], scaled: NDArray[np.float64], whole: NDArray[np.bool_], key: _Key
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which rows are sent as hundredths, because all values of the key are; and what is sent."""
    columns = key.values
    exact = np.logical_and.reduce(whole.take(columns, 1), axis=1)
    return exact, np.where(exact[:, None], scaled.take(columns, 1), values.take(columns, 1))


def _windows(key: _Key, rows: NDArray[np.void], rest: NDArray[np.void]) -> NDArray[np.float64]:
    """Aggregates [n, windows x (1 + columns)] from counts and sums at the edges."""
    newer, older = key.newer, key.older
    counts, sums = rows["edges"]["count"], rows["edges"]["sums"]
    parts = np.empty((len(rows), len(newer), 1 + sums.shape[2]))
    parts[:, :, 0] = counts.take(newer, 1) - counts.take(older, 1)
    total = sums.take(newer, 1) - sums.take(older, 1)
    if not len(rest):
        np.divide(total, 100.0, out=parts[:, :, 1:])
    else:  # some rows are doubles
        remainders = np.zeros_like(sums)
        remainders[rest["row"]] = rest["sums"]
        total += remainders.take(newer, 1) - remainders.take(older, 1)
        total /= np.where(rows["mode"] == _DOUBLES, 1.0, 100.0)[:, None, None]
        # what is left of sums of no events is rounding
        parts[:, :, 1:] = np.where(parts[:, :, :1] > 0, total, 0.0)
    return parts.reshape(len(rows), key.plan.width - len(key.plan.scans))
