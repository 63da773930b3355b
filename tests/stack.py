"""The servers that integration tests run against: one fixture, two ways to get them.

The embedded stack by default; containers where `DRIFTLOOP_TEST_STACK=containers` asks for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr

from streams.settings import Settings
from workers.devstack.stack import Addresses, Stack

KAFKA_IMAGE = "apache/kafka:4.1.0"
TRITON_IMAGE = "nvcr.io/nvidia/tritonserver:25.02-py3"
REDIS_IMAGE = "redis:7.4-alpine"


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model repository that the session's Triton reads."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Addresses]:
    """Kafka, Triton and Redis for the session."""
    with ExitStack() as ending:
        if os.environ.get("DRIFTLOOP_TEST_STACK") == "containers":
            yield containers(ending, repository)
        else:
            home = tmp_path_factory.mktemp("stack")
            embedded = Stack(Settings(state_dir=home, model_repository=repository), print)
            yield ending.enter_context(embedded)


def containers(ending: ExitStack, repository: Path) -> Addresses:
    """The same servers from containers; fails where no Docker engine answers."""
    import docker
    from docker.errors import DockerException
    from testcontainers.core.container import DockerContainer
    from testcontainers.kafka import KafkaContainer
    from testcontainers.redis import RedisContainer

    try:
        docker.from_env().ping()
    except DockerException as error:
        pytest.fail(f"DRIFTLOOP_TEST_STACK=containers, but no Docker engine answers: {error}")
    kafka = ending.enter_context(KafkaContainer(KAFKA_IMAGE).with_kraft())
    redis = ending.enter_context(RedisContainer(REDIS_IMAGE))
    triton = ending.enter_context(
        DockerContainer(TRITON_IMAGE)
        .with_volume_mapping(str(repository), "/models", "rw")
        .with_exposed_ports(8001)
        .with_command(
            "tritonserver --model-repository=/models --model-control-mode=explicit "
            "--load-model=* --exit-on-error=false --strict-readiness=false"
        )
    )
    host = redis.get_container_host_ip()
    return Addresses(
        kafka=kafka.get_bootstrap_server(),
        triton=f"{triton.get_container_host_ip()}:{triton.get_exposed_port(8001)}",
        redis=f"redis://{host}:{redis.get_exposed_port(6379)}/0",
    )


@pytest.fixture
def settings(stack: Addresses, repository: Path, tmp_path: Path) -> Settings:
    """Settings for the session's servers, with a state directory of the test's own."""
    backend = "onnxruntime" if os.environ.get("DRIFTLOOP_TEST_STACK") == "containers" else "python"
    return Settings(
        kafka=stack.kafka,
        triton=stack.triton,
        redis=SecretStr(stack.redis),
        state_dir=tmp_path / "state",
        model_repository=repository,
        triton_backend=backend,
    )
