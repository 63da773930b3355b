"""A setting that cannot work is one line that names it, and never shows a secret."""

from __future__ import annotations

import os

import pytest

from streams.addresses import masked, public
from streams.errors import ConfigurationError
from streams.settings import Settings, load_settings

CA = "ca.pem"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("DRIFTLOOP_"):
            monkeypatch.delenv(name)


def refused(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(f"DRIFTLOOP_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    said = str(caught.value)
    assert "\n" not in said
    assert "hunter2" not in said
    return said


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"KAFKAS": "a:1"}, ["DRIFTLOOP_KAFKAS", "DRIFTLOOP_KAFKA?"]),
        ({"ZZZ": "1"}, ["DRIFTLOOP_ZZZ is no setting", "driftloop settings"]),
        ({"KAFKA": "broker"}, ["DRIFTLOOP_KAFKA='broker'", "host:port"]),
        ({"KAFKA": "kafka://broker:9092"}, ["DRIFTLOOP_KAFKA", "host:port"]),
        ({"KAFKA": "broker:ninety"}, ["DRIFTLOOP_KAFKA='broker:ninety'", "host:port"]),
        ({"KAFKA": "a:9092,,b:9092"}, ["DRIFTLOOP_KAFKA", "host:port"]),
        ({"TRITON": "http://triton:8001"}, ["DRIFTLOOP_TRITON", "host:port"]),
        ({"TRITON": "triton:70000"}, ["DRIFTLOOP_TRITON", "host:port"]),
    ],
)
def test_names_and_addresses(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: list[str]
) -> None:
    line = refused(monkeypatch, **variables)
    assert [part for part in said if part not in line] == []


SASL = {"KAFKA_USERNAME": "ann", "KAFKA_PASSWORD": "hunter2"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (SASL, ["DRIFTLOOP_KAFKA_USERNAME", "DRIFTLOOP_KAFKA_SECURITY_PROTOCOL=SASL_SSL"]),
        (
            SASL | {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA": "far:9092"},
            ["in the clear", "DRIFTLOOP_KAFKA_SECURITY_PROTOCOL=SASL_SSL"],
        ),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, ["DRIFTLOOP_KAFKA_USERNAME", "needs"]),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_USERNAME": "ann"},
            ["DRIFTLOOP_KAFKA_PASSWORD", "needs"],
        ),
        ({"KAFKA_CAFILE": CA}, ["DRIFTLOOP_KAFKA_CAFILE", "no TLS", "SSL"]),
        ({"KAFKA_CERTFILE": CA}, ["DRIFTLOOP_KAFKA_CERTFILE", "no TLS"]),
        (
            {"KAFKA_KEYFILE": CA, "KAFKA_SECURITY_PROTOCOL": "SSL"},
            ["DRIFTLOOP_KAFKA_KEYFILE", "DRIFTLOOP_KAFKA_CERTFILE"],
        ),
        ({"TRITON_CAFILE": CA}, ["DRIFTLOOP_TRITON_CAFILE", "DRIFTLOOP_TRITON_TLS=true"]),
        ({"TRITON_KEYFILE": CA, "TRITON_TLS": "1"}, ["DRIFTLOOP_TRITON_CERTFILE"]),
        ({"REDIS": "redis://ann:hunter2@far:6379/0"}, ["in the clear", "rediss://"]),
    ],
)
def test_secrets_go_with_tls_and_tls_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: list[str]
) -> None:
    line = refused(monkeypatch, **variables)
    assert [part for part in said if part not in line] == []


@pytest.mark.parametrize(
    "url",
    [
        "rediss://ann:hunter2/x@far:6379/0",
        "rediss://:hunter2#x@far:6379/0",
        "rediss://:hunter2?x@far:6379/0",
        "rediss://:hunter2[@far:6379/0",
    ],
)
def test_a_password_with_signs_of_urls_has_to_be_encoded(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    line = refused(monkeypatch, REDIS=url)
    assert "DRIFTLOOP_REDIS" in line
    assert "%2F" in line
    assert "%40" in line


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ann:hunter2@far:6379", "redis://"),
        ("http://:hunter2@far:6379", "redis://"),
        ("rediss://:hunter2@far:port/0", "port"),
        ("rediss://:hunter2@:6379/0", "host"),
        ("rediss://:hunter2@far:6379/first", "database"),
        ("rediss://:hunter2@far:6379/-1", "database"),
        ("redis://far:6379?ssl_ca_certs=ca.pem", "rediss://"),
        ("rediss://:hunter2@far:6379/0?sll_ca_certs=ca.pem", "sll_ca_certs"),
    ],
)
def test_a_redis_address_that_is_none(monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    line = refused(monkeypatch, REDIS=url)
    assert "DRIFTLOOP_REDIS" in line
    assert said in line


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"REDIS": "redis://redis:6379/0", "KAFKA": "kafka:9092,other:9092"},
        {"REDIS": "rediss://ann:p%2Fq%40r@far:6379/3?ssl_ca_certs=ca.pem"},
        {"REDIS": "redis://:pw@127.0.0.1:6379"},
        {"REDIS": "rediss://ann:p@q@far:6379"},
        {"REDIS": "unix:///run/valkey.sock?db=0"},
        {"KAFKA": "[::1]:9092", "TRITON": "triton:8001, other:8001"},
        SASL | {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA": "localhost:9092"},
        SASL | {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_CAFILE": CA, "KAFKA": "far:1"},
        {"TRITON_TLS": "true", "TRITON_CAFILE": CA},
        {"TEST_STACK": "containers"},
    ],
)
def test_right_ones_pass(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"DRIFTLOOP_{name}", value)
    assert isinstance(load_settings(), Settings)


def test_secrets_of_a_wrong_type_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused(monkeypatch, PARTITIONS="many", KAFKA_PASSWORD="hunter2")
    assert "DRIFTLOOP_PARTITIONS='many'" in line


@pytest.mark.parametrize(
    ("url", "shown", "address"),
    [
        ("redis://far:6379/0", "redis://far:6379/0", "far:6379"),
        ("rediss://ann:hunter2@far:6379/0?db=1", "rediss://***@far:6379", "far:6379"),
        ("redis://:hunter2/x@far:6379", "redis://***@an address", "an address that cannot be read"),
        ("redis://:hunter2[@far", "redis://***@", "an address that cannot be read"),
        ("hunter2@far:6379", "***@", "an address that cannot be read"),
        ("unix:///run/valkey.sock", "unix:///run/valkey.sock", "/run/valkey.sock"),
        ("", "", "an empty address"),
    ],
)
def test_what_is_printed_of_a_redis_url(url: str, shown: str, address: str) -> None:
    assert public(url) == address
    assert shown in masked(url)
    assert "hunter2" not in masked(url)
