"""Why Kafka does not serve us is one line for each cause, and takes seconds at most."""

from __future__ import annotations

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from streams.errors import ConfigurationError, Unavailable
from streams.kafka.connection import unavailable
from streams.settings import Settings

SETTINGS = Settings(kafka="far:9092", kafka_username="ann")


@pytest.mark.parametrize(
    ("error", "grant"),
    [
        (TopicAuthorizationFailedError("orders.events"), "DESCRIBE, READ and WRITE"),
        (GroupAuthorizationFailedError("driftloop.orders.score"), "READ and DESCRIBE on the group"),
        (TransactionalIdAuthorizationFailed("driftloop.x"), "WRITE and DESCRIBE on transactional"),
    ],
)
def test_what_is_not_allowed_is_no_server_that_is_away(error: Exception, grant: str) -> None:
    with pytest.raises(ConfigurationError) as caught, unavailable(SETTINGS):
        raise error
    said = str(caught.value)
    assert "\n" not in said
    assert "does not allow this to ann" in said
    assert str(error.args[0]) in said
    assert grant in said


def test_a_broker_that_is_away_still_is() -> None:
    with pytest.raises(Unavailable, match="cannot reach Kafka at far:9092"), unavailable(SETTINGS):
        raise KafkaConnectionError("gone")
