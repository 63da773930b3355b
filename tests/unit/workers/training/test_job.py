"""The parent of a training run: jobs, outcomes, errors. The run itself: tests/integration."""

from __future__ import annotations

import msgspec
import pytest

from streams.errors import (
    ConfigurationError,
    DriftloopError,
    ModelError,
    PipelineError,
    TrainingError,
    Unavailable,
)
from workers.devstack.servers import ended
from workers.training.job import Job, JobOutcome, Step, _raised


@pytest.mark.parametrize("kind", [TrainingError, ModelError, PipelineError, Unavailable])
def test_the_childs_error_is_raised_as_it_was(kind: type[DriftloopError]) -> None:
    found = _raised(JobOutcome(error=kind.__name__, message="what is wrong - the mend"))
    assert type(found) is kind
    assert str(found) == "what is wrong - the mend"


def test_a_pipeline_error_stays_one_that_stops_the_trainer() -> None:
    assert isinstance(_raised(JobOutcome(error="PipelineError")), ConfigurationError)


def test_how_a_child_ended_is_said() -> None:
    assert ended(1) == "exit code 1"
    assert ended(-9) == "SIGKILL, out of memory?"
    assert ended(-11) == "SIGSEGV"


def test_jobs_and_steps_are_plain_json() -> None:
    job = Job("some.module", {"P.examples-0": [1, 2]}, label_watermark=3.5)
    assert msgspec.json.decode(msgspec.json.encode(job), type=Job) == job
    step = Step("train", epoch=2, loss=0.5)
    assert msgspec.json.decode(msgspec.json.encode(step), type=Step) == step
