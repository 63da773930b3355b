"""What every scorer does: in memory, on a real Triton, and on several of which one is away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.adapters.memory.scorer import MemoryScorer, Network
from streams.adapters.triton.control import TritonControl
from streams.adapters.triton.endpoints import TritonEndpoints
from streams.adapters.triton.scorer import TritonScorer
from streams.aio.retrying import until_available
from streams.errors import ModelError, Unavailable
from streams.ledger.state import LedgerState
from streams.ports.models import Scorer
from streams.settings import Settings
from tests.models import linear, manifest
from tests.synthetic import declare
from workers.releases.onnx_files import run, session
from workers.releases.publisher import Publisher

VECTORS = np.random.default_rng(4).normal(size=(50, 4)).astype(np.float32)
PIPELINE = declare("scorer-contract")
FIRST, SECOND = linear(4), linear(4, bias=1.0)
NewScorer = Callable[[], Awaitable[Scorer]]


def network(data: bytes) -> Network:
    loaded = session(data)
    return lambda vectors: run(loaded, vectors)


def always(scores: NDArray[np.float32]) -> Network:
    return lambda vectors: scores


async def published(settings: Settings) -> None:
    """Both versions in Triton, once for the session."""
    publisher = Publisher(settings, PIPELINE)
    now = LedgerState()
    for version, data in ((1, FIRST), (2, SECOND)):
        if version not in publisher.repository.versions():
            publisher.stage(manifest(PIPELINE, version, data), data, "")
            await publisher.serve(version, now)
        now = LedgerState(version, version - 1, promoted=(*now.promoted, version))
    await publisher.close()


@pytest.fixture(params=["memory", "triton", "endpoints"])
async def scorer(request: pytest.FixtureRequest) -> AsyncIterator[Scorer]:
    made: Scorer
    if request.param == "memory":
        made = MemoryScorer({1: network(FIRST), 2: network(SECOND)})
    else:
        settings: Settings = request.getfixturevalue("settings")
        await published(settings)
        if request.param == "triton":
            made = TritonScorer(settings, PIPELINE.name, 1)
        else:
            several = settings.model_copy(update={"triton": f"127.0.0.1:9,{settings.triton}"})
            made = TritonEndpoints.of(several, PIPELINE)
    yield made
    await made.close()


async def test_scores_are_those_of_the_version_asked(scorer: Scorer) -> None:
    for version, data in ((1, FIRST), (2, SECOND), (1, FIRST)):
        scores = await scorer.infer(version, VECTORS)
        assert scores.dtype == np.float32
        assert scores == pytest.approx(run(session(data), VECTORS), abs=1e-6)


@pytest.mark.parametrize("rows", [0, 1, 3, 5000])
async def test_any_number_of_vectors(scorer: Scorer, rows: int) -> None:
    vectors = np.resize(VECTORS, (rows, 4))
    assert (await scorer.infer(1, vectors)).shape == (rows, 1)


async def test_vectors_are_not_changed_and_need_not_be_contiguous(scorer: Scorer) -> None:
    wide = np.asfortranarray(np.repeat(VECTORS, 2, axis=1))[:, ::2]
    before = wide.copy()
    assert await scorer.infer(1, wide) == pytest.approx(await scorer.infer(1, VECTORS))
    assert np.array_equal(wide, before)


async def test_a_version_that_is_not_there_may_come(scorer: Scorer) -> None:
    with pytest.raises(Unavailable):
        await scorer.infer(99, VECTORS)


async def test_answers_of_another_shape_are_a_model_error() -> None:
    for scores in (np.zeros((50, 2)), np.zeros(0), np.full((50, 1), np.nan)):
        wrong = MemoryScorer({1: always(scores.astype(np.float32))})
        with pytest.raises(ModelError, match="version 1 answered scores"):
            await wrong.infer(1, VECTORS)


async def test_another_width_is_a_model_error(settings: Settings) -> None:
    await published(settings)
    scorer = TritonScorer(settings, PIPELINE.name, 1)
    with pytest.raises(ModelError, match="Triton on model scorer-contract version 1"):
        await scorer.infer(1, np.zeros((2, 7), np.float32))
    await scorer.close()


async def test_no_triton_names_the_setting() -> None:
    scorer = TritonScorer(Settings(triton="127.0.0.1:9", triton_timeout=1.0), "any", 1)
    with pytest.raises(Unavailable, match=r"Triton at 127\.0\.0\.1:9.*DRIFTLOOP_TRITON"):
        await scorer.infer(1, VECTORS)
    await scorer.close()


async def test_what_triton_lost_is_loaded_in_the_background(settings: Settings) -> None:
    await published(settings)
    control = TritonControl(settings, PIPELINE.name)
    scorer = TritonEndpoints.of(settings, PIPELINE)
    await control.unload()
    with pytest.raises(Unavailable):
        await scorer.infer(2, VECTORS)
    scores = await until_available("test", "infer", lambda: scorer.infer(2, VECTORS))
    assert scores.shape == (50, 1)
    assert await control.versions() == {1: PIPELINE.name, 2: PIPELINE.name}
    await scorer.close()
    await control.close()
