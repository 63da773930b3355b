"""Triton's configuration says what the pipeline does, and is read back; nothing else passes."""

from __future__ import annotations

import pytest
from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc.model_config_pb2 import ModelConfig

from streams.errors import PipelineError
from streams.spec import Batching, Infer
from streams.spec.layout import Layout
from streams.spec.triton import TritonConfig, read_config

POLICIES = [
    Infer(),
    Infer(batching=Batching(delay=500)),
    Infer(batching=Batching(delay=0, sizes=(64, 256), queue=100, timeout=50_000)),
    Infer(resources={"gpu_part": 2, "R": 1}, priority=2),
    Infer(batching=Batching(), resources={"R": 1}),
    Infer(priority=3),
]


@pytest.mark.parametrize("policy", POLICIES)
def test_triton_is_told_and_it_is_read_back(policy: Infer) -> None:
    config = TritonConfig("orders", Layout.of(6).tensors, 3, (1, 12), 4, policy)
    assert read_config(config.text()) == config
    told = text_format.Parse(config.text(), ModelConfig())
    assert told.instance_group[0].count == 4
    limiter = told.instance_group[0].rate_limiter
    assert {one.name: one.count for one in limiter.resources} == policy.resources
    assert limiter.priority == policy.priority
    assert told.HasField("dynamic_batching") is (policy.batching is not None)
    if policy.batching is not None:
        found = told.dynamic_batching
        assert tuple(found.preferred_batch_size) == policy.batching.sizes
        assert found.max_queue_delay_microseconds == policy.batching.delay
        assert found.default_queue_policy.max_queue_size == policy.batching.queue
        assert found.default_queue_policy.default_timeout_microseconds == policy.batching.timeout


@pytest.mark.parametrize(
    "more",
    ['model_warmup [{ name: "x" }]\n', "# a word\n", 'parameters { key: "EXECUTION_ENV_PATH" }\n'],
)
def test_what_we_do_not_write_is_none_of_ours(more: str) -> None:
    text = TritonConfig(
        "orders", Layout.of(6).tensors, 1, (1,), 1, Infer(batching=Batching(delay=5))
    ).text()
    assert read_config(text) is not None
    assert read_config(text + more) is None
    assert read_config(text.replace("onnxruntime", "python")) is None
    assert read_config("") is None


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (lambda: Infer(instances=0), "policies.infer.instances"),
        (lambda: Infer(instances=4, most_instances=2), "policies.infer.most_instances"),
        (lambda: Infer(resources={"a b": 1}), "policies.infer.resources"),
        (lambda: Infer(resources={"a": 0}), "policies.infer.resources"),
        (lambda: Infer(priority=-1), "policies.infer.priority"),
        (lambda: Batching(delay=-1), "policies.infer.batching.delay"),
        (lambda: Batching(sizes=(0,)), "policies.infer.batching.sizes"),
    ],
)
def test_what_cannot_be_is_named(made: object, named: str) -> None:
    with pytest.raises(PipelineError, match=named):
        made()  # type: ignore[operator]
