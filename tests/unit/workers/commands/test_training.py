"""`driftloop train` says by its exit code whether the candidate serves."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from streams.ledger import topic
from streams.ledger.state import LedgerState
from streams.ledger.topic import new_entry
from streams.records import Action
from streams.settings import Settings
from tests.models import linear, manifest
from tests.synthetic import declare
from workers.cli import app
from workers.commands import training
from workers.releases import lifecycle
from workers.releases.candidate import Judged

PIPELINE = declare("commanded")


class Life:
    """A lifecycle that does what was judged; every version is kept."""

    def __init__(self, *_: object) -> None:
        self.publisher = self
        self.repository = self

    def versions(self) -> list[int]:
        return [1]

    async def release(self, judged: Judged) -> Any:
        made = manifest(PIPELINE, 1, judged.onnx)
        return new_entry(judged.action, made, LedgerState(), judged.reason)

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("action", "code", "said"),
    [
        (Action.PROMOTE, 0, "version 1 serves"),
        (Action.REJECT, 4, "version 1 does not serve (reject): [worse]"),
        (Action.INCONCLUSIVE, 4, "driftloop promote 1 own --force"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--no-publish"]])
def test_a_candidate_that_may_not_serve_ends_with_code_4(
    monkeypatch: pytest.MonkeyPatch, action: Action, code: int, said: str, options: list[str]
) -> None:
    data, prepared = linear(4), list[str]()

    async def prepare(*_: object) -> None:
        prepared.append("topics")

    async def state(*_: object) -> LedgerState:
        assert prepared, "the ledger is read before its topic is there"
        return LedgerState()

    async def job(*_: object) -> Any:
        return training_job

    async def judged(*_: object) -> Judged:
        return Judged(manifest(PIPELINE, 0, data), data, action, "[worse]")

    from workers.training.job import Job

    training_job = Job("own", {})
    monkeypatch.setattr(training, "find_pipeline", lambda module: PIPELINE)
    monkeypatch.setattr(training, "connected_settings", lambda module: Settings(pipeline=module))
    monkeypatch.setattr(training, "ensure_topics", prepare)
    monkeypatch.setattr(training, "_recent", job)
    monkeypatch.setattr(training, "_run", judged)
    monkeypatch.setattr(topic, "read_state", state)
    monkeypatch.setattr(lifecycle, "Lifecycle", Life)
    done = CliRunner().invoke(app, ["train", "own", *options], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    assert (f"gate: {action}" if options else said) in done.output
