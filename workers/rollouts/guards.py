"""What takes a version back at once, without a label: it is broken, not merely worse. Pure.

Both versions answer for the same events at the same time, so what is wrong with the events, or with
the model server, is wrong with both and takes nobody back.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from streams.spec import RollOut
from streams.spec.tasks import BINARY, Task
from workers.rollouts.paired import Lately

_FEW, _ENOUGH = 100, 200
"""Events from which a version can be found constant, and from which it can be found otherwise."""
_FLIPPED = -0.3
"""Rank correlation with the champion's scores; by chance it is as low once in 100,000 times."""
_ERRORS = 5.0
"""Standard errors by which mean scores differ before their ratio counts."""
_LEAST_ERRING = 5
LATEST_ASKED = 5
"""Answers that are looked at together, the newest."""


class Asked(NamedTuple):
    """What came of asking both versions for the same vectors, at the same moment."""

    champion: float | None
    """Seconds that it took; None where it did not answer."""
    challenger: float | None


def broken(
    policy: RollOut,
    lately: Lately,
    trained_on: Sequence[float] | None = None,
    task: Task = BINARY,
) -> tuple[str, ...]:
    """What is wrong with the challenger's scores of the newest events, in words.

    `trained_on` are the shares of the classes in what it was trained on, or a value's mean and
    scale, where they are known: a champion whose scores have gone wrong must not throw out a
    version whose scores are right.
    """
    known = np.asarray(np.isfinite(lately.challenger).all(axis=1))
    found = [_erring(policy, known)]
    champion, challenger = lately.champion[known], lately.challenger[known]
    if len(champion) >= _FEW and (constant := _constant(champion, challenger)):
        found.append(constant)
    elif len(champion) >= _ENOUGH:
        shifted = _shifted if task.classes else _moved
        found += [_flipped(champion, challenger), shifted(policy, champion, challenger, trained_on)]
    return tuple(one for one in found if one)


def absent(policy: RollOut, answers: Sequence[Asked]) -> tuple[str, ...]:
    """What is wrong with how the challenger answers, in words; by the newest answers."""
    newest = answers[-LATEST_ASKED:]
    theirs = [one.champion for one in newest if one.champion is not None]
    ours = [one.challenger for one in newest if one.challenger is not None]
    if len(theirs) < LATEST_ASKED or median(theirs) > policy.slowest:
        return ()  # too few, or the model server is in trouble
    if not ours:
        return (f"it does not answer, {LATEST_ASKED} times in a row, while the champion does",)
    if len(ours) == LATEST_ASKED and median(ours) > policy.slowest:
        return (
            f"it answers in {median(ours):.3g} s, more than {policy.slowest:g} s, and the champion "
            f"in {median(theirs):.3g} s",
        )
    return ()


def _erring(policy: RollOut, known: NDArray[np.bool_]) -> str:
    erring = int(np.count_nonzero(~known))
    if erring < _LEAST_ERRING or erring <= policy.erring * len(known):
        return ""
    return f"it gives no finite score for {erring} of {len(known)} events"


def _constant(champion: NDArray[np.float64], challenger: NDArray[np.float64]) -> str:
    """Whether it says the same of all events, where the champion does not."""
    if np.ptp(challenger, axis=0).max() > 1e-6 or np.ptp(champion, axis=0).max() <= 1e-6:
        return ""
    return f"it says {_said(challenger[0])} of each of {len(challenger)} events"


def _flipped(champion: NDArray[np.float64], challenger: NDArray[np.float64]) -> str:
    """Whether it ranks events the other way round: in the class where it agrees most."""
    varied = (np.ptp(champion, axis=0) > 0) & (np.ptp(challenger, axis=0) > 0)
    if not varied.any():
        return ""
    ranks = [
        float(spearmanr(theirs, ours).statistic)
        for theirs, ours in zip(champion[:, varied].T, challenger[:, varied].T, strict=True)
    ]
    if max(ranks) > _FLIPPED:
        return ""
    return f"it ranks events the other way round: correlation {max(ranks):+.2f} with the champion"


def _shifted(
    policy: RollOut,
    champion: NDArray[np.float64],
    challenger: NDArray[np.float64],
    shares: Sequence[float] | None,
) -> str:
    """Whether its mean score of a class is beyond the bound, and not by chance.

    It has to be so beside the champion's and, where that is known, beside the class's share.
    """
    theirs, ours = champion.mean(axis=0), challenger.mean(axis=0)
    differences = challenger - champion
    errors = np.maximum(differences.std(axis=0) / np.sqrt(len(differences)), 1e-12)
    proven = np.abs(ours - theirs) > _ERRORS * errors
    ratios = (ours + 1e-9) / (theirs + 1e-9)
    beyond = proven & _beyond(ratios, policy.shift)
    if shares is not None:
        expected = np.array(shares[1:] if len(ours) == 1 else shares)
        beyond &= _beyond((ours + 1e-9) / expected, policy.shift)
    if not beyond.any():
        return ""
    column = int(np.argmax(beyond))
    return (
        f"its mean score is {ours[column]:.3g}, {ratios[column]:.2g} times the champion's: beyond "
        f"{policy.shift:g} times, or that part"
    )


def _moved(
    policy: RollOut,
    champion: NDArray[np.float64],
    challenger: NDArray[np.float64],
    trained_on: Sequence[float] | None,
) -> str:
    """Whether its mean point is too far from the champion's, and not by chance.

    In standard deviations of the champion's points. It has to be so beside the champion's and,
    where they are known, beside the labels that it was trained on.
    """
    theirs, ours = champion[:, 0], challenger[:, 0]
    off, spread = float((ours - theirs).mean()), max(float(theirs.std()), 1e-12)
    error = float((ours - theirs).std()) / np.sqrt(len(ours))
    beyond = abs(off) > max(_ERRORS * error, policy.shift * spread)
    if trained_on is not None:
        mean, scale = trained_on
        beyond &= bool(abs(float(ours.mean()) - mean) > policy.shift * scale)
    if not beyond:
        return ""
    return (
        f"its mean score is {ours.mean():.3g}, {abs(off) / spread:.3g} standard deviations off the "
        f"champion's {theirs.mean():.3g}: beyond {policy.shift:g}"
    )


def _beyond(ratios: NDArray[np.float64], bound: float) -> NDArray[np.bool_]:
    return (ratios > bound) | (ratios < 1.0 / bound)


def _said(scores: NDArray[np.float64]) -> str:
    return ", ".join(f"{score:.3g}" for score in scores)
