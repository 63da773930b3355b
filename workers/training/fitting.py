"""A rank's part of a training run: its examples are read, and the network is fitted to all."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from streams.errors import ModelError
from streams.settings import Settings
from streams.spec import Pipeline
from streams.versions import Logged, learned, takes_the_same
from workers.examples.reading import Examples, OffsetRanges, Reading
from workers.releases.manifests import blank
from workers.releases.repository import Repository
from workers.training.job import Job, OnStep, Step
from workers.training.launched import RankLost, given_ranks
from workers.training.ranks import OneRank, Ranks
from workers.training.shards import read_together
from workers.training.slices import Spans

if TYPE_CHECKING:
    from workers.training.candidate import Candidate
    from workers.training.epochs import Epoch, How, OnEpoch

log = structlog.get_logger(__name__)


def join(meeting: str | None) -> Ranks:
    """This process among those that torchrun has started; alone where it has not.

    Only the first case loads torch. Those of one machine may meet by a file.
    """
    if given_ranks() == 1:
        return OneRank()
    from workers.training.group import Group

    return Group(meeting)


@dataclass(frozen=True)
class Fitting:
    """What a rank was told."""

    settings: Settings
    pipeline: Pipeline
    job: Job
    home: Path
    """Where checkpoints are."""
    ranks: Ranks

    def read(self) -> tuple[Examples, Reading | None]:
        """This rank's examples, and all, for the first. Raises as `read_together`."""
        window = OffsetRanges.from_offsets(self.pipeline.topics.examples, self.job.offsets)
        gc.disable()  # a million small objects, none of them garbage: collecting takes most time
        try:
            logged = Logged(self.pipeline, self.job.rows)
            reading = read_together(self.settings, self.pipeline, window, self.ranks, logged)
            return asyncio.run(reading)
        finally:
            gc.enable()

    def assist(self) -> None:
        """The part of a rank that is not the first. Raises as `read_together` and `assist`."""
        from workers.training.fit import assist

        own, _ = self.read()
        if told := self.ranks.broadcast(b""):
            spans = Spans.from_manifest(msgspec.json.decode(told))
            seen = own.between(*spans.train).taken(learned(self.pipeline))
            assist(self.pipeline.learned, seen, self._how(lambda progress: None))
        self.ranks.leave()

    @contextmanager
    def others_end(self) -> Iterator[None]:
        """Where this block of the first rank fails there is nothing to fit: the others end, too."""
        try:
            yield
        except Exception:
            with suppress(RankLost):
                self.ranks.broadcast(b"")
                self.ranks.leave()
            raise

    def candidate(
        self, own: Examples, examples: Examples, spans: Spans, report: OnStep
    ) -> Candidate:
        """The part of the first rank, with its own examples and all. Raises as `train`."""
        champion = self._champion()
        if self.pipeline.model.fit is not None:
            return self._fitted(examples, spans, champion, report)
        import torch

        from workers.training.fit import train

        self.ranks.broadcast(msgspec.json.encode(spans.as_manifest()))
        gpus = min(torch.cuda.device_count(), self.ranks.size)
        report(Step("start", gpus=gpus))

        def tell(now: Epoch) -> None:
            said = (now.epoch, now.epochs, now.loss, now.metric, now.seconds, gpus)
            report(Step("train", 0, *said))

        pick, how = learned(self.pipeline), self._how(tell)
        mine = own.between(*spans.train).taken(pick)
        found = train(self.pipeline.learned, examples.taken(pick), spans, how, mine, champion)
        self.ranks.leave()
        report(Step("judge", gpus=gpus))
        return found

    def _champion(self) -> bytes | None:
        """The champion's file, where the candidate begins from it."""
        job, said = self.job, self.job.champion_manifest
        if not self.pipeline.policies.retrain.warm_start or not job.champion:
            return None
        try:
            if said is not None and not takes_the_same(self.pipeline, said):
                raise ModelError("it takes other features")
            repository = Repository(self.settings.model_repository, self.pipeline.name)
            return repository.model(job.champion, said.model_sha256 if said else "")
        except ModelError as error:
            log.warning(
                "the candidate begins anew, not from the champion",
                champion=job.champion,
                error=str(error),
            )
            return None

    def _fitted(
        self, examples: Examples, spans: Spans, champion: bytes | None, report: OnStep
    ) -> Candidate:
        """What `model.fit` makes of all examples: one process does."""
        from workers.training.estimators.learning import train

        report(Step("start"))
        seen = examples.taken(learned(self.pipeline))
        found = train(self.pipeline.learned, seen, spans, self.job.threads, champion)
        report(Step("judge"))
        return found

    def _how(self, tell: OnEpoch) -> How:
        """How the network is fitted, and which fit a checkpoint has to be of."""
        import torch

        from workers.training.checkpoint import Checkpoint
        from workers.training.epochs import How

        job, ranks, device = self.job, self.ranks, self.ranks.device()
        if device.type == "cuda":
            share = self.settings.training_gpu_memory
            torch.cuda.set_per_process_memory_fraction(share, device)
        same = {
            "code": blank(self.pipeline).code,
            "schema": [self.pipeline.schema_hash, self.pipeline.learned.schema_hash],
            "parameters": self.pipeline.training,
            "offsets": job.offsets,
            "slices": job.slices,
            "watermark": job.label_watermark,
            "rank": [ranks.rank, ranks.size],
            "champion": job.champion if self.pipeline.policies.retrain.warm_start else 0,
            "threads": job.threads,
            "torch": [str(torch.__version__), str(device)],
        }
        path = self.home / f"checkpoint-{ranks.rank}"
        return How(tell, job.threads, ranks, Checkpoint(path, same, job.checkpoint_seconds))
