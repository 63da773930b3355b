"""What was changed in the model repository is found before Triton is told to load it."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.adapters.triton.repository import require_unchanged
from streams.errors import ModelError
from streams.records import Manifest
from streams.spec.layout import Layout
from streams.spec.triton import TritonConfig, configured
from tests.models import linear, manifest
from tests.synthetic import declare

PIPELINE = declare("kept")
OURS = TritonConfig("kept", Layout.of(4).tensors, 1, (1, 2, 3), 2).text()
KNOWN: dict[int, Manifest] = {
    version: manifest(PIPELINE, version, linear(4, bias=version)) for version in (1, 2)
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A model's directory with two versions that the ledger knows, and a third that it does not."""
    home = tmp_path / "kept"
    for version in (1, 2, 3):
        (home / str(version)).mkdir(parents=True)
        (home / str(version) / "model.onnx").write_bytes(linear(4, bias=version))
    (home / "config.pbtxt").write_text(OURS)
    return home


def test_what_is_as_published_may_be_loaded(home: Path) -> None:
    require_unchanged(home, KNOWN)
    assert configured((home / "config.pbtxt").read_text()) == [1, 2, 3]


def test_who_sees_no_repository_holds_nothing_against_it(tmp_path: Path) -> None:
    require_unchanged(tmp_path / "elsewhere", KNOWN)


def test_a_changed_version_is_named_with_what_to_do(home: Path) -> None:
    (home / "2" / "model.onnx").write_bytes(linear(4, bias=9))
    with pytest.raises(ModelError, match=r"version 2 was changed .*2/model\.onnx.* rollback"):
        require_unchanged(home, KNOWN)


def test_a_version_that_is_not_configured_may_be_anything(home: Path) -> None:
    (home / "2" / "model.onnx").write_bytes(linear(4, bias=9))
    (home / "config.pbtxt").write_text(TritonConfig("kept", Layout.of(4).tensors, 1, (1,)).text())
    require_unchanged(home, KNOWN)


def test_a_version_that_is_gone_is_named(home: Path) -> None:
    (home / "1" / "model.onnx").unlink()
    with pytest.raises(ModelError, match="version 1 cannot be read"):
        require_unchanged(home, KNOWN)


@pytest.mark.parametrize(
    "config",
    [
        OURS.replace("onnxruntime", "python"),
        OURS + "backend: 'python'\n",
        OURS + 'parameters { key: "x" value: { string_value: "y" } }\n',
        'name: "kept"\n',
        "",
    ],
)
def test_a_configuration_that_runs_something_else_is_refused(home: Path, config: str) -> None:
    (home / "config.pbtxt").write_text(config)
    with pytest.raises(ModelError, match="would run something else than a model"):
        require_unchanged(home, KNOWN)
