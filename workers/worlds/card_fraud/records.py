"""Transactions as events, and their labels as feedback: dicts, or the bytes of Kafka records.

Both are keyed by customer, so that an event and its label meet in one partition.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TypedDict

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray

DELAY = timedelta(days=7)
BLOCK = 65_536  # rows turned into Python objects at a time

KeyedRecord = tuple[bytes, bytes]


class TransactionEvent(TypedDict):
    """An event of the card-fraud pipeline."""

    transaction_id: str
    customer_id: str
    terminal_id: str
    amount: float
    tx_time: str


class TransactionLabel(TypedDict):
    """What an investigation found out about one event."""

    event_id: str
    label: int
    labelled_at: str


def events(frame: pd.DataFrame) -> Iterator[TransactionEvent]:
    """An event for each row of a simulated frame, in table order."""
    for block in _blocks(frame):
        for event_id, customer, terminal, amount, at in zip(
            _texts(block, "transaction_id"),
            _texts(block, "customer_id"),
            _texts(block, "terminal_id"),
            block["amount"].tolist(),
            _moments(block, timedelta(0)),
            strict=True,
        ):
            yield TransactionEvent(
                transaction_id=event_id,
                customer_id=customer,
                terminal_id=terminal,
                amount=amount,
                tx_time=at,
            )


def feedback(
    frame: pd.DataFrame, delay: timedelta = DELAY, positives_only: bool = False
) -> Iterator[TransactionLabel]:
    """The label of each row, or of each fraud, known `delay` after the transaction."""
    for block in _blocks(_labelled(frame, positives_only)):
        for event_id, label, at in zip(
            _texts(block, "transaction_id"),
            block["is_fraud"].tolist(),
            _moments(block, delay),
            strict=True,
        ):
            yield TransactionLabel(event_id=event_id, label=label, labelled_at=at)


def event_records(frame: pd.DataFrame) -> list[KeyedRecord]:
    """Key and value of each event, in table order."""
    return [(event["customer_id"].encode(), _packed(event)) for event in events(frame)]


def feedback_records(
    frame: pd.DataFrame, delay: timedelta = DELAY, positives_only: bool = False
) -> list[KeyedRecord]:
    """Key (that of the event) and value of each label, in table order."""
    customers = _texts(_labelled(frame, positives_only), "customer_id")
    found = feedback(frame, delay, positives_only)
    return [
        (customer.encode(), _packed(label))
        for customer, label in zip(customers, found, strict=True)
    ]


def _packed(record: TransactionEvent | TransactionLabel) -> bytes:
    # what orjson returns keeps its whole buffer, 4 KiB a record: a copy has the right size
    return bytes(memoryview(orjson.dumps(record)))


def _labelled(frame: pd.DataFrame, positives_only: bool) -> pd.DataFrame:
    return frame[frame["is_fraud"] == 1] if positives_only else frame


def _blocks(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    return (frame.iloc[start : start + BLOCK] for start in range(0, len(frame), BLOCK))


def _texts(frame: pd.DataFrame, column: str) -> list[str]:
    return list(map(str, frame[column].tolist()))


def _moments(frame: pd.DataFrame, delay: timedelta) -> list[str]:
    """When, as in 2018-04-01T00:00:31Z."""
    times: NDArray[np.datetime64] = frame["tx_time"].to_numpy().astype("datetime64[s]")
    later = times + np.timedelta64(int(delay.total_seconds()), "s")
    moments: list[str] = np.datetime_as_string(later, unit="s", timezone="UTC").tolist()
    return moments
