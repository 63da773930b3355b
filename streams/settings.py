"""Every setting, in one place. Each is the environment variable ``DRIFTLOOP_<NAME>``.

An address that is not set means: the embedded stack (`driftloop stack up`, `driftloop up`).
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Literal

from platformdirs import user_cache_path
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.addresses import all_local, check_hosts, check_redis
from streams.errors import ConfigurationError

PREFIX = "DRIFTLOOP_"
_TESTS = f"{PREFIX}TEST_"
"""Variables for the tests, which read them themselves."""
_WITH_TLS = f"{PREFIX}KAFKA_SECURITY_PROTOCOL=SSL or SASL_SSL"
_WITH_SASL = f"{PREFIX}KAFKA_SECURITY_PROTOCOL=SASL_SSL"


class Settings(BaseSettings):
    """What a process is told by its environment; frozen once read."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    # -- what runs ---------------------------------------------------------------------------
    pipeline: str = ""
    """Module of the pipeline to serve, as in `streams.pipelines.card_fraud`."""
    state_dir: Path = Path(".driftloop")
    """Where the embedded stack, label stores and reports keep their files."""
    cache_dir: Path = Field(default_factory=lambda: user_cache_path("driftloop"))
    """Per-user cache of downloads: Kafka's jars, Triton's environment."""
    model_repository: Path = Path("model_repo")
    """The Triton model repository: the same directory, or volume, that Triton reads."""

    # -- Kafka -------------------------------------------------------------------------------
    kafka: str = ""
    """Bootstrap servers, `host:port[,host:port]`; empty for the embedded broker."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How to talk to the brokers."""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """SASL mechanism, with a SASL protocol."""
    kafka_username: str = ""
    """SASL user name."""
    kafka_password: SecretStr = SecretStr("")
    """SASL password."""
    kafka_cafile: Path | None = None
    """CA certificates (PEM) that sign the brokers' certificates; the system's when empty."""
    kafka_certfile: Path | None = None
    """Client certificate (PEM) for mutual TLS."""
    kafka_keyfile: Path | None = None
    """Key of the client certificate (PEM)."""
    partitions: int = Field(4, ge=1)
    """Partitions of a topic that Driftloop creates."""
    replication: int = Field(1, ge=1)
    """Replicas of a topic that Driftloop creates."""

    # -- Triton ------------------------------------------------------------------------------
    triton: str = ""
    """gRPC addresses of Triton, `host:port[,host:port]`; empty for the embedded server. Of
    `dns:///host:port`, each address of the name is a Triton, and it is looked up again."""
    triton_server_name: str = ""
    """Name that Triton's certificate is for, where it is not the host that is named."""
    triton_tls: bool = False
    """Use TLS towards Triton."""
    triton_cafile: Path | None = None
    """CA certificates (PEM) that sign Triton's certificate."""
    triton_certfile: Path | None = None
    """Client certificate (PEM) for mutual TLS with Triton."""
    triton_keyfile: Path | None = None
    """Key of Triton's client certificate (PEM)."""
    triton_instances: int = Field(1, ge=1)
    """Requests that Triton works on at a time, for each version and GPU (or for the CPU)."""
    triton_timeout: float = Field(5.0, gt=0)
    """Seconds before one inference request is given up and retried."""

    # -- Redis -------------------------------------------------------------------------------
    redis: SecretStr = SecretStr("")
    """Redis URL, `redis[s]://[user:password@]host:port/db`; empty for the embedded server."""

    # -- the scoring path --------------------------------------------------------------------
    batch_records: int = Field(2048, ge=1, le=16384)
    """Most records in a micro-batch."""
    batch_wait_ms: float = Field(5.0, ge=0)
    """Longest time that records wait at the broker for more, counted from the oldest."""
    transaction_ms: float = Field(100.0, gt=0)
    """Span of a transaction under exactly_once, from its oldest record's fetch to its commit."""
    commit_ms: float = Field(500.0, gt=0)
    """Span between commits under at_least_once: so much may come again after a crash."""
    transaction_timeout_ms: int = Field(20_000, ge=1000)
    """After this the broker aborts a transaction whose worker is gone."""
    session_timeout_ms: int = Field(10_000, ge=6000)
    """After this the broker gives a silent worker's partitions to another."""
    standby: bool = True
    """Labellers keep copies of one another's label stores: a takeover takes seconds."""
    shadow_patience: float = Field(60.0, gt=0)
    """Seconds for which a challenger that does not answer is waited for, before its events are
    passed over."""
    delivery: Literal["", "exactly_once", "at_least_once"] = ""
    """Delivery mode; empty for the pipeline's own policy."""
    connect_timeout: float = Field(3.0, gt=0)
    """Seconds to wait for a server at start before giving up with an error."""

    workers: str = ""
    """Where `driftloop scale` finds workers' metrics, `host:port`; in it `{role}` stands for score,
    label and so on. A name that leads to several addresses stands for them all."""

    # -- training ----------------------------------------------------------------------------
    training_gpu_memory: float = Field(1.0, gt=0, le=1)
    """Share of a GPU's memory that a training process may take: Triton may serve from the same."""

    # -- money -------------------------------------------------------------------------------
    currency: str = "USD"
    """Of the prices."""
    price_cpu_hour: float = Field(0.0, ge=0)
    """What a CPU costs for an hour, as you pay for it: on demand, or committed; 0: not priced."""
    price_gib_hour: float = Field(0.0, ge=0)
    """What a GiB of memory costs for an hour."""
    price_gpu_hour: float = Field(0.0, ge=0)
    """What a GPU costs for an hour."""
    price_training_cpu_hour: float | None = Field(None, ge=0)
    """The same of training runs, where they run at another price, as on spot machines."""
    price_training_gib_hour: float | None = Field(None, ge=0)
    """As `price_gib_hour`, of training runs."""
    price_training_gpu_hour: float | None = Field(None, ge=0)
    """As `price_gpu_hour`, of training runs."""
    price_kept_gib_month: float = Field(0.0, ge=0)
    """What a GiB that topics keep costs for a month, with all its replicas."""
    reserved_cpus: float = Field(0.0, ge=0)
    """CPUs that are reserved for this worker, and paid for whether it uses them or not; 0: none."""
    reserved_gib: float = Field(0.0, ge=0)
    """Memory in GiB that is reserved for this worker; 0: none."""

    # -- the embedded stack ------------------------------------------------------------------
    kafka_port: int = Field(0, ge=0, le=65535)
    """Port of the embedded broker; 0 takes a free one."""
    triton_port: int = Field(0, ge=0, le=65535)
    """gRPC port of the embedded Triton; 0 takes a free one."""
    redis_port: int = Field(0, ge=0, le=65535)
    """Port of the embedded Valkey; 0 takes a free one."""

    # -- what people see ---------------------------------------------------------------------
    metrics_host: str = "127.0.0.1"
    """Address on which each process serves Prometheus metrics."""
    metrics_port: int = Field(0, ge=0, le=65535)
    """Port of the metrics endpoint; 0 takes a free one and logs it."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level that is logged."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """`auto` writes JSON unless standard error is a terminal."""


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        ConfigurationError: a variable is not known, has a value that it cannot have, or does not go
            with another; names the variable.
    """
    _check_names()
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = _variable(str(first["loc"][0]))
        raise ConfigurationError(
            f"{name}={first['input']!r}: {first['msg']} - see `driftloop settings`"
        ) from None
    check_hosts(_variable("kafka"), settings.kafka)
    check_hosts(_variable("triton"), settings.triton, names=True)
    check_hosts(_variable("workers"), settings.workers.replace("{role}", "role"))
    check_redis(_variable("redis"), settings.redis.get_secret_value())
    _check_kafka_security(settings)
    _check_files(settings, "kafka", "SSL" in settings.kafka_security_protocol, _WITH_TLS)
    _check_files(settings, "triton", settings.triton_tls, f"{_variable('triton_tls')}=true")
    return settings


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _check_names() -> None:
    """A variable that nobody reads is a mistake: what it was to change stays as it is."""
    known = [_variable(name) for name in Settings.model_fields]
    for given in os.environ:
        name = given.upper()
        if not name.startswith(PREFIX) or name in known or name.startswith(_TESTS):
            continue
        near = difflib.get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise ConfigurationError(
            f"{given} is no setting - {meant}`driftloop settings` lists them; unset it otherwise"
        )


def _check_kafka_security(settings: Settings) -> None:
    user, password = settings.kafka_username, settings.kafka_password.get_secret_value()
    protocol = settings.kafka_security_protocol
    if not protocol.startswith("SASL"):
        for name, given in (("kafka_username", user), ("kafka_password", password)):
            if given:
                raise ConfigurationError(
                    f"{_variable(name)} is set and {_variable('kafka_security_protocol')}="
                    f"{protocol} uses none - set {_WITH_SASL}, or unset it"
                )
        return
    for name, given in (("kafka_username", user), ("kafka_password", password)):
        if not given:
            raise ConfigurationError(
                f"{_variable('kafka_security_protocol')}={protocol} needs {_variable(name)} - set "
                "it, or another protocol"
            )
    if protocol == "SASL_PLAINTEXT" and not all_local(settings.kafka):
        raise ConfigurationError(
            f"{_variable('kafka_security_protocol')}=SASL_PLAINTEXT would send the password to "
            f"{settings.kafka} in the clear - set {_WITH_SASL}"
        )


def _check_files(settings: Settings, server: str, tls: bool, mend: str) -> None:
    """Certificates go with TLS, and a key with its certificate."""
    for kind in ("cafile", "certfile", "keyfile"):
        if getattr(settings, f"{server}_{kind}") is not None and not tls:
            raise ConfigurationError(
                f"{_variable(f'{server}_{kind}')} is set and {server.capitalize()} is asked for no "
                f"TLS - set {mend}, or unset it"
            )
    key, certificate = f"{server}_keyfile", f"{server}_certfile"
    if getattr(settings, key) is not None and getattr(settings, certificate) is None:
        raise ConfigurationError(
            f"{_variable(key)} is set without its certificate - set {_variable(certificate)}"
        )
