"""The challenger beside the champion, on the labelled events that both have scored."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes

from streams.ledger.state import LedgerState
from streams.records import Shadowed
from streams.spec import Pipeline
from workers.evaluation.sequential import ConfidenceSequence
from workers.evaluation.values import measured
from workers.reports.drawing import BAD, CYCLE, FAINT, legend
from workers.reports.page import Picture, Rows, Section
from workers.reports.series import Floats
from workers.rollouts.paired import PairedLosses

_LOOKS = 120
"""So many points of the sequence are drawn."""
_SHOWN = {"average_precision": "AP", "roc_auc": "AUC", "accuracy": "Accuracy", "brier": "Brier"}
_SHOWN |= {"wape": "WAPE", "mae": "MAE", "rmse": "RMSE", "pinball": "Pinball loss"}


def comparison(pipeline: Pipeline, state: LedgerState, records: Iterable[Shadowed]) -> Section:
    """What the labelled events say of the challenger in its stage."""
    losses = PairedLosses(pipeline, state)
    found = sorted(
        (one for one in records if losses.is_evidence(one)),
        key=lambda one: (one.event_time, one.event_id),
    )
    title = f"Version {state.challenger} against version {state.incumbent}: {state.stage}"
    if not found:
        return Section(
            title,
            "No event that both have scored has matured yet: an event counts when its label's "
            "horizon has passed. See that `driftloop shadow` runs.",
        )
    labels = np.array([one.label for one in found], np.float32)
    scores = {
        state.incumbent: losses.scores([one.champion_score for one in found]),
        state.challenger: losses.scores([one.challenger_score for one in found]),
    }
    task = pipeline.predicts
    found_of = {version: measured(task, one, labels) for version, one in scores.items()}
    names = [name for name in _SHOWN if all(name in one for one in found_of.values())]
    rows = [
        (str(version), *(f"{one[name]:.4f}" for name in names)) for version, one in found_of.items()
    ]
    head = ("Version", *(_SHOWN[name] for name in names))
    said = f"Of the same {len(found):,} events."
    picture = _sequence(pipeline, losses.differences(found), losses.unit)
    return Section(title, "", [picture], [Rows("", said, head, rows)])


def _sequence(pipeline: Pipeline, differences: Floats, unit: float) -> Picture:
    """The mean difference in loss, event by event, as an interval that holds at all times.

    Both are divided by `unit`.
    """
    policy = pipeline.policies.rollout
    confidence = policy.step_confidence(1 + len(pipeline.slices))
    counts = np.unique(np.linspace(1, len(differences), _LOOKS).astype(int))
    state, means, ends = ConfidenceSequence(confidence), [], []
    for first, after in zip([0, *counts[:-1]], counts, strict=True):
        state = state.update(differences[first:after])
        means.append(state.mean / unit)
        ends.append([end / unit for end in state.interval])
    low, high = (np.array(end) for end in zip(*ends, strict=True))

    def draw(axes: Axes) -> None:
        axes.plot(counts, means, color=CYCLE[0], label="mean")
        axes.fill_between(counts, low, high, color=CYCLE[0], alpha=0.18, linewidth=0)
        axes.axhline(0, color=FAINT, lw=0.8)
        axes.axhline(policy.harm, color=BAD, ls="--", lw=0.8, label="harm")
        # the first intervals are as wide as can be: the picture is of what is known at last
        wide = 4 * max(abs(low[-1]), abs(high[-1]), policy.harm)
        axes.set_ylim(-wide, wide)
        axes.set_xlabel("labelled events")
        axes.set_ylabel("loss, challenger - champion")
        legend(axes)

    return Picture(
        name="challenger",
        title="Difference in loss",
        says=f"The challenger's loss is {means[-1]:+.5f} against the champion's, by a confidence "
        f"sequence between {low[-1]:+.5f} and {high[-1]:+.5f}: it holds however often one looks. "
        f"Wholly below {policy.harm:g} the challenger is proven harmless, wholly above 0 worse.",
        draw=draw,
    )
