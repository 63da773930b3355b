"""Hand-made ONNX files, a first version that serves, and a model server in memory."""

from __future__ import annotations

import re

import msgspec
import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, TensorProto, helper, numpy_helper

from streams.adapters.triton.client import NotServing
from streams.errors import ModelError
from streams.ledger.state import LedgerState
from streams.ledger.topic import append, new_entry, read_state
from streams.records import Action, Manifest
from streams.settings import Settings
from streams.spec import Pipeline
from workers.releases.loading import Loading
from workers.releases.manifests import blank
from workers.releases.onnx_files import run, session
from workers.releases.publisher import Publisher
from workers.releases.repository import Repository, digest


def linear(
    features: int,
    bias: float = 0.0,
    outputs: int = 1,
    name: str = "features",
    factor: float | NDArray[np.float32] = 0.1,
) -> bytes:
    """sigmoid(sum(factor · vector) + bias) for each output; factors may be [features, 1]."""
    weight = np.full((features, outputs), factor, np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [name, "weight"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["scores"]),
        ],
        "linear",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", outputs])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.full(outputs, bias, np.float32), "bias"),
        ],
    )
    return _file(graph)


def root(features: int, bias: float = 2.2) -> bytes:
    """sigmoid(root(first of the vector + bias)): NaN where that is negative."""
    weight = np.eye(features, 1, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["features", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Sqrt", ["sum"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "root",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 1])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.array([bias], np.float32), "bias"),
        ],
    )
    return _file(graph)


def _file(graph: GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def manifest(pipeline: Pipeline, version: int, data: bytes, **fields: object) -> Manifest:
    """A manifest that fits the file."""
    return msgspec.structs.replace(
        blank(pipeline), version=version, model_sha256=digest(data), **fields
    )


async def publish_first(settings: Settings, pipeline: Pipeline, data: bytes) -> Manifest:
    """Version 1 is loaded on every Triton; no ledger names it yet."""
    first = manifest(pipeline, 1, data)
    publisher = Publisher(settings, pipeline)
    try:
        publisher.stage(first, data, "")
        await publisher.serve(1, LedgerState())
    finally:
        await publisher.close()
    return first


async def promote_first(settings: Settings, pipeline: Pipeline, data: bytes) -> None:
    """Version 1 serves."""
    first = await publish_first(settings, pipeline, data)
    await append(settings, pipeline, new_entry(Action.PROMOTE, first, LedgerState(), "first"))


async def publish_rivals(
    settings: Settings, pipeline: Pipeline, champion: bytes, challenger: bytes
) -> Manifest:
    """Version 1 serves; version 2 is loaded beside it, and no ledger names it yet."""
    await promote_first(settings, pipeline, champion)
    second = manifest(pipeline, 2, challenger, parent=1)
    publisher = Publisher(settings, pipeline)
    try:
        publisher.stage(second, challenger, "")
        await publisher.serve(2, await read_state(settings, pipeline))
    finally:
        await publisher.close()
    return second


async def challenge(
    settings: Settings, pipeline: Pipeline, challenger: Manifest, since: float = 0.0
) -> None:
    """The ledger says that the version is in the shadow, since this event time."""
    state = await read_state(settings, pipeline)
    steps = [(Action.CANDIDATE, challenger), (Action.SHADOW, challenger)]
    if state.challenger:  # who was it before has to go
        steps.insert(0, (Action.REJECT, state.versions[state.challenger]))
    for action, made in steps:
        entry = new_entry(action, made, state, "by a test")
        await append(settings, pipeline, msgspec.structs.replace(entry, event_time=since))


class MemoryTriton:
    """What the publisher sees of Triton: loads what `config.pbtxt` names, all or nothing."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._name = pipeline.name
        self._repository = Repository(settings.model_repository, pipeline.name)
        self.models: dict[str, dict[int, bytes]] = {}
        """By model, the files of the versions that serve."""
        self._picks = Loading(settings, pipeline, self._repository, self).picks
        self.loads = 0
        self.wrong: set[int] = set()
        """Versions that answer wrongly."""

    async def alive(self) -> None:
        """It is."""

    async def load(self, model: str = "") -> None:
        self.loads += 1
        model = model or self._name
        config = self._repository.config(model)
        if config is None:
            raise ModelError("no config.pbtxt")
        found = re.search(r"versions: \[ ([\d, ]+) \]", config)
        assert found is not None
        versions = [int(one) for one in found[1].split(", ")]
        loaded = {
            version: (self._repository.directory(version) / "model.onnx").read_bytes()
            for version in versions
        }
        for data in loaded.values():
            session(data)
        self.models[model] = loaded

    async def unload(self, model: str = "") -> None:
        self.models.pop(model or self._name, None)

    async def ready(self, version: int, model: str = "") -> bool:
        return version in self.models.get(model or self._name, {})

    @property
    def loaded(self) -> dict[int, bytes]:
        """The files of all models' versions."""
        return {version: data for one in self.models.values() for version, data in one.items()}

    async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        if version not in self.loaded:
            raise NotServing(self._settings, self._name, "not loaded", died=False)
        taken = self._picks.of(version).of(vectors)
        scores = run(session(self.loaded[version]), taken)
        return 1 - scores if version in self.wrong else scores

    async def close(self) -> None:
        """Nothing to release."""
