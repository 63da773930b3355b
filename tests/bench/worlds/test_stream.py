"""A baseline learns only what was known, and its figures are what they are called."""

from __future__ import annotations

import base64

import numpy as np

from tests.bench.worlds.films import Ratings, popular, ranked, together
from tests.bench.worlds.speech import BANDS, SLICES, spectrum
from tests.bench.worlds.stream import Ints, Predict, Stream, frozen, prequential, turns


def made(delay: float) -> Stream:
    at = np.arange(10.0)
    return Stream([], at, at, at + delay)


def test_a_run_is_taught_by_what_was_known_before_it() -> None:
    found = [(learnt.tolist(), run) for learnt, run in turns(made(2.5), first=4, every=4)]
    assert found == [([0, 1], slice(4, 8)), ([0, 1, 2, 3, 4, 5], slice(8, 10))]


def test_a_frozen_model_is_taught_once() -> None:
    taught = list[int]()

    def fit(learnt: Ints) -> Predict:
        taught.append(len(learnt))
        return lambda run: np.full(run.stop - run.start, float(len(learnt)))

    assert frozen(made(0.0), 4, fit).tolist() == [5.0] * 6
    assert prequential(made(0.0), 4, 4, fit).tolist() == [5.0] * 4 + [9.0] * 2
    assert taught == [5, 5, 9]


def test_what_was_rated_is_not_ranked_and_the_first_place_counts_most() -> None:
    # films 0 and 1 go together; user 2 has rated 0, and later rates 1
    users, films = np.array([0, 0, 1, 1, 3, 2, 2]), np.array([0, 1, 0, 1, 2, 0, 1])
    ratings = Ratings(users, films, np.arange(7.0), np.ones(7))
    train = np.arange(7) < 6
    assert ranked(ratings, train, together) == (1.0, 0.0)
    by_number = ranked(ratings, train, lambda r, _: np.tile([0.0, 1.0, 2.0], (4, 1)))
    assert by_number == (1 / np.log2(3), 0.0)
    assert popular(ratings, train)[2].tolist() == [3, 2, 1]


def test_a_spectrum_begins_with_the_sound() -> None:
    tone = (8000 * np.sin(np.arange(8192) * 0.3)).astype("<i2")
    later = np.concatenate([np.zeros(1280, "<i2"), tone])
    found, moved = (spectrum(base64.b64encode(x.tobytes()).decode()) for x in (tone, later))
    assert found.shape[0] <= SLICES * BANDS
    assert np.argmax(found) == np.argmax(moved)
    assert np.allclose(found[len(found) // 2 :], moved[len(found) // 2 :], atol=0.5)
