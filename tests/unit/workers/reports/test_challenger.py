"""The challenger beside the champion: which events count, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from streams.ledger.state import LedgerState, state_after
from streams.records import Action, Shadowed
from streams.spec import Decision, Feedback, Model
from tests.unit.pipelines import declare
from tests.unit.streams.evaluation.test_processor import PIPELINE, T0
from tests.unit.workers.reports.test_live import entry
from tests.unit.workers.reports.test_page import Read
from workers.evaluation.metrics import measures
from workers.evaluation.sequential import ConfidenceSequence
from workers.reports.challenger import comparison
from workers.reports.live import Known, live_report
from workers.reports.page import Section

LEDGER = [
    entry(1),
    entry(2, Action.CANDIDATE),
    entry(2, Action.SHADOW, by="rollout", event_time=T0 + 10),
]
STATE = state_after(LEDGER)


def shadowed(number: int, label: float | None = 1.0, **changes: object) -> Shadowed:
    found = Shadowed(
        f"e{number}", T0 + number, 1, 0.5, 2, 0.6, T0 + 10, 1, "ann", label=label, labelled_at=T0
    )
    return msgspec.structs.replace(found, **changes)


def compared(count: int, harm: float) -> list[Shadowed]:
    """Events whose challenger's score is further from the label by `harm`, in log-odds."""
    rng = np.random.default_rng(0)
    labels = (rng.random(count) < 0.3).astype(float)
    odds = np.where(labels > 0, 0.5, -0.5) + rng.normal(0, 1, count)
    worse = odds - harm * np.where(labels > 0, 1, -1)
    scores = [1 / (1 + np.exp(-one)) for one in (odds, worse)]
    return [
        shadowed(10 + i, labels[i], champion_score=float(a), challenger_score=float(b))
        for i, (a, b) in enumerate(zip(*scores, strict=True))
    ]


@pytest.mark.parametrize("harm", [-0.5, 0.0, 0.5])
def test_the_sequence_is_that_of_all_differences(harm: float) -> None:
    found = compared(3000, harm)
    section = comparison(PIPELINE, STATE, [*found, shadowed(9, since=T0), shadowed(8, None)])
    assert section.title == "Version 2 against version 1: shadow"
    labels = np.array([one.label for one in found], np.float32)
    ours = np.array([one.challenger_score for one in found])
    theirs = np.array([one.champion_score for one in found])
    policy = PIPELINE.policies.rollout
    sequence = ConfidenceSequence(policy.step_confidence(1 + len(PIPELINE.slices)))
    sequence = sequence.update((ours - labels) ** 2 - (theirs - labels) ** 2)
    low, high = sequence.interval
    [picture] = section.pictures
    assert f"is {sequence.mean:+.5f} against" in picture.says
    assert f"between {low:+.5f} and {high:+.5f}" in picture.says
    assert (low > 0) is (harm > 0)
    assert (high < 0) is (harm < 0)
    [table] = section.tables
    expected = measures(ours.astype(np.float32).reshape(-1, 1), labels)
    assert table.rows[1] == (
        "2",
        *(
            f"{expected[name]:.4f}"
            for name in ("average_precision", "roc_auc", "accuracy", "brier")
        ),
    )


def challenger_of(shadowed: Sequence[Shadowed] | None, state: LedgerState) -> Section | None:
    page = live_report(Known(PIPELINE, [], LEDGER, shadowed))
    titles = [f"Version {state.challenger} against", f"Version {state.challenger}: shadow"]
    found = [one for one in page.sections if one.title.startswith(tuple(titles))]
    Read(page.html())
    return found[0] if found else None


def test_the_report_has_a_section_of_it_or_says_why_not() -> None:
    found = challenger_of(compared(50, 0.1), STATE)
    assert found is not None
    assert len(found.pictures) == 1
    found = challenger_of([], STATE)
    assert found is not None
    assert "See that `driftloop shadow` runs" in found.says
    found = challenger_of(None, STATE)
    assert found is not None
    assert "too long" in found.says


def test_several_classes_are_compared_too() -> None:
    rng = np.random.default_rng(0)
    found = [
        shadowed(
            10 + i,
            float(rng.integers(3)),
            champion_score=rng.dirichlet((1, 1, 1)).tolist(),
            challenger_score=rng.dirichlet((1, 1, 1)).tolist(),
        )
        for i in range(60)
    ]
    names = ("a", "b", "c")
    three = declare(
        model=Model(network=lambda features: features, outputs=3),
        decision=Decision(classes=names),
        feedback=Feedback(horizon="1h", missing=0, keep="1h", classes=names),
        features=list(PIPELINE.features)[:4],
    )
    [table] = comparison(three, STATE, found).tables
    assert table.head == ("Version", "AP", "AUC", "Accuracy")


def test_one_event_is_enough_to_draw() -> None:
    page = live_report(Known(PIPELINE, [], LEDGER, [shadowed(20)]))
    assert "Difference in loss" in page.html()
