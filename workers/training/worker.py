"""The trainer: follows the retrain policy for as long as it runs.

It keeps no state of its own. After a restart the ledger says which window was decided last, and
the topic says what has matured since.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import structlog

from streams import telemetry
from streams.aio.cancelling import cancel
from streams.aio.retrying import until_available
from streams.errors import ModelError, TrainingError, Unavailable
from streams.kafka.topic_ids import topic_ids
from streams.kafka.topic_watch import TopicWatch
from streams.kafka.topics import ensure_topics
from streams.ledger.topic import read_state
from streams.metering.meter import Meter
from streams.settings import Settings
from streams.spec import Pipeline
from streams.versions import Logged
from workers.costs import purse
from workers.costs.purse import Purse
from workers.examples.index import ExampleFollower
from workers.releases.candidate import Judged
from workers.releases.lifecycle import Lifecycle
from workers.rollouts.controller import RollOutController
from workers.training.accounting import FAILED, STOPPED, RunMeter
from workers.training.drift_watch import Alarm, DriftWatch
from workers.training.job import Job, Step, against, run_job, unfinished
from workers.training.schedule import Due, again, due, why_not

log = structlog.get_logger(__name__)

_GUARD_SECONDS = 3.0
"""How often it looks whether files and topics are still what they were."""

T = TypeVar("T")


async def run_trainer(settings: Settings, pipeline: Pipeline, stop: asyncio.Event) -> None:
    """Make, judge and publish candidates until `stop` is set.

    `settings.pipeline` names the pipeline's module, for the process that trains. It waits for
    servers that are away.

    Raises:
        PipelineError: the pipeline's network cannot be built.
        TopicRecreated: a topic that it reads was deleted and made anew.
        ConfigurationError: the model repository cannot be written.
    """
    trainer, meter = Trainer(settings, pipeline), Meter(settings, pipeline, "trainer")
    meter.start()
    work = asyncio.create_task(trainer.run(), name="trainer")
    stopping = asyncio.create_task(stop.wait(), name="trainer-stop")
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        work.cancel()
        stopping.cancel()
        ended, _ = await asyncio.gather(work, stopping, return_exceptions=True)
        await trainer.close()
        await meter.close()
    if isinstance(ended, Exception):
        raise ended


class Trainer:
    """One pipeline's trainer."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._lifecycle = Lifecycle(settings, pipeline)
        self._tail = ExampleFollower(settings, pipeline)
        self._watch = DriftWatch(settings, pipeline)
        self._alarms: list[Alarm] = []
        self._purse = Purse(settings, pipeline)
        self._home = settings.state_dir / "training" / pipeline.name
        self._asked_again = 0.0
        """When a retrain that was put off is thought of again, by the event loop's clock."""
        self._decided = 0.0
        self._news = False
        self._lacks = False
        """Whether the log has said that a candidate waits for examples."""

    async def close(self) -> None:
        """Release connections."""
        await self._tail.stop()
        await self._watch.stop()
        await self._lifecycle.close()

    async def run(self) -> None:
        """Work until cancelled."""
        await self._patiently("topics", lambda: ensure_topics(self._settings, self._pipeline))
        await self._patiently("load", self._withdraw_changed)
        await self._patiently("load", self._ensure_loaded)
        works = [self._follow(), self._guard(), self._watch_topics(), self._purse.watch()]
        if self._pipeline.policies.rollout.gradual:
            works.append(self._roll_out())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:  # neither ends but by an error
                task.result()
        finally:
            await cancel(*tasks)

    async def _follow(self) -> None:
        if self._pipeline.model.onnx is not None:
            await self._publish_file()
            return
        await self._patiently("examples", self._tail.start)
        await self._patiently("drift", self._watch.start)
        log.info("trainer is ready", pipeline=self._pipeline.name, decided=self._decided)
        if job := unfinished(self._home, self._decided):
            await self.candidate(again(self._pipeline.topics.examples, job), job.cause)
        while True:
            found = await self._patiently("examples", self._next)
            if found is not None and await self._paid(found):
                await self.candidate(found)

    async def candidate(self, found: Due, cause: str = "") -> None:
        """Make a candidate, judge it, and do what the gate says."""
        name = self._pipeline.name
        known = [one for one in self._alarms if one.end <= found.watermark]
        cause = cause or (known[0].cause if known else "")
        log.info(
            "candidate is due",
            pipeline=name,
            watermark=found.watermark,
            examples=found.window.size,
            cause=cause or "its time has come",
        )
        begun, version = time.monotonic(), 0
        run, outcome = RunMeter(self._settings, self._pipeline), STOPPED
        try:
            judged = await self._patiently("train", lambda: self._train(found, cause, run))
            decided = await self._patiently("publish", lambda: self._lifecycle.release(judged))
            outcome, version = decided.action.value, decided.version
            log.info(
                "candidate decided",
                pipeline=name,
                version=version,
                action=outcome,
                reason=decided.reason,
            )
        except (TrainingError, ModelError) as error:
            outcome = FAILED
            log.error("no candidate", pipeline=name, watermark=found.watermark, error=str(error))
        finally:
            await run.end(outcome, version)
        telemetry.TRAINING_RUNS.labels(name, outcome).inc()
        telemetry.TRAINING_SECONDS.labels(name).observe(time.monotonic() - begun)
        self._decided = found.watermark
        self._alarms = []
        self._watch.look_again()

    async def _paid(self, found: Due) -> bool:
        """Whether there is money for a candidate that is due; else it waits, or is skipped."""
        if await self._patiently("costs", self._purse.holds):
            self._news = True
            self._asked_again = asyncio.get_running_loop().time() + purse.EVERY
            return False
        # where the world has changed, what the last ones gained says nothing of the next
        if not self._alarms and await self._patiently("costs", self._purse.skips):
            self._decided = found.watermark
            return False
        return True

    async def _train(self, found: Due, cause: str, run: RunMeter) -> Judged:
        now = await read_state(self._settings, self._pipeline)
        job = Job(
            module=self._settings.pipeline,
            offsets=found.window.offsets(self._pipeline.topics.examples),
            label_watermark=found.watermark,
            slices=found.slices.as_manifest(),
            cause=cause,
            processes=self._pipeline.policies.retrain.processes,
        )
        job = against(job, self._pipeline, now)
        return await run_job(self._settings, job, self._report, run, self._home)

    async def _next(self) -> Due | None:
        """Read for a while; return the candidate that is due now, if any."""
        self._news |= await self._tail.poll() > 0
        if (found := await self._watch.look(self._decided)) is not None:
            self._alarms, self._news = found, True
        if asyncio.get_running_loop().time() < self._asked_again:
            return None
        if not self._news or not await self._tail.caught_up():
            return None
        policy, index = self._pipeline.policies.retrain, self._tail.index
        expected = await self._tail.expected()
        self._news = False
        task = self._pipeline.predicts
        watermark = index.watermark(expected, idle=policy.window_seconds)
        index.forget(watermark - policy.window_seconds - policy.every_seconds)
        drifted = self._alarms[0].end if self._alarms else 0.0
        asked = policy, index, self._decided, expected, task, drifted
        if due(*asked) is None:
            self._report_lacking(why_not(*asked))
            return None
        await self._tail.forget_trimmed()  # a window is made of what is still there
        return due(*asked)

    def _report_lacking(self, lacks: str) -> None:
        """One line when the time of a candidate has come and there is not enough to make it of."""
        if lacks and not self._lacks:
            log.warning("a candidate is due and waits for examples", error=lacks)
        self._lacks = bool(lacks)

    async def _roll_out(self) -> None:
        """Bring what the gate lets through to serving everybody, by degrees."""
        steps = self._lifecycle.steps
        await RollOutController(self._settings, self._pipeline, steps).run()

    async def _guard(self) -> None:
        """Look now and then whether a version's files were changed."""
        files = self._lifecycle.publisher.repository.state_of_files()
        while True:
            await asyncio.sleep(_GUARD_SECONDS)
            now = self._lifecycle.publisher.repository.state_of_files()
            if now != files:
                await self._patiently("load", self._withdraw_changed)
            files = now

    async def _watch_topics(self) -> None:
        """Raises `TopicRecreated` where a topic was made anew: its offsets are other records'."""
        topics = self._pipeline.topics
        watch = TopicWatch(self._settings, self._pipeline, (topics.examples, topics.models), ())
        await self._patiently("topics", watch.start)
        while True:
            await asyncio.sleep(_GUARD_SECONDS)
            with suppress(Unavailable):  # who works with Kafka says so
                await watch.look(partial(topic_ids, self._settings))

    async def _withdraw_changed(self) -> None:
        """A version whose files are not those that the ledger names is not served."""
        publisher = self._lifecycle.publisher
        async with publisher.alone():
            now = await read_state(self._settings, self._pipeline)
            try:
                changed = await publisher.withdraw_changed(now)
            except ModelError as error:
                log.error("versions do not load", error=str(error))
                return
        if changed:
            log.error(
                "versions are not as they were published and are served no more - see who changed "
                "the model repository, and serve another: `driftloop rollback`",
                versions=changed,
                champion=now.champion,
            )

    async def _ensure_loaded(self) -> None:
        """Take up where the ledger is."""
        now = await read_state(self._settings, self._pipeline)
        self._decided = now.decided
        self._tail.logged = Logged(self._pipeline, now.versions.values())
        try:
            await self._lifecycle.publisher.ensure_loaded(now)
        except ModelError as error:
            log.error(
                "champion does not serve",
                version=now.champion,
                error=str(error),
            )

    async def _publish_file(self) -> None:
        published = await self._patiently("publish", self._lifecycle.publish_file)
        log.info(
            "the pipeline brings its own ONNX file: it is published as is and not retrained",
            version=published.version if published else None,
        )
        await asyncio.Event().wait()

    async def _patiently(self, stage: str, call: Callable[[], Awaitable[T]]) -> T:
        return await until_available(self._pipeline.name, stage, call)

    def _report(self, step: Step) -> None:
        log.debug(
            "training",
            pipeline=self._pipeline.name,
            stage=step.stage,
            epoch=step.epoch,
            loss=step.loss,
            metric=step.metric,
        )
