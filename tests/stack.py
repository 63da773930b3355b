"""The servers that integration tests run against: one fixture, two ways to get them.

The embedded stack by default; containers where `DRIFTLOOP_TEST_STACK=containers` asks for them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from pydantic import SecretStr

from streams.settings import Settings, load_settings
from workers.devstack.kafka import kafka_answers
from workers.devstack.private import ADMIN, USER, passwords
from workers.devstack.servers import free_port, triton_answers
from workers.devstack.stack import Stack
from workers.devstack.state import Addresses
from workers.environment import with_addresses
from workers.fetching import Notify

COMPOSE = Path(__file__).parents[1] / "docker-compose.yml"


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


@contextmanager
def own_stack(
    home: Path, report: Notify = lambda line: None, *, private: bool = True, **changes: Any
) -> Iterator[tuple[Stack, Settings]]:
    """Servers that may be harmed and emptied, whatever is configured; settings that lead to them.

    Data and the model repository are in `home`; `changes` are further settings.
    """
    nothing_given = {"kafka": "", "triton": "", "redis": SecretStr("")}
    places = {"state_dir": home, "model_repository": home / "models"}
    settings = load_settings().model_copy(update={**nothing_given, **places, **changes})
    settings.model_repository.mkdir(parents=True, exist_ok=True)
    stack = Stack(settings, report, private=private)
    with stack as at:
        yield stack, with_addresses(settings, at)


@contextmanager
def redis_admin(settings: Settings) -> Iterator[redis.Redis]:
    """A client that may do everything in the server of `own_stack`."""
    known = passwords(settings.state_dir / "stack")
    url = settings.redis.get_secret_value().replace(
        f"{USER}:{known.redis}@", f"{ADMIN}:{known.redis_admin}@"
    )
    with redis.Redis.from_url(url, socket_timeout=2.0, decode_responses=True) as client:
        yield client


def containers(ending: ExitStack, repository: Path) -> Addresses:
    """The same servers from `docker-compose.yml`'s images; fails where no Docker engine answers."""
    import docker
    from docker.errors import DockerException
    from testcontainers.core.container import DockerContainer
    from testcontainers.redis import RedisContainer

    try:
        docker.from_env().ping()
    except DockerException as error:
        pytest.fail(f"DRIFTLOOP_TEST_STACK=containers, but no Docker engine answers: {error}")
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    port = free_port()
    kafka = DockerContainer(services["kafka"]["image"]).with_bind_ports(9092, port)
    for name, value in services["kafka"]["environment"].items():
        # the broker tells clients where it is: on a port of the host that is known beforehand
        kafka.with_env(name, str(value).replace("localhost:9092", f"127.0.0.1:{port}"))
    ending.enter_context(kafka.with_kwargs(hostname="kafka"))
    cache = ending.enter_context(RedisContainer(services["redis"]["image"]))
    triton = ending.enter_context(
        DockerContainer(services["triton"]["image"])
        .with_volume_mapping(str(repository), "/models", "rw")
        .with_exposed_ports(8001)
        .with_command(services["triton"]["command"])
    )
    addresses = Addresses(
        kafka=f"127.0.0.1:{port}",
        triton=f"{triton.get_container_host_ip()}:{triton.get_exposed_port(8001)}",
        redis=f"redis://{cache.get_container_host_ip()}:{cache.get_exposed_port(6379)}/0",
    )
    for healthy in (lambda: kafka_answers(port), lambda: triton_answers(addresses.triton)):
        _wait_for(healthy)
    return addresses


def _wait_for(healthy: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not healthy():
        if time.monotonic() > deadline:
            pytest.fail("a container did not become healthy")
        time.sleep(0.5)


@pytest.fixture
def settings(stack: Addresses, repository: Path, tmp_path: Path) -> Settings:
    """Settings for the session's servers, with a state directory of the test's own."""
    own = Settings(state_dir=tmp_path / "state", model_repository=repository)
    return with_addresses(own, stack)
