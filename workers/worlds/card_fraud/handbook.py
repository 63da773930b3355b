"""The world of the Fraud Detection Handbook (Le Borgne et al., 2022), written anew.

Customers and terminals live on a 100 x 100 grid; customers pay at terminals near them; three kinds
of fraud follow. The default world reproduces the published data row for row, amounts to the cent.

A world of fewer days has the same people and, but for the order of payments within one second, the
same payments on the days it has. Its frauds are the same before its last 13 days: a thief chooses
among all that the card would pay in 14 days, and nothing starts on the last day. For exactly the
first days of the published world, simulate all of it and cut: `frame[frame.day < 56]`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workers.worlds.card_fraud.draws import Draws, Floats, Ints, choices
from workers.worlds.card_fraud.frauds import commit_frauds
from workers.worlds.card_fraud.world import DAY, OnProgress, Payments, World

NOON, SPREAD = 43_200, 20_000  # seconds: when people pay
GRID = 100.0


class _People(NamedTuple):
    """The customers; arrays [customers]."""

    home: Floats  # [customers, 2]
    mean: Floats  # amount of a payment
    rate: Floats  # payments a day


def simulate(world: World = World(), progress: OnProgress | None = None) -> pd.DataFrame:  # noqa: B008
    """All transactions of a world, in order of time; `progress` is told the fraction done.

    Columns: transaction_id (the row number), tx_time (UTC), customer_id, terminal_id, amount,
    day and seconds since the start, is_fraud, scenario (0 none, 1 large amount, 2 hacked terminal,
    3 stolen card; the last one that applies).
    """
    tell = progress or (lambda _: None)
    payments = pay(world, lambda fraction: tell(0.8 * fraction))
    cents, scenario = commit_frauds(world, payments)
    tell(0.95)
    frame = table(world, payments._replace(cents=cents), scenario)
    tell(1.0)
    return frame


def table(world: World, payments: Payments, scenario: NDArray[np.int8]) -> pd.DataFrame:
    """The frame of transactions, from what cannot be computed from the rest."""
    return pd.DataFrame(
        {
            "transaction_id": np.arange(len(scenario)),
            "tx_time": np.datetime64(world.start, "s") + payments.time.astype("timedelta64[s]"),
            "customer_id": payments.customer,
            "terminal_id": payments.terminal,
            "amount": payments.cents / 100,
            "day": payments.time // DAY,
            "seconds": payments.time,
            "is_fraud": (scenario > 0).astype(np.int8),
            "scenario": scenario,
        }
    )


def pay(world: World, tell: OnProgress = lambda _: None) -> Payments:
    """What honest customers pay, in order of time.

    The order within a second is that of the published data: numpy's plain introsort, which it
    uses for dates on every processor, where for integers it may use another.
    """
    people = _people(world)
    payments = _with_terminals(world, people, _wishes(world, people, tell))
    order = np.argsort(payments.time.astype("datetime64[s]"), kind="quicksort")
    return Payments(*(column[order] for column in payments))


def _people(world: World) -> _People:
    drawn = np.random.RandomState(world.seed_for(0)).random_sample((world.customers, 4))
    return _People(home=GRID * drawn[:, :2], mean=5.0 + 95.0 * drawn[:, 2], rate=4.0 * drawn[:, 3])


def _wishes(world: World, people: _People, tell: OnProgress) -> Payments:
    """What everybody would pay if there were terminals everywhere (-1), customer by customer."""
    seeds = [world.seed_for(customer) for customer in range(world.customers)]
    spare = 6.0
    while True:
        draws = Draws(seeds, _needed(world, people, spare))
        parts: list[tuple[Ints, Ints, Ints]] = []
        for day in range(world.days):
            parts += _pay_one_day(draws, people, day)
            if draws.overran():
                break
            tell((day + 1) / world.days)
        else:
            break
        spare *= 2  # somebody paid oftener than six standard deviations allow: start again
    time, customer, cents = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(customer, kind="stable")
    return Payments(time[order], customer[order], np.full(len(order), -1), cents[order])


def _needed(world: World, people: _People, spare: float) -> Ints:
    """Uniform numbers [customers] that suffice, `spare` standard deviations above the mean.

    A day takes one more than its attempted payments, and each of those two normals at 4/pi.
    """
    attempts = world.days * people.rate
    mean = world.days + attempts * (1 + 8 / np.pi)
    return np.asarray(mean + spare * np.sqrt(16 * attempts) + 64, np.int64)


def _pay_one_day(draws: Draws, people: _People, day: int) -> list[tuple[Ints, Ints, Ints]]:
    """Time, customer and cents of everybody's first payment of the day, of the second, ..."""
    attempts = draws.poisson(people.rate)
    parts: list[tuple[Ints, Ints, Ints]] = []
    while True:
        payers = np.flatnonzero(attempts > len(parts))
        time = (NOON + SPREAD * draws.normal(payers)).astype(np.int64)
        today = (time > 0) & (time < DAY)
        customer = payers[today]
        parts.append((time[today] + day * DAY, customer, _amounts(draws, people, customer)))
        if not len(payers):
            return parts


def _amounts(draws: Draws, people: _People, customer: Ints) -> Ints:
    """What each customer pays next, in cents."""
    mean = people.mean[customer]
    amount = mean + mean / 2 * draws.normal(customer)
    negative = np.flatnonzero(amount < 0)
    amount[negative] = 2 * mean[negative] * draws.uniform(customer[negative])
    return np.rint(amount * 100).astype(np.int64)


def _with_terminals(world: World, people: _People, wishes: Payments) -> Payments:
    """The wishes that have a terminal near, each at one of them."""
    terminal = wishes.terminal.copy()
    ends = np.searchsorted(wishes.customer, np.arange(world.customers), side="right").tolist()
    starts = [0, *ends[:-1]]
    for number, near in enumerate(_reachable(world, people.home)):
        if len(near):
            rows = slice(starts[number], ends[number])
            count = ends[number] - starts[number]
            terminal[rows] = near[choices(world.seed_for(number), len(near), count)]
    possible = terminal >= 0
    return Payments(*(column[possible] for column in wishes._replace(terminal=terminal)))


def _reachable(world: World, homes: Floats) -> list[Ints]:
    """For each customer the terminals nearer than the radius, in order of their number."""
    terminals = GRID * np.random.RandomState(world.seed_for(1)).random_sample((world.terminals, 2))
    order = np.argsort(terminals[:, 0])
    across = terminals[order, 0]
    # only a strip of the grid can be near enough; a little wider, so that rounding excludes nobody
    first = np.searchsorted(across, homes[:, 0] - world.radius - 1e-6)
    last = np.searchsorted(across, homes[:, 0] + world.radius + 1e-6)
    strips = (order[low:high] for low, high in zip(first, last, strict=True))
    return [
        np.sort(strip[np.sqrt(np.square(home - terminals[strip]).sum(axis=1)) < world.radius])
        for home, strip in zip(homes, strips, strict=True)
    ]
