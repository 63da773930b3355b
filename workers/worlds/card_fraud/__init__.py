"""A simulated world of card payments and frauds, and its events and labels as Kafka records."""

from workers.worlds.card_fraud.cache import load
from workers.worlds.card_fraud.handbook import simulate
from workers.worlds.card_fraud.records import (
    TransactionEvent,
    TransactionLabel,
    event_records,
    events,
    feedback,
    feedback_records,
)
from workers.worlds.card_fraud.world import World

__all__ = [
    "TransactionEvent",
    "TransactionLabel",
    "World",
    "event_records",
    "events",
    "feedback",
    "feedback_records",
    "load",
    "simulate",
]
