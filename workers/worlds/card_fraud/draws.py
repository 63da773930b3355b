"""Many legacy random streams of numpy, each read in its own order, all advanced at once.

The published world draws from `numpy.random.seed(s)` once per customer, a call at a time: millions
of calls. Here the uniform numbers of all customers are taken in bulk, and numpy's own recipes
(unchanged by its compatibility promise for `RandomState`) are applied to whole arrays of customers:
Knuth's product for a Poisson count, Marsaglia's polar method, two at a time, for a normal.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WORD_BITS = 32
TAIL = 1024  # numbers after the last lane, which it may reach until somebody asks `overran`


class Draws:
    """One stream per lane; a call takes the next number of every lane it names, each once."""

    def __init__(self, seeds: Sequence[int], lengths: Ints) -> None:
        """`lengths` [lanes]: how many uniform numbers to hold for each seed."""
        self._ends = np.cumsum(lengths)
        self._next = self._ends - lengths
        self._uniform = np.empty(int(self._ends[-1]) + TAIL)
        stream = np.random.RandomState()
        for seed, start, end in zip(seeds, self._next, self._ends, strict=True):
            stream.seed(seed)
            self._uniform[start:end] = stream.random_sample(end - start)
        self._uniform[-TAIL:] = stream.random_sample(TAIL)
        self._pair = _next_pairs(self._uniform)
        self._spare = np.full(len(seeds), np.nan)

    def poisson(self, rate: Floats) -> Ints:
        """A Poisson count for each lane, `rate` [lanes] below 10 (numpy's recipe changes there)."""
        floor = np.exp(-rate)
        count = np.zeros(len(rate), np.int64)
        lanes = np.arange(len(rate))
        product = np.ones(len(rate))
        while len(lanes):
            product = product * self.uniform(lanes)
            above = product > floor[lanes]
            lanes, product = lanes[above], product[above]
            count[lanes] += 1
        return count

    def normal(self, lanes: Ints) -> Floats:
        """A standard normal for each of `lanes`; every second one was left over from a pair."""
        value: Floats = self._spare[lanes]
        self._spare[lanes] = np.nan
        used = np.flatnonzero(np.isnan(value))
        fresh = lanes[used]
        at = self._pair[self._next[fresh]]
        first = 2.0 * self._uniform[at] - 1.0
        second = 2.0 * self._uniform[at + 1] - 1.0
        square = first * first + second * second
        factor = np.sqrt(-2.0 * np.log(square) / square)
        self._next[fresh] = at + 2
        self._spare[fresh] = factor * first
        value[used] = factor * second
        return value

    def uniform(self, lanes: Ints) -> Floats:
        """A uniform number in [0, 1) for each of `lanes`."""
        at = self._next[lanes]
        self._next[lanes] = at + 1
        value: Floats = self._uniform[at]
        return value

    def overran(self) -> bool:
        """Whether a lane read past its end, into numbers of the next lane."""
        return bool(np.any(self._next > self._ends))


def _next_pairs(uniform: Floats) -> NDArray[np.int32]:
    """For each position, where the first pair at an even distance lies that the polar method keeps.

    It keeps a pair inside the unit circle, the centre excluded. The last positions have none: they
    point at the last pair, which no lane reaches that has not overrun.
    """
    squares = np.square(2.0 * uniform - 1.0)
    radius = squares[:-1] + squares[1:]
    last = len(radius) - 1
    pair = np.full(len(uniform), last, np.int32)
    kept = (radius < 1.0) & (radius > 0.0)
    pair[:-1][kept] = np.flatnonzero(kept)
    for parity in (0, 1):
        backwards = pair[parity::2][::-1]
        np.minimum.accumulate(backwards, out=backwards)
    return pair


def choices(seed: int, options: int, count: int) -> Ints:
    """What `count` calls of `random.choice(range(options))` give after `random.seed(seed)`."""
    stream = random.Random(seed)  # noqa: S311 - not a secret
    shift = WORD_BITS - options.bit_length()
    parts: list[NDArray[np.integer]] = []
    missing = count
    while missing > 0:
        # each call draws as many bits as the largest option has, again while they are too large
        words = np.frombuffer(stream.randbytes(WORD_BITS // 8 * (2 * missing + 16)), "<u4") >> shift
        kept = words[words < options][:missing]
        parts.append(kept)
        missing -= len(kept)
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)
