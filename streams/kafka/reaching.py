"""Reaches Kafka once, step by step, and says which step failed.

aiokafka's clients say only that they cannot bootstrap; why, they leave to their log.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from aiokafka import conn
from aiokafka.errors import (
    AuthenticationFailedError,
    BrokerResponseError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from streams.errors import ConfigurationError, NotAnswering, Unavailable
from streams.settings import Settings

_SECONDS = 2.0
"""For each step; a server that is there takes milliseconds."""
_BROKERS = 8
"""So many of those that are advertised are tried, at most."""
_GRANTS: dict[type[BrokerResponseError], str] = {
    TopicAuthorizationFailedError: "DESCRIBE, READ and WRITE on the pipeline's topics, and CREATE",
    GroupAuthorizationFailedError: "READ and DESCRIBE on the groups `driftloop.*`",
    TransactionalIdAuthorizationFailed: "WRITE and DESCRIBE on transactional ids `driftloop.*`",
    ClusterAuthorizationFailedError: "IDEMPOTENT_WRITE and CREATE on the cluster",
}

Address = tuple[str, int]


def not_allowed(settings: Settings, error: BaseException) -> ConfigurationError | None:
    """What to raise where the brokers refuse a request; None for another error."""
    for kind, grant in _GRANTS.items():
        if isinstance(error, kind):
            user = settings.kafka_username or "this client"
            what = " ".join(str(one) for one in error.args) or kind.__name__
            return ConfigurationError(
                f"Kafka at {settings.kafka} does not allow this to {user} ({what}) - grant {grant}"
            )
    return None


async def reach(settings: Settings, options: dict[str, Any]) -> None:
    """Return when a broker answers, and one of those that it names can be reached.

    `options` are those of an aiokafka client.

    Raises:
        Unavailable: nobody listens at any of the addresses.
        NotAnswering: somebody does, and does not serve us; says what to look at.
        ConfigurationError: our credentials or certificates, or the broker's, are refused.
    """
    errors: list[Exception] = []
    for host, port, _ in conn.collect_hosts(settings.kafka, randomize=False):
        try:
            advertised = await _ask(settings, options, (host, port))
            await _reach_one_of(settings, (host, port), advertised)
            return
        except (Unavailable, ConfigurationError) as error:
            errors.append(error)
    raise max(errors, key=_tells)


def _tells(error: Exception) -> int:
    """Of several brokers, one that answers tells more than one that does not."""
    return 2 if isinstance(error, ConfigurationError) else int(isinstance(error, NotAnswering))


async def _ask(settings: Settings, options: dict[str, Any], at: Address) -> list[Address]:
    """The brokers that the one at this address names."""
    await _connect(settings, at)
    with _explained(settings, at):
        async with asyncio.timeout(_SECONDS):
            chosen = {name: value for name, value in options.items() if name != "bootstrap_servers"}
            connection = await conn.create_conn(*at, **chosen, request_timeout_ms=_SECONDS * 1000)
            try:
                answer = await connection.send(MetadataRequest([]))
            finally:
                connection.close()
    return [(host, port) for _, host, port, *_ in answer.brokers]


async def _connect(settings: Settings, at: Address) -> None:
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(*at)
    except socket.gaierror:
        raise _away(settings, at, f"no such host: {at[0]}") from None
    except ConnectionRefusedError:
        raise _away(settings, at, "nobody listens there") from None
    except TimeoutError:
        raise NotAnswering(
            f"no answer from Kafka at {_text(at)} in {_SECONDS:g} s - see that the host is right "
            "and that no firewall is between, or set DRIFTLOOP_KAFKA"
        ) from None
    except OSError as error:
        raise _away(settings, at, error.strerror or error) from None
    writer.close()


async def _reach_one_of(settings: Settings, at: Address, advertised: Sequence[Address]) -> None:
    """Raises `NotAnswering` where none of the brokers that are named can be connected to."""
    others = [one for one in advertised if one != at][:_BROKERS]
    if len(others) < min(len(advertised), _BROKERS) or not others:
        return
    found = await asyncio.gather(*(_connect(settings, o) for o in others), return_exceptions=True)
    if all(isinstance(one, Unavailable) for one in found):
        raise NotAnswering(
            f"Kafka at {_text(at)} answers, and sends clients on to "
            f"{', '.join(map(_text, others))}, which cannot be reached from here - set the "
            "broker's advertised.listeners to an address that can, or DRIFTLOOP_KAFKA to another "
            "listener"
        )


@contextmanager
def _explained(settings: Settings, at: Address) -> Iterator[None]:
    """Turns what a connection raises, once somebody has taken it, into one line."""
    try:
        yield
    except ssl.SSLError as error:
        _raise_tls(settings, at, error)
    except (SaslAuthenticationFailed, AuthenticationFailedError, ValueError):
        raise ConfigurationError(
            f"Kafka at {_text(at)} does not accept user {settings.kafka_username!r} with this "
            f"password ({settings.kafka_sasl_mechanism}) - check DRIFTLOOP_KAFKA_USERNAME and "
            "DRIFTLOOP_KAFKA_PASSWORD"
        ) from None
    except UnsupportedSaslMechanismError:
        raise ConfigurationError(
            f"Kafka at {_text(at)} does not take {settings.kafka_sasl_mechanism} - set "
            "DRIFTLOOP_KAFKA_SASL_MECHANISM to one of its sasl.enabled.mechanisms"
        ) from None
    except IllegalSaslStateError:
        raise ConfigurationError(
            f"Kafka at {_text(at)} asks for no user there - set DRIFTLOOP_KAFKA to its SASL "
            "listener, or DRIFTLOOP_KAFKA_SECURITY_PROTOCOL without SASL"
        ) from None
    except (KafkaError, OSError, AssertionError) as error:
        if refused := not_allowed(settings, error):
            raise refused from None
        protocol = settings.kafka_security_protocol
        if "SSL" in protocol and isinstance(error, KafkaConnectionError):
            raise NotAnswering(
                f"Kafka at {_text(at)} hangs up after the TLS handshake - it may ask for a client "
                "certificate: set DRIFTLOOP_KAFKA_CERTFILE and DRIFTLOOP_KAFKA_KEYFILE to one that "
                "it accepts"
            ) from None
        raise NotAnswering(
            f"somebody listens at {_text(at)} and does not answer as Kafka with {protocol} - see "
            "that the port is Kafka's, and that DRIFTLOOP_KAFKA_SECURITY_PROTOCOL is its listener's"
        ) from None


def _raise_tls(settings: Settings, at: Address, error: ssl.SSLError) -> NoReturn:
    if isinstance(error, ssl.SSLCertVerificationError):
        mend = (
            "give the host name that it is for in DRIFTLOOP_KAFKA"
            if "mismatch" in error.verify_message
            else "set DRIFTLOOP_KAFKA_CAFILE to the CA that signed it"
        )
        raise ConfigurationError(
            f"the certificate of Kafka at {_text(at)} is not accepted ({error.verify_message}) - "
            f"{mend}"
        ) from None
    if "ALERT" in (error.reason or ""):
        raise ConfigurationError(
            f"Kafka at {_text(at)} does not accept our certificate ({error.reason}) - set "
            "DRIFTLOOP_KAFKA_CERTFILE and DRIFTLOOP_KAFKA_KEYFILE to one that it knows"
        ) from None
    raise ConfigurationError(
        f"Kafka at {_text(at)} speaks no TLS there ({error.reason}) - set DRIFTLOOP_KAFKA to its "
        f"TLS listener, or DRIFTLOOP_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} to "
        "another"
    ) from None


def _away(settings: Settings, at: Address, reason: object) -> Unavailable:
    listed = settings.kafka if "," in settings.kafka else _text(at)
    return Unavailable("Kafka", listed, "DRIFTLOOP_KAFKA", reason)


def _text(at: Address) -> str:
    return f"[{at[0]}]:{at[1]}" if ":" in at[0] else f"{at[0]}:{at[1]}"
