"""Publishing onto a model server in memory: what serves afterwards, and what never does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from numpy.typing import NDArray

from streams.errors import ModelError, Unavailable
from streams.ledger.state import LedgerState
from streams.ledger.topic import new_entry
from streams.records import Action, decoder, encode
from streams.records import Manifest as ManifestRecord
from streams.settings import Settings
from streams.spec import Bucket, Derived, OneHot, Pipeline
from tests.models import MemoryTriton, linear, manifest
from tests.synthetic import pipeline
from workers.releases.probes import probes
from workers.releases.publisher import Publisher
from workers.releases.repository import Repository


def total(of: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    return of["a"] + of["b"]


@dataclass
class Shop:
    """A publisher, its server, and what the ledger would say."""

    publisher: Publisher
    triton: MemoryTriton
    now: LedgerState = field(default_factory=LedgerState)

    async def publish(self, bias: float = 0.0, data: bytes = b"") -> int:
        data = data or linear(4, bias)
        version = self.publisher.next_version(self.now)
        made = manifest(pipeline, version, data)
        self.publisher.stage(made, data, "The gate said promote.")
        await self.publisher.serve(version, self.now)
        self.now = self.now.after(new_entry(Action.PROMOTE, made, self.now, "test"))
        return version

    @property
    def repository(self) -> Repository:
        return self.publisher.repository


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    settings = Settings(model_repository=tmp_path, triton="memory")
    triton = MemoryTriton(settings, pipeline)
    return Shop(Publisher(settings, pipeline, triton, triton), triton)


async def test_versions_are_numbered_and_the_last_ones_kept(shop: Shop) -> None:
    assert [await shop.publish(bias / 10) for bias in range(4)] == [1, 2, 3, 4]
    assert sorted(shop.triton.loaded) == [2, 3, 4]  # keep_versions = 2, and the new one
    assert shop.repository.versions() == [1, 2, 3, 4]
    assert shop.repository.configured() == [2, 3, 4]


async def test_a_version_directory_is_whole(shop: Shop) -> None:
    version = await shop.publish()
    home = shop.repository.directory(version)
    assert {path.name for path in home.iterdir()} == {
        "model.onnx",
        "manifest.json",
        "model-card.md",
    }
    read = decoder(ManifestRecord).decode((home / "manifest.json").read_bytes())
    assert read.version == version
    assert "The gate said promote." in (home / "model-card.md").read_text()
    assert not list(shop.repository.home.glob(".staging*"))


async def test_a_number_in_the_ledger_is_never_used_again(shop: Shop) -> None:
    made = manifest(pipeline, 7, b"")
    shop.now = shop.now.after(new_entry(Action.REJECT, made, shop.now, "lost from disk"))
    assert await shop.publish() == 8


async def test_a_version_is_never_overwritten(shop: Shop) -> None:
    version = await shop.publish()
    with pytest.raises(ModelError, match="never overwritten"):
        shop.publisher.stage(manifest(pipeline, version, linear(4)), linear(4), "")


@pytest.mark.parametrize("data", [linear(5), linear(4, outputs=2), b"broken"])
async def test_a_file_with_another_signature_is_not_staged(shop: Shop, data: bytes) -> None:
    await shop.publish()
    with pytest.raises(ModelError):
        await shop.publish(data=data)
    assert shop.repository.versions() == [1]
    assert sorted(shop.triton.loaded) == [1]


async def test_a_version_that_answers_wrongly_does_not_serve(shop: Shop) -> None:
    await shop.publish()
    shop.triton.wrong = {2}
    with pytest.raises(ModelError, match="version 2 does not serve: its answers differ"):
        await shop.publish(bias=1.0)
    assert sorted(shop.triton.loaded) == [1]
    assert shop.repository.configured() == [1]


async def test_the_first_version_that_fails_leaves_nothing_loaded(shop: Shop) -> None:
    shop.triton.wrong = {1}
    with pytest.raises(ModelError, match="does not serve"):
        await shop.publish()
    assert shop.triton.loaded == {}
    assert shop.repository.config() is None


async def test_a_changed_version_does_not_serve(shop: Shop) -> None:
    await shop.publish()
    data = linear(4, 0.5)
    shop.publisher.stage(manifest(pipeline, 2, data), data, "")
    (shop.repository.directory(2) / "model.onnx").write_bytes(linear(4, 0.6))
    with pytest.raises(ModelError, match="was changed after it was published"):
        await shop.publisher.serve(2, shop.now)
    assert shop.triton.loads == 1


async def test_a_manifest_changed_with_its_model_is_not_the_ledgers(shop: Shop) -> None:
    await shop.publish()
    await shop.publish(0.1)
    home, data = shop.repository.directory(1), linear(4, 0.6)
    (home / "model.onnx").write_bytes(data)
    forged = manifest(pipeline, 1, data)
    (home / "manifest.json").write_bytes(encode(forged))
    with pytest.raises(ModelError, match="was changed after it was published"):
        await shop.publisher.serve(1, shop.now)
    await shop.publish(0.2)
    assert sorted(shop.triton.loaded) == [2, 3]  # the changed one is left out


async def test_triton_away_leaves_the_configuration_as_it_was(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.publish()

    async def away(model: str = "") -> None:
        raise Unavailable("Triton", "memory", "DRIFTLOOP_TRITON")

    monkeypatch.setattr(shop.triton, "load", away)
    with pytest.raises(Unavailable, match="DRIFTLOOP_TRITON"):
        await shop.publish(0.1)
    assert shop.repository.configured() == [1]


async def test_what_triton_lost_is_loaded_again(shop: Shop) -> None:
    await shop.publish()
    await shop.publish(0.1)
    await shop.triton.unload()
    await shop.publisher.ensure_loaded(shop.now)
    assert sorted(shop.triton.loaded) == [1, 2]
    loads = shop.triton.loads
    await shop.publisher.ensure_loaded(shop.now)
    assert shop.triton.loads == loads


async def test_a_lost_configuration_is_written_again(shop: Shop) -> None:
    await shop.publish()
    shop.repository.write_config(None)
    await shop.triton.unload()
    await shop.publisher.ensure_loaded(shop.now)
    assert sorted(shop.triton.loaded) == [1]


async def test_a_champion_that_is_gone_is_said(shop: Shop) -> None:
    await shop.publish()
    shop.repository.remove(1)
    with pytest.raises(ModelError, match="no readable manifest"):
        await shop.publisher.ensure_loaded(shop.now)


async def test_a_champion_of_other_features_is_said_and_does_not_end_the_trainer(
    shop: Shop,
) -> None:
    await shop.publish()
    wider = {"mean": [0.0] * 3, "scale": [1.0] * 3}
    odd = manifest(pipeline, 1, linear(4), schema_hash="other", columns={}, normalisation=wider)
    shop.now = replace(shop.now, versions={1: odd})
    with pytest.raises(ModelError, match="it takes other features") as caught:
        await shop.publisher.ensure_loaded(shop.now)
    assert "the fallback serves until" in str(caught.value)


async def test_nothing_to_load_before_the_first_version(shop: Shop) -> None:
    await shop.publisher.ensure_loaded(LedgerState())
    assert shop.triton.loads == 0


async def test_a_version_of_other_features_is_not_kept(shop: Shop) -> None:
    await shop.publish()
    odd = manifest(pipeline, 1, linear(4), schema_hash="other", columns={})
    shop.now = replace(shop.now, versions={1: odd})
    await shop.publish(0.1)
    assert sorted(shop.triton.loaded) == [2]


async def test_what_a_killed_publisher_left_is_swept(shop: Shop) -> None:
    await shop.publish()
    (shop.repository.home / ".staging-9-123").mkdir()
    shop.repository.sweep()
    assert not list(shop.repository.home.glob(".staging*"))
    assert shop.repository.versions() == [1]


async def test_publishers_take_turns(shop: Shop) -> None:
    order: list[str] = []

    async def hold(name: str) -> None:
        async with shop.publisher.alone():
            order.append(f"{name} in")
            await asyncio.sleep(0.05)
            order.append(f"{name} out")

    await asyncio.gather(hold("a"), hold("b"))
    assert [step.split()[1] for step in order] == ["in", "out", "in", "out"]


def test_probes_look_like_the_pipelines_vectors() -> None:
    declared = Pipeline(
        name="probing",
        event=pipeline.event,
        features=[*pipeline.features, OneHot("machine", ["x", "y"]), Bucket("reading_id", 50)],
        model=pipeline.model,
        feedback=pipeline.feedback,
    )
    mean, scale = [100.0, 0, 0, 0, 0, 0, 0], [5.0, 1, 1, 1, 1, 1, 1]
    made = manifest(declared, 1, b"", normalisation={"mean": mean, "scale": scale})
    found = probes(declared, made, 200)
    assert found.shape == (200, 7)
    assert found.dtype == np.float32
    assert found[:, 0].mean() == pytest.approx(100, abs=2)
    assert (found[:, 4:6].sum(axis=1) == 1).all()
    assert set(found[:, 6]) <= set(range(50))
    assert np.array_equal(found, probes(declared, made, 200))


def forge(shop: Shop, version: int) -> None:
    """Another model, and a manifest that names it: as whoever can write files may do."""
    home, other = shop.repository.directory(version), linear(len(pipeline.feature_names), bias=9.0)
    (home / "model.onnx").write_bytes(other)
    (home / "manifest.json").write_bytes(encode(manifest(pipeline, version, other)))


async def test_a_version_whose_files_were_changed_together_is_served_no_more(shop: Shop) -> None:
    await shop.publish()
    await shop.publish(0.1)
    files = shop.repository.state_of_files()
    assert await shop.publisher.withdraw_changed(shop.now) == []
    assert shop.repository.state_of_files() == files
    forge(shop, 2)
    assert shop.repository.state_of_files() != files
    await shop.triton.load()  # a restart of the server
    assert await shop.publisher.withdraw_changed(shop.now) == [2]
    assert (shop.repository.configured(), sorted(shop.triton.loaded)) == ([1], [1])
    with pytest.raises(ModelError, match="was changed after it was published"):
        await shop.publisher.ensure_loaded(shop.now)
    with pytest.raises(ModelError, match="was changed after it was published"):
        await shop.publisher.serve(2, shop.now)
    forge(shop, 1)
    assert await shop.publisher.withdraw_changed(shop.now) == [1]
    assert (shop.repository.config(), shop.triton.loaded) == (None, {})


async def test_a_version_that_the_ledger_does_not_know_is_not_served(shop: Shop) -> None:
    await shop.publish()
    data = linear(len(pipeline.feature_names))
    shop.publisher.stage(manifest(pipeline, 9, data), data, "nobody decided that")
    shop.repository.write_config((shop.repository.config() or "").replace("[ 1 ]", "[ 1, 9 ]"))
    await shop.triton.load()
    assert await shop.publisher.withdraw_changed(shop.now) == [9]
    assert sorted(shop.triton.loaded) == [1]


async def test_a_model_with_weights_in_other_files_is_refused(shop: Shop, tmp_path: Path) -> None:
    model = onnx.load_from_string(linear(len(pipeline.feature_names)))
    for tensor in model.graph.initializer:
        tensor.raw_data = onnx.numpy_helper.to_array(tensor).tobytes()
        tensor.ClearField("float_data")
    onnx.save(
        model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    data = (tmp_path / "m.onnx").read_bytes()
    assert (tmp_path / "w.bin").stat().st_size
    with pytest.raises(ModelError, match="weights in other files") as caught:
        shop.publisher.stage(manifest(pipeline, 1, data), data, "")
    assert "save it as one" in str(caught.value)


async def test_versions_of_two_layouts_serve_side_by_side(shop: Shop) -> None:
    first = await shop.publish()
    settings = Settings(model_repository=shop.repository.root, triton="memory")
    wider = replace(pipeline, features=[Derived("sum", ("a", "b"), total), *pipeline.features])
    triton = MemoryTriton(settings, wider)
    triton.models = dict(shop.triton.models)
    after = Publisher(settings, wider, triton, triton)
    await after.ensure_loaded(shop.now)  # the first picks its columns, and passes its check
    made = manifest(wider, 0, linear(5))
    model = after.loading.model_for(made)
    assert model.startswith("synthetic_")
    made = msgspec.structs.replace(made, version=after.next_version(shop.now), model=model)
    after.stage(made, linear(5), "The gate said promote.")
    await after.serve(2, shop.now)
    assert {name: sorted(one) for name, one in triton.models.items()} == {
        "synthetic": [first],
        model: [2],
    }
    assert after.repository.versions() == [1, 2]
    assert after.repository.configured() == [1, 2]
    assert after.loading.model_for(manifest(pipeline, 3, linear(4))) == ""

    # as many instances of each, and what is kept no more is unloaded
    now = shop.now.after(new_entry(Action.PROMOTE, made, shop.now, "test"))
    await after.resize(3, now.versions)
    assert all("count: 3 " in text for text in after.repository.configs().values())
    await after.leave_out_others(replace(now, rolled_back=frozenset({first})))
    assert (after.repository.configured(), sorted(triton.loaded)) == ([2], [2])

    # the version that lacks its columns is not served by the narrow pipeline
    narrow = Publisher(settings, pipeline, shop.triton, shop.triton)
    with pytest.raises(ModelError, match="sum"):
        await narrow.ensure_loaded(now)


async def test_a_wider_version_that_does_not_serve_leaves_the_first_as_it_was(shop: Shop) -> None:
    await shop.publish()
    before = shop.repository.configs()
    settings = Settings(model_repository=shop.repository.root, triton="memory")
    wider = replace(pipeline, features=[Derived("sum", ("a", "b"), total), *pipeline.features])
    triton = MemoryTriton(settings, wider)
    triton.models, triton.wrong = dict(shop.triton.models), {2}
    after = Publisher(settings, wider, triton, triton)
    made = manifest(wider, 2, linear(5), model=after.loading.model_for(manifest(wider, 2, b"")))
    after.stage(made, linear(5), "")
    with pytest.raises(ModelError, match="version 2 does not serve"):
        await after.serve(2, shop.now)
    assert after.repository.configs() == before
    assert sorted(triton.loaded) == [1]
