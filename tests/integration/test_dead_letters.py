"""What operators do about bad records: look, mend, replay; and the worker that stops in time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from streams.kafka.topics import ensure_topics
from streams.settings import Settings
from tests.faults.harness import ROOT, Output, Workers, card_fraud_module, publish
from tests.integration.test_bad_input import event
from tests.waiting import until
from workers.environment import environment

MENDED = """\
from dataclasses import replace
from streams.spec import Cleaning
from before import pipeline as before

pipeline = replace(before, name="mending", cleaning=Cleaning(ahead="30000d"))
"""


class Command:
    """`driftloop` on the servers of the session."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "workers.cli", *arguments],
            env={
                **environment(self._settings),
                "PATH": "",
                "COLUMNS": "200",
                "PYTHONPATH": f"{self._folder}:{ROOT}",
            },
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def letters(self, module: str) -> list[dict[str, object]]:
        listed = self("dlq", "list", module, "--json", "-n", "1000")
        return [orjson.loads(line) for line in listed.splitlines() if line.startswith("{")]


async def test_dead_letters_are_listed_shown_mended_and_replayed_once(
    settings: Settings, tmp_path: Path
) -> None:
    pipeline = card_fraud_module(tmp_path, "mending")
    driftloop = Command(settings, tmp_path)
    await ensure_topics(settings, pipeline)
    assert "no dead letters" in driftloop("dlq", "list", "mending")
    records = [
        (b"ann", event("good")),
        (b"ann", event("future", tx_time="2080-01-01T00:00:00Z")),
        (b"ann", b"\xff{not json"),
    ]
    await publish(settings, pipeline.topics.events, records)
    with Workers(settings, pipeline, tmp_path) as workers:
        worker = workers.start("score")
        async with Output(settings, pipeline.topics.dead_letters) as letters:
            await letters.wait(2)
        worker.end()
        by_cause = {str(letter["cause"]): letter for letter in driftloop.letters("mending")}
        assert set(by_cause) == {"time", "malformed"}

        shown = driftloop("dlq", "show", str(by_cause["malformed"]["reference"]), "mending")
        assert "ff 7b 6e 6f 74" in shown
        assert "no dead letter '9-9'" in driftloop("dlq", "show", "9-9", "mending", code=1)
        assert "say what to replay" in driftloop("dlq", "replay", "mending", code=1)

        assert "would replay 1 onto" in driftloop(
            "dlq", "replay", "mending", "--cause", "time", "--dry-run"
        )
        assert "replayed 2 onto mending.events" in driftloop("dlq", "replay", "mending", "--all")
        assert "nothing to replay: 2 replayed before" in driftloop(
            "dlq", "replay", "mending", "--all"
        )

        card_fraud_module(tmp_path, "before")
        (tmp_path / "mending.py").write_text(MENDED)
        workers.start("score")
        async with Output(settings, pipeline.topics.predictions) as predictions:
            await predictions.wait(2)
            await predictions.settle()
        ids = [orjson.loads(record.value)["event_id"] for record in predictions.records]
        assert ids == ["good", "future"]
        await until(lambda: _failed_again(driftloop), "the malformed record fails again")


async def _failed_again(driftloop: Command) -> bool:
    return any(
        letter["cause"] == "malformed" and letter["attempts"] == 1 and not letter["replayed"]
        for letter in driftloop.letters("mending")
    )


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_a_worker_stops_in_time_with_one_line_and_a_code_of_its_own(
    settings: Settings, tmp_path: Path, delivery: str
) -> None:
    pipeline = card_fraud_module(tmp_path, f"run-{delivery}".replace("_", "-"))
    await ensure_topics(settings, pipeline)
    bad = [(b"ann", event(str(number), amount="much")) for number in range(5000)]
    await publish(settings, pipeline.topics.events, [(b"ann", event("good")), *bad], partition=0)
    with Workers(settings, pipeline, tmp_path) as workers:
        worker = workers.start("score", delivery=delivery, batch_records=256)
        assert await worker.exit_code(40) == 3
        assert "bad (invalid: amount: Input should be a valid number" in worker.said()
        last = worker.said()[worker.said().rindex("error: ") :]
        assert "raise policies.invalid.ratio, and start again" in last
        assert "Traceback" not in last
    async with Output(settings, pipeline.topics.dead_letters) as letters:
        await letters.settle(1.0)
    assert len(letters.records) < 1000
