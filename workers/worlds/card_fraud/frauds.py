"""The three kinds of fraud, committed on the payments of a world.

What is drawn on a day depends on that day's seed alone, and nothing starts on the last day.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from workers.worlds.card_fraud.draws import Ints
from workers.worlds.card_fraud.world import DAY, Payments, World

LARGE = 220_00  # cents: an amount above it gives a fraud away
HACKED, HACKED_DAYS = 2, 28  # terminals hacked a day, and for how long
STOLEN, STOLEN_DAYS = 3, 14  # cards stolen a day, and for how long
RAISE = 5  # a thief pays five times what the customer would


def commit_frauds(world: World, payments: Payments) -> tuple[Ints, NDArray[np.int8]]:
    """Cents and scenario [payments], payments in order of time; the last scenario counts."""
    cents = payments.cents.copy()
    scenario = (cents > LARGE).astype(np.int8)
    for rows in hacked_terminals(world, payments):
        scenario[rows] = 2
    for rows in stolen_cards(world, payments):
        cents[rows] *= RAISE
        scenario[rows] = 3
    return cents, scenario


def hacked_terminals(world: World, payments: Payments) -> Iterator[Ints]:
    """For each day the rows of all payments at terminals hacked on it."""
    for day, first, last in _periods(payments, HACKED_DAYS):
        hacked = _victims(world, day, world.terminals, HACKED)
        yield first + np.flatnonzero(hacked[payments.terminal[first:last]])


def stolen_cards(world: World, payments: Payments) -> Iterator[Ints]:
    """For each day the rows of a third of the payments with cards stolen on it."""
    for day, first, last in _periods(payments, STOLEN_DAYS):
        stolen = _victims(world, day, world.customers, STOLEN)
        paid = first + np.flatnonzero(stolen[payments.customer[first:last]])
        thief = random.Random(world.seed_for(day))  # noqa: S311 - not a secret
        yield paid[thief.sample(range(len(paid)), len(paid) // 3)]


def _periods(payments: Payments, length: int) -> Iterator[tuple[int, int, int]]:
    """Each day but the last, and the rows, first and past the last, of `length` days from it."""
    last_day = int(payments.time[-1]) // DAY if len(payments.time) else 0
    begins = np.searchsorted(payments.time, np.arange(last_day + length) * DAY).tolist()
    return ((day, begins[day], begins[day + length]) for day in range(last_day))


def _victims(world: World, day: int, population: int, count: int) -> NDArray[np.bool_]:
    """Who of the `population` is among the `count` different victims drawn on a day."""
    stream = np.random.RandomState(world.seed_for(day))
    victims = np.zeros(population, bool)
    victims[stream.choice(population, size=count, replace=False)] = True
    return victims
