"""What a report tells of the ledger: marks in pictures, verdicts rule by rule, every step."""

from __future__ import annotations

import dataclasses

from streams.evaluation.totals import Total
from streams.records import Action
from tests.unit.streams.evaluation.test_processor import DAY, T0
from tests.unit.workers.reports.test_live import entry
from workers.reports.ledger import history, marks, verdicts
from workers.reports.series import Point


def point(version: int, day: int) -> Point:
    return Point(version, T0 + day * DAY, T0 + (day + 1) * DAY, young=False, total=Total())


POINTS = [point(1, day) for day in range(5)] + [point(2, day) for day in range(3, 9)]


def test_marks_lie_where_event_time_was_or_where_the_version_began_to_serve() -> None:
    found = marks(
        [
            entry(1),
            entry(2, Action.CANDIDATE),
            entry(2, Action.SHADOW, by="rollout", event_time=T0 + DAY),
            entry(2, Action.CANARY, by="rollout", event_time=T0 + 2 * DAY, share=0.05),
            entry(2, at=T0 + 99 * DAY),
            entry(1, Action.ROLLBACK, at=T0 + 7 * DAY, by="operator"),
            entry(3, Action.REJECT),
        ],
        POINTS,
    )
    assert [((mark.at - T0) / DAY, mark.label, mark.back) for mark in found] == [
        (0, "version 1", False),
        (1, "shadow 2", False),
        (2, "canary 2, 5%", False),
        (3, "version 2", False),
        (7, "back to 1", True),
    ]


def test_a_step_at_no_event_time_that_is_shown_has_no_mark() -> None:
    assert marks([entry(1, Action.ROLLBACK, at=T0 + 99 * DAY)], POINTS) == []
    assert marks([entry(1)], []) == []


def test_verdicts_are_those_of_the_last_candidates_rule_by_rule() -> None:
    judged = [entry(version, Action.INCONCLUSIVE) for version in range(1, 6)]
    steps = [entry(5, Action.SHADOW, by="rollout"), entry(4, by="operator")]
    found = verdicts([*judged, *steps])
    assert [one.title for one in found] == [
        "Version 5: inconclusive",
        "Version 4: inconclusive",
        "Version 3: inconclusive",
    ]
    assert found[0].rows == [("margin", "passed", "-0.01", "-0.04")]
    # the rules are in the table: the sentence is of the one that decided
    assert found[0].says == "margin: it is good"


def test_history_is_every_step_with_its_evidence_newest_first() -> None:
    evidence = {"labelled": 1200.0, "low": -0.001, "high": 0.0015}
    found = history(
        [
            entry(1),
            entry(2, Action.CANARY, by="rollout", share=0.25, evidence=evidence, event_time=T0),
            entry(1, Action.ROLLBACK, by="operator", who="ann@host", reason="too many alerts"),
        ]
    )
    rows = [dict(zip(found.head, row, strict=True)) for row in found.rows]
    assert [row["Step"] for row in rows] == ["rollback", "canary", "promote"]
    assert (rows[0]["By"], rows[0]["Why"]) == ("operator ann@host", "too many alerts")
    assert rows[1]["Share"] == "25%"
    assert rows[1]["Event time"] == "2024-10-04"
    assert rows[1]["Evidence"] == "labelled 1200; low -0.001; high 0.0015"


def test_a_long_history_says_how_much_is_left_out() -> None:
    found = history([entry(version) for version in range(1, 101)])
    assert len(found.rows) == 60
    assert found.rows[0][2] == "100"
    assert found.says == "40 earlier entries are in the ledger."
    assert dataclasses.replace(found, says="").head == found.head
