"""Messages tell apart nobody there, somebody else there, not allowed, and a misleading broker."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from streams.adapters.redis.server import connect
from streams.adapters.triton.control import TritonControl
from streams.addresses import public
from streams.errors import ConfigurationError, DriftloopError, NotAnswering, Unavailable
from streams.kafka.connection import admin_client, client_options
from streams.kafka.reaching import reach
from streams.kafka.topics import topic_exists
from streams.settings import Settings
from tests.synthetic import declare
from tests.valkey import Valkey
from tests.waiting import until
from workers.devstack.servers import free_port
from workers.processes.loop import Loop
from workers.processes.supervisor import Command, Supervisor
from workers.processes.watching import Watch

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of `elsewhere.test`, signed by itself, and its key."""
    home = tmp_path_factory.mktemp("certificates")
    made, key = home / "cert.pem", home / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=elsewhere.test"
    names = ["-addext", "subjectAltName=DNS:elsewhere.test", "-keyout", str(key), "-out", str(made)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return made, key


@asynccontextmanager
async def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    tasks, writers = list[asyncio.Future[Any]](), list[asyncio.StreamWriter]()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        tasks.append(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*tasks, *(w.wait_closed() for w in writers), return_exceptions=True)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def refused(settings: Settings) -> DriftloopError:
    """What reaching Kafka raises, in under 3 seconds where somebody is there."""
    begun = time.monotonic()
    with pytest.raises(DriftloopError) as caught:
        async with admin_client(settings):
            raise AssertionError("it was reached")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - begun < 4.5
    return caught.value


async def test_nobody_there() -> None:
    at = f"127.0.0.1:{free_port()}"
    error = await refused(Settings(kafka=at, connect_timeout=0.5))
    assert type(error) is Unavailable
    assert f"cannot reach Kafka at {at} (nobody listens there)" in str(error)


async def test_no_such_host() -> None:
    error = await refused(Settings(kafka="broker.invalid:9092", connect_timeout=0.5))
    assert "no such host: broker.invalid" in str(error)


@pytest.mark.parametrize("serve", [silent, closing, http])
async def test_somebody_else_there(serve: Serve) -> None:
    async with listening(serve) as at:
        error = await refused(Settings(kafka=at))
    assert type(error) is NotAnswering
    assert f"somebody listens at {at} and does not answer as Kafka" in str(error)
    assert "DRIFTLOOP_KAFKA_SECURITY_PROTOCOL" in str(error)


async def test_certificates(certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    async with listening(silent, context) as at:
        tls = Settings(kafka=at, kafka_security_protocol="SSL")
        unknown = await refused(tls)
        wrong = await refused(tls.model_copy(update={"kafka_cafile": certificate[0]}))
    async with listening(closing) as at:
        plain = await refused(tls.model_copy(update={"kafka": at}))
    for error in (unknown, wrong):
        assert isinstance(error, ConfigurationError)
        assert "certificate" in str(error)
    assert "DRIFTLOOP_KAFKA_CAFILE" in str(unknown)
    assert "host name" in str(wrong)
    assert "DRIFTLOOP_KAFKA_SECURITY_PROTOCOL" in str(plain)


async def test_a_client_certificate_is_asked_for(certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate[0]))
    context.load_cert_chain(*certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    given = Settings(kafka_security_protocol="SSL", kafka_cafile=certificate[0])
    options = client_options(given)
    options["ssl_context"].check_hostname = False
    async with listening(silent, context) as at:
        with pytest.raises(NotAnswering, match=f"{at} hangs up .* DRIFTLOOP_KAFKA_CERTFILE"):
            await reach(given.model_copy(update={"kafka": at}), options)


async def test_an_advertised_host_that_cannot_be_reached(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streams.kafka import reaching

    ask = reaching._ask

    async def misleading(*arguments: Any) -> list[tuple[str, int]]:
        assert await ask(*arguments)
        return [("broker.invalid", 9092)]

    monkeypatch.setattr(reaching, "_ask", misleading)
    error = await refused(settings)
    assert "sends clients on to broker.invalid:9092" in str(error)
    assert "advertised.listeners" in str(error)


async def test_a_second_address_helps(settings: Settings) -> None:
    both = settings.model_copy(update={"kafka": f"127.0.0.1:{free_port()},{settings.kafka}"})
    assert await topic_exists(both, "no.such.topic") is False


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Valkey(tmp_path_factory.mktemp("valkey"), "--requirepass", "right") as server:
        yield f"127.0.0.1:{server.port}"


async def refused_by_redis(url: str) -> str:
    begun = time.monotonic()
    with pytest.raises(DriftloopError) as caught:
        await connect(url, 10.0)
    assert time.monotonic() - begun < 4.0
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_redis_refuses(valkey: str) -> None:
    assert "user and password" in await refused_by_redis(f"redis://{valkey}/0")
    assert "user and password" in await refused_by_redis(f"redis://:hunter2@{valkey}/0")
    assert "user and password" in await refused_by_redis(f"redis://ann:hunter2@{valkey}/0")
    said = await refused_by_redis(f"redis://:right@{valkey}/99")
    assert "no database of that number" in said
    assert "/0" in said
    assert "TLS" in await refused_by_redis(f"rediss://:hunter2@{valkey}/0")


async def test_redis_is_somebody_else(certificate: tuple[Path, Path], settings: Settings) -> None:
    async with listening(silent) as at:
        assert "does not answer as Redis" in await refused_by_redis(f"redis://:hunter2@{at}/0")
    async with listening(http) as at:
        assert "does not answer as Redis" in await refused_by_redis(f"redis://{at}/0")
    said = await refused_by_redis(f"redis://{settings.kafka}/0")
    assert "does not answer as Redis" in said
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    async with listening(silent, context) as at:
        assert "ssl_ca_certs" in await refused_by_redis(f"rediss://{at}/0")


async def test_kafka_is_redis(settings: Settings) -> None:
    at = public(settings.redis.get_secret_value())
    error = await refused(Settings(kafka=at, redis=SecretStr("")))
    assert "does not answer as Kafka" in str(error)


@pytest.mark.parametrize("serve", [silent, closing, http])
@pytest.mark.parametrize("tls", [False, True])
async def test_triton_is_somebody_else(serve: Serve, tls: bool) -> None:
    async with listening(serve) as at:
        control = TritonControl(Settings(triton=at, triton_tls=tls, triton_timeout=1.0), "orders")
        with pytest.raises(NotAnswering, match=f"{at} and does not answer as Triton"):
            await control.alive()
        await control.close()


async def test_a_watch_tells_that_a_server_went_away_hangs_and_came_back(
    settings: Settings, tmp_path: Path
) -> None:
    told, shown, port = list[str](), list[str](), free_port()
    given = settings.model_copy(update={"redis": SecretStr(f"redis://127.0.0.1:{port}/0")})
    nobody = Supervisor([], given.state_dir, told.append)
    loop = Loop(given, nobody, None, given.state_dir, lambda role, _: Command(role, [], {}))
    watching = asyncio.create_task(Watch(loop, declare("watched"), told.append, shown.append).run())
    try:
        await until(lambda: f"Redis at 127.0.0.1:{port} does not answer" in "".join(told))
        await until(lambda: "0 events | 0 predictions" in "".join(shown))
        with Valkey(tmp_path, "--port", str(port)) as server:
            answers = f"Redis at 127.0.0.1:{port} answers again"
            await until(lambda: told[1:] == [answers])
            server.pause()
            hangs = f"Redis at 127.0.0.1:{port} does not answer - the workers wait for it"
            took = await until(lambda: told[2:] == [hangs])
            assert took < 5.0
            server.resume()
            await until(lambda: told[3:] == [answers])
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
