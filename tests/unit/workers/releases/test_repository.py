"""The model repository's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.errors import ConfigurationError, ModelError
from streams.records import encode
from streams.spec.layout import Layout
from streams.spec.tasks import BINARY
from streams.spec.triton import TritonConfig
from tests.models import linear, manifest
from tests.synthetic import pipeline
from workers.releases.manifests import code_version, model_card
from workers.releases.repository import Repository, digest

DATA = linear(4)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    found = Repository(tmp_path, pipeline.name)
    found.add(1, {"model.onnx": DATA, "manifest.json": encode(manifest(pipeline, 1, DATA))})
    return found


def test_only_version_directories_count(repository: Repository) -> None:
    for name in (".staging-2-1", "notes", "03", "x4"):
        (repository.home / name).mkdir()
    assert repository.versions() == [1]
    assert Repository(repository.root, "another").versions() == []


def test_a_model_is_read_only_as_it_was_published(repository: Repository) -> None:
    assert repository.model(1) == DATA
    assert repository.model(1, digest(DATA)) == DATA
    with pytest.raises(ModelError, match="was changed"):
        repository.model(1, digest(b"what the ledger says"))
    (repository.directory(1) / "model.onnx").write_bytes(DATA + b"x")
    with pytest.raises(ModelError, match="was changed"):
        repository.model(1)
    (repository.directory(1) / "model.onnx").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        repository.model(1)


def test_a_manifest_that_is_not_there_is_said(repository: Repository) -> None:
    with pytest.raises(ModelError, match="no readable manifest"):
        repository.manifest(2)
    (repository.directory(1) / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match="no readable manifest"):
        repository.manifest(1)


def test_a_version_is_moved_in_whole_or_not_at_all(repository: Repository) -> None:
    with pytest.raises(ConfigurationError, match="DRIFTLOOP_MODEL_REPOSITORY"):
        repository.add(2, {"model.onnx": DATA, "no/such/folder": b""})
    assert repository.versions() == [1]
    assert not list(repository.home.glob(".staging*"))
    with pytest.raises(ModelError, match="never overwritten"):
        repository.add(1, {})


def test_a_repository_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked = Repository(tmp_path / "file", pipeline.name)
    with pytest.raises(ConfigurationError, match="DRIFTLOOP_MODEL_REPOSITORY"):
        blocked.add(1, {})
    with pytest.raises(ConfigurationError, match="DRIFTLOOP_MODEL_REPOSITORY"):
        blocked.write_config("x")
    with (
        pytest.raises(ConfigurationError, match="DRIFTLOOP_MODEL_REPOSITORY"),
        blocked.lock_file(),
    ):
        pass


@pytest.mark.parametrize("versions", [[1], [1, 2, 12]])
def test_the_configured_versions_are_read_back(repository: Repository, versions: list[int]) -> None:
    repository.write_config(
        TritonConfig(pipeline.name, Layout.of(4).tensors, 1, tuple(versions)).text()
    )
    assert repository.configured() == versions
    repository.write_config(None)
    assert repository.configured() == []
    assert repository.config() is None


def test_a_model_card_tells_where_the_version_comes_from() -> None:
    made = manifest(
        pipeline,
        3,
        DATA,
        parent=2,
        offsets={"synthetic.examples-0": [5, 900]},
        slices={"train": [0.0, 86_400.0]},
        counts={"train": [700, 31]},
        metrics={"average_precision": 0.7125},
    )
    card = model_card(made, "The gate said promote.", BINARY)
    for words in (
        "# synthetic, version 3",
        "| train | 1970-01-01 00:00:00 UTC | 1970-01-02 00:00:00 UTC | 700 | 31 |",
        "| synthetic.examples-0 | 5 | 900 |",
        "| average_precision | 0.7125 |",
        "Compared with version 2.",
        digest(DATA),
    ):
        assert words in card


def test_the_code_version_names_the_pipelines_source() -> None:
    assert "+" in code_version(pipeline)
    assert code_version(pipeline) == code_version(pipeline)
