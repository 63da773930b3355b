"""A simulated world of card payments and frauds, and its events and labels as Kafka records."""

from workers.simulator.cache import load
from workers.simulator.handbook import simulate
from workers.simulator.records import (
    Feedback,
    Transaction,
    event_records,
    events,
    feedback,
    feedback_records,
)
from workers.simulator.world import World

__all__ = [
    "Feedback",
    "Transaction",
    "World",
    "event_records",
    "events",
    "feedback",
    "feedback_records",
    "load",
    "simulate",
]
