"""A circuit opens after failures in a row, probes once a pause, and closes with an answer."""

from __future__ import annotations

import pytest

from streams.adapters.triton.circuit import FAILURES, LONGEST, PAUSE, Circuit, State
from tests.unit.tritons import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turns() -> list[State]:
    return []


@pytest.fixture
def circuit(clock: Clock, turns: list[State]) -> Circuit:
    return Circuit(turns.append, clock, dice=lambda: 0.5)


def opened(circuit: Circuit) -> Circuit:
    for _ in range(FAILURES):
        circuit.sending()
        circuit.failed()
    return circuit


def test_failures_in_a_row_open_it(circuit: Circuit, turns: list[State]) -> None:
    for _ in range(FAILURES - 1):
        circuit.failed()
    circuit.succeeded()
    for _ in range(FAILURES - 1):
        circuit.failed()
    assert (circuit.state, circuit.admits, turns) == ("closed", True, [])
    circuit.failed()
    assert (circuit.state, circuit.admits, turns) == ("open", False, ["open"])


def test_after_the_pause_one_request_decides(circuit: Circuit, clock: Clock) -> None:
    opened(circuit)
    clock.now += PAUSE * 0.99
    assert not circuit.admits
    clock.now += PAUSE * 0.02
    assert circuit.admits
    circuit.sending()
    assert (circuit.state, circuit.admits) == ("half_open", False)
    circuit.succeeded()
    assert (circuit.state, circuit.admits) == ("closed", True)


def test_each_failed_probe_doubles_the_pause_up_to_a_limit(circuit: Circuit, clock: Clock) -> None:
    opened(circuit)
    pauses = []
    for _ in range(6):
        begun = clock.now
        while not circuit.admits:
            clock.now += 0.01
        pauses.append(clock.now - begun)
        circuit.sending()
        circuit.failed()
    assert pauses == pytest.approx(
        [PAUSE, 2 * PAUSE, 4 * PAUSE, LONGEST, LONGEST, LONGEST], abs=0.02
    )


def test_the_pause_is_short_again_after_an_answer(circuit: Circuit, clock: Clock) -> None:
    opened(circuit)
    for _ in range(3):
        clock.now += LONGEST * 2
        circuit.sending()
        circuit.failed()
    clock.now += LONGEST * 2
    circuit.sending()
    circuit.succeeded()
    opened(circuit)
    clock.now += PAUSE * 1.01
    assert circuit.admits


def test_a_failure_that_is_certain_to_repeat_opens_it_at_once(circuit: Circuit) -> None:
    circuit.failed(certain=True)
    assert circuit.state == "open"


def test_requests_sent_before_it_opened_do_not_prolong_the_pause(
    circuit: Circuit, clock: Clock
) -> None:
    opened(circuit)
    clock.now += PAUSE * 1.01
    circuit.failed(certain=True)
    assert circuit.admits


def test_a_probe_that_says_nothing_leaves_room_for_another(circuit: Circuit, clock: Clock) -> None:
    opened(circuit)
    clock.now += LONGEST
    circuit.sending()
    circuit.undecided()
    assert (circuit.state, circuit.admits) == ("open", True)


@pytest.mark.parametrize(("dice", "pause"), [(0.0, 0.75 * PAUSE), (1.0, 1.25 * PAUSE)])
def test_pauses_differ_between_workers(clock: Clock, dice: float, pause: float) -> None:
    circuit = opened(Circuit(clock=clock, dice=lambda: dice))
    clock.now += pause - 0.001
    assert not circuit.admits
    clock.now += 0.002
    assert circuit.admits
