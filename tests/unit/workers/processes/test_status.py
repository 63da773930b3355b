"""The status line adds the workers' metrics up, over restarts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from workers.processes.status import Status
from workers.resources.samples import samples


class Worker:
    """The metrics of a worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counters: dict[str, Counter] = {}

    def count(self, name: str, amount: int, **labels: str) -> Worker:
        if name not in self.counters:
            self.counters[name] = Counter(
                f"driftloop_{name}", "x", ["pipeline", *labels], registry=self.registry
            )
        self.counters[name].labels("p", *labels.values()).inc(amount)
        return self

    def gauge(self, name: str, value: float, **labels: str) -> Worker:
        made = Gauge(f"driftloop_{name}", "x", ["pipeline", *labels], registry=self.registry)
        made.labels("p", *labels.values()).set(value)
        return self

    @property
    def text(self) -> str:
        return generate_latest(self.registry).decode()


def scorer(events: int, version: int) -> Worker:
    return (
        Worker()
        .count("events", events, partition="0")
        .count("predictions", events, version=str(version))
        .gauge("serving_version", version)
    )


def test_before_anything_came() -> None:
    line = Status().line()
    assert line == "0 events | 0 predictions | 0 labels | 0 dead letters | lag 0 | no version yet"


def test_workers_are_added_up() -> None:
    status = Status(decision="version 4 rejected")
    first = (
        scorer(1000, 3)
        .count("dead_letters", 2, cause='in"valid')
        .count("dead_letters", 1, cause="time")
    )
    status.take("score-1", first.text)
    status.take("score-2", scorer(500, 0).gauge("lag_records", 7, topic="p.events").text)
    labels = Worker().count("events", 99, partition="0").count("labels", 6, outcome="joined")
    status.take("label", labels.count("labels", 4, outcome="unmatched").text)
    for _ in range(2):  # the same again changes nothing
        status.take("score-1", first.text)
        assert status.line() == (
            "1,500 events | 1,500 predictions (500 by the fallback) | "
            '10 labels (4 without an event) | 3 dead letters (2 in\\"valid, 1 time) | lag 7 | '
            "version 3 | version 4 rejected"
        )


def test_a_worker_that_starts_again_counts_on() -> None:
    status = Status()
    status.take("score-1", scorer(1000, 1).gauge("lag_records", 50, topic="p.events").text)
    status.ended("score-1")
    assert status.line().startswith("1,000 events | 1,000 predictions | ")
    assert status.line().endswith("lag 0 | nobody scores")
    status.take("score-1", scorer(10, 2).text)
    status.take("score-1", scorer(15, 2).text)
    assert status.line().startswith("1,015 events | 1,015 predictions | ")
    assert "version 2" in status.line()


def test_events_that_came_again_are_told_apart() -> None:
    status = Status()
    status.take("score-1", scorer(3, 1).count("duplicates", 2).text)
    assert status.line().startswith("3 events (2 repeated) | 3 predictions | ")


def test_one_is_one() -> None:
    status = Status()
    status.take("score-1", scorer(1, 1).text)
    assert status.line().startswith("1 event | 1 prediction | ")


def test_only_our_samples_are_read() -> None:
    text = 'python_gc_total 3\ndriftloop_events_created{p="x"} 1.7e9\ndriftloop_x 2.5\n# HELP\n'
    assert [(one.name, one.counts, one.value) for one in samples(text)] == [
        ("events_created", False, 1.7e9),
        ("x", False, 2.5),
    ]


def test_a_label_that_waited_for_its_event_is_one_and_has_it() -> None:
    status, labels = Status(), Worker().count("labels", 150, outcome="unmatched")
    for outcome in ("joined", "awaited", "window_late"):
        labels.count("labels", 140, outcome=outcome)
    status.take("label", labels.count("labels", 3, outcome="passed_on").text)
    assert " | 147 labels (7 without an event) | " in status.line()
    assert status.warning() == ""


def test_labels_that_all_miss_their_events_are_a_warning() -> None:
    status, labels = Status(), Worker().count("labels", 99, outcome="unmatched")
    status.take("label", labels.text)
    assert status.warning() == ""
    status.take("label", labels.count("labels", 1, outcome="unmatched").text)
    assert "none of 100 labels has found its event" in status.warning()
    status.take("label", labels.count("labels", 1, outcome="joined").text)
    assert status.warning() == ""


def test_what_the_shadow_has_not_read_delays_nobody() -> None:
    status = Status()
    status.take("label", Worker().gauge("lag_records", 7, topic="p.scored").text)
    status.take("shadow", Worker().gauge("lag_records", 900, topic="p.scored").text)
    assert "| lag 7 |" in status.line()
