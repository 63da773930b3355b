"""Publishing on a real Triton: what may go wrong with a version harms nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from streams.adapters.triton.endpoints import TritonEndpoints
from streams.aio.retrying import until_available
from streams.errors import ConfigurationError, ModelError, Unavailable
from streams.kafka.topics import ensure_topics
from streams.ledger.topic import read_state
from streams.records import Action, encode
from streams.settings import Settings
from streams.spec import Pipeline
from tests.models import linear, manifest
from tests.synthetic import declare
from tests.traffic import traffic
from tests.waiting import until
from workers.cli import app
from workers.environment import environment
from workers.releases.candidate import Judged
from workers.releases.lifecycle import Lifecycle
from workers.releases.repository import digest
from workers.terminal import out
from workers.training.worker import run_trainer


def judged(declared: Pipeline, bias: float, parent: int, action: Action = Action.PROMOTE) -> Judged:
    """A verdict on a hand-made model."""
    data = linear(4, bias)
    made = manifest(declared, 0, data, parent=parent, threshold=0.25)
    return Judged(made, data, action, "made by hand")


async def released(settings: Settings, declared: Pipeline, count: int) -> Lifecycle:
    """A lifecycle of which so many versions have been champion."""
    await ensure_topics(settings, declared)
    life = Lifecycle(settings, declared)
    for number in range(count):
        await life.release(judged(declared, number / 10, parent=number))
    return life


async def test_a_version_is_published_without_a_failed_request(settings: Settings) -> None:
    declared = declare("publish-traffic")
    life = await released(settings, declared, 1)
    async with traffic(settings, declared) as seen:
        await seen.until_version(1)
        for version in (2, 3, 4):
            await life.release(judged(declared, version / 10, parent=version - 1))
            await seen.until_version(version)
    await life.close()
    assert seen.failures == []
    assert sorted(seen.answered) == [1, 2, 3, 4]


async def test_a_bad_version_never_serves_and_the_old_one_does(settings: Settings) -> None:
    declared = declare("publish-bad")
    life = await released(settings, declared, 1)
    publisher, now = life.publisher, await read_state(settings, declared)
    files = {path.name: path.read_bytes() for path in publisher.repository.directory(1).glob("*.*")}
    async with traffic(settings, declared) as seen:
        await seen.until_version(1)
        for version, data, said in (
            (2, b"not a model", "version 2 does not serve"),
            (3, linear(5), "version 3 does not serve"),
            (4, linear(4, outputs=2), "version 4 does not serve"),
        ):
            made = encode(manifest(declared, version, data))
            publisher.repository.add(version, files | {"model.onnx": data, "manifest.json": made})
            with pytest.raises(ModelError, match=said) as error:
                await publisher.serve(version, now)
            assert "\n" not in str(error.value)
        changed = linear(4, 0.5)
        publisher.stage(manifest(declared, 5, changed), changed, "")
        (publisher.repository.directory(5) / "model.onnx").write_bytes(linear(4, 0.6))
        with pytest.raises(ModelError, match="was changed after it was published"):
            await publisher.serve(5, now)
        before = seen.total
        await until(lambda: seen.total > before + 100)
    assert seen.failures == []
    assert set(seen.answered) == {1}
    assert await publisher.control.ready(1)
    assert not any([await publisher.control.ready(v) for v in (2, 3, 4, 5)])
    await life.close()


async def test_what_does_not_serve_is_rejected_in_the_ledger(settings: Settings) -> None:
    declared = declare("publish-reject")
    life = await released(settings, declared, 1)
    wrong = judged(declared, 0.3, parent=1)
    broken = Judged(
        msgspec.structs.replace(wrong.manifest, model_sha256=digest(b"x")),
        b"x",
        Action.PROMOTE,
        "fine",
    )
    entry = await life.release(broken)
    assert (entry.action, entry.version) == ("reject", 2)
    assert (await read_state(settings, declared)).champion == 1
    stale = await life.release(judged(declared, 0.3, parent=0))
    assert stale.action == "inconclusive"
    assert "the champion changed from 0 to 1" in stale.reason
    await life.close()


async def test_the_ledger_stays_as_it_is_when_triton_is_away(settings: Settings) -> None:
    declared = declare("publish-away")
    life = await released(settings, declared, 1)
    await life.close()
    away = Lifecycle(
        settings.model_copy(update={"triton": "127.0.0.1:9", "triton_timeout": 1.0}), declared
    )
    with pytest.raises(Unavailable, match="DRIFTLOOP_TRITON"):
        await away.release(judged(declared, 0.3, parent=1))
    await away.close()
    assert (await read_state(settings, declared)).champion == 1
    assert away.publisher.repository.versions() == [1]
    assert away.publisher.repository.configured() == [1]


async def test_promote_and_roll_back(settings: Settings) -> None:
    declared = declare("publish-rollback")
    life = await released(settings, declared, 2)
    rejected = await life.release(judged(declared, 0.9, parent=2, action=Action.REJECT))
    assert (await read_state(settings, declared)).champion == 2
    with pytest.raises(ConfigurationError, match="the gate said reject: made by hand"):
        await life.promote(rejected.version, "because")
    forced = await life.promote(rejected.version, "because", force=True)
    assert forced.by == "operator"
    assert forced.reason == "forced: because (the gate said reject: made by hand)"
    async with traffic(settings, declared) as seen:
        await seen.until_version(3)
        back = await life.rollback(None, "it was worse")
        assert (back.action, back.version, back.previous) == ("rollback", 2, 3)
        await seen.until_version(2)
        assert seen.follower.threshold == 0.25
        await life.rollback(1, "further")
        await seen.until_version(1)
    assert seen.failures == []
    for call, said in (
        (life.rollback(None, ""), "no earlier version"),
        (life.promote(1, ""), "is the champion already"),
        (life.promote(77, ""), "no version 77 in"),
        (life.rollback(77, ""), "was never champion"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            await call
    await life.close()


def embedded(name: str, containing: str = "") -> list[psutil.Process]:
    """Our own children of that name that live."""
    found = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.name().startswith(name)
        and process.status() != psutil.STATUS_ZOMBIE
        and containing in " ".join(process.cmdline())
    ]
    if not found:
        pytest.skip("only the embedded Triton is a child of ours")
    return found


async def test_after_a_restart_of_triton_the_champion_serves(settings: Settings) -> None:
    declared = declare("publish-restart")
    life = await released(settings, declared, 2)
    now = await read_state(settings, declared)
    for process in embedded("tritonserver"):
        process.kill()
    await until_available("test", "load", lambda: life.publisher.ensure_loaded(now))
    assert await life.publisher.control.ready(2)
    await life.close()


async def test_a_version_that_was_changed_is_not_loaded_after_a_restart_of_triton(
    settings: Settings,
) -> None:
    declared = declare("publish-swapped")
    life = await released(settings, declared, 1)
    known = (await read_state(settings, declared)).versions
    scorer = TritonEndpoints.of(settings, declared, lambda: known)
    home, asked = life.publisher.repository.directory(1), np.ones((1, 4), np.float32)
    honest = await scorer.infer(1, asked)
    kept = {name: (home / name).read_bytes() for name in ("model.onnx", "manifest.json")}
    forged = linear(4, bias=5.0)
    (home / "manifest.json").write_bytes(encode(manifest(declared, 1, forged)))
    (home / "model.onnx").write_bytes(forged)
    servers = embedded("tritonserver")
    for process in servers:
        process.kill()
    psutil.wait_procs(servers)
    with capture_logs() as said:

        async def refused() -> bool:
            with pytest.raises(Unavailable):
                await scorer.infer(1, asked)
            return any("was changed" in str(line.get("error")) for line in said)

        await until(refused, "the changed version is refused")
    for name, data in kept.items():
        (home / name).write_bytes(data)
    again = await until_available("test", "infer", lambda: scorer.infer(1, asked))
    assert np.array_equal(again, honest)
    await scorer.close()
    await life.close()


async def test_a_version_that_was_changed_on_disk_is_unloaded_while_the_trainer_runs(
    settings: Settings,
) -> None:
    declared = declare("publish-forged")
    life = await released(settings, declared, 2)
    control, home = life.publisher.control, life.publisher.repository.directory(1)
    forged, stop = linear(4, bias=5.0), asyncio.Event()
    running = asyncio.create_task(run_trainer(settings, declared, stop))
    try:
        assert await control.ready(1)
        (home / "manifest.json").write_bytes(encode(manifest(declared, 1, forged)))
        (home / "model.onnx").write_bytes(forged)

        async def unloaded() -> bool:
            return not await control.ready(1)

        await until(unloaded, "version 1 is unloaded")
        assert await control.ready(2)
    finally:
        stop.set()
        await running
    await life.close()


async def test_a_publish_leaves_the_processes_of_other_versions_alone(settings: Settings) -> None:
    declared = declare("publish-beside")
    life = await released(settings, declared, 2)
    before = set(embedded("triton_python", declared.name))
    await life.release(judged(declared, 0.3, parent=2))
    await life.close()
    after = set(embedded("triton_python", declared.name))
    assert len(after - before) == 1, "the new version has one"
    assert before <= after


async def test_a_backend_process_that_dies_is_replaced(settings: Settings) -> None:
    declared = declare("publish-stub")
    life = await released(settings, declared, 1)
    scorer = TritonEndpoints.of(settings, declared)
    vectors = np.zeros((3, 4), np.float32)
    for stub in embedded("triton_python", declared.name):
        stub.kill()
    async with asyncio.timeout(30):
        scores = await until_available("test", "infer", lambda: scorer.infer(1, vectors))
    assert scores.shape == (3, 1)
    for resource in (scorer, life):
        await resource.close()


async def test_roll_back_to_a_version_whose_process_has_died(settings: Settings) -> None:
    declared = declare("publish-dead")
    life = await released(settings, declared, 2)
    for stub in embedded("triton_python", declared.name):
        stub.kill()
    entry = await life.rollback(None, "it was worse")
    await life.close()
    assert (entry.action, entry.version) == ("rollback", 1)
    scorer = TritonEndpoints.of(settings, declared)
    assert (await scorer.infer(1, np.zeros((3, 4), np.float32))).shape == (3, 1)
    await scorer.close()


def run_command(*arguments: str) -> str:
    """A command's output, which says so where it failed."""
    result = CliRunner().invoke(app, arguments)
    return f"{result.output}{result.exception or ''}"


async def test_the_commands(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = declare("publish-commands")
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "commanded.py").write_text(
        "from tests.synthetic import declare\npipeline = declare('publish-commands')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(out, "width", 200)  # a table that is wider than its terminal is wrapped
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    async def said(*arguments: str) -> str:
        return await asyncio.to_thread(run_command, *arguments)

    assert "has no version yet" in await said("models", "list", "team.commanded")
    life = await released(settings, declared, 2)
    await life.release(judged(declared, 0.9, parent=2, action=Action.REJECT))
    await life.close()

    listed = await said("models", "list", "team.commanded")
    assert "champion: version 2" in listed
    assert "reject (gate)" in listed
    shown = await said("models", "show", "3", "team.commanded")
    assert digest(linear(4, 0.9)) in shown
    assert "reject by gate: made by hand" in shown
    assert "has no version 9" in await said("models", "show", "9", "team.commanded")
    assert "needs a reason" in await said("promote", "3", "team.commanded", "--force")
    assert "version 3 was never promoted" in await said("promote", "3", "team.commanded")
    forced = await said("promote", "3", "team.commanded", "--force", "--reason", "we know better")
    assert "version 3 serves (before: 2)" in forced
    assert "version 2 serves (before: 3)" in await said("rollback", "team.commanded")
    assert "is empty" in await said("train", "team.commanded")
    assert "is not an offset range" in await said("train", "team.commanded", "--offsets", "x")
