"""Topics keep what the pipeline needs, and a line with a command says where they do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import TopicAuthorizationFailedError

from streams.kafka.retention import Kept, check, needed
from streams.pipelines.card_fraud import pipeline as card_fraud
from streams.settings import Settings
from streams.spec import Policies, Retrain
from tests.unit.pipelines import declare

DAY = 86_400


def test_each_topic_is_kept_for_as_long_as_it_is_read() -> None:
    found = needed(card_fraud)
    topics = card_fraud.topics
    days = {name: kept.seconds and kept.seconds // DAY for name, kept in found.items()}
    # windows of 30 days that begin 7 days ago, a day of lag, a tenth more
    assert days[topics.events] == int(38 * 1.1)
    assert days[topics.models] is None
    feedback = card_fraud.feedback
    assert found[topics.feedback] == found[topics.scored]
    assert (found[topics.scored].seconds or 0) > feedback.keep_seconds + 38 * DAY
    retrain = card_fraud.policies.retrain
    least = retrain.window_seconds + retrain.every_seconds + feedback.horizon_seconds
    assert (found[topics.examples].seconds or 0) >= least + DAY
    assert found[topics.metrics] == found[topics.costs] == Kept(None, last=True)
    assert set(found) == {*topics.partitioned, *topics.single}


def test_a_week_is_kept_at_least() -> None:
    retrain = Retrain(every="1h", window="4h", validate="1h", evaluate="1h")
    found = needed(declare(policies=Policies(retrain=retrain)))
    assert min(kept.seconds for kept in found.values() if kept.seconds) == 8 * DAY


class Admin:
    """Answers with configurations, as brokers do."""

    def __init__(self, **configs: Any) -> None:
        self.configs = configs

    async def describe_configs(self, asked: Any) -> Any:
        if not self.configs:
            raise TopicAuthorizationFailedError
        found = [
            (0, None, 2, name, [(k, v) for k, v in config.items()])
            for name, config in self.configs.items()
        ]
        return [SimpleNamespace(resources=[*found, (3, "unknown", 2, "gone", [])])]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}, ""),
        ({"retention.ms": str(2 * DAY * 1000)}, ""),
        ({"retention.ms": str(DAY * 1000)}, "keeps records for 1d, and needs to 2d"),
        ({"retention.bytes": "1000000"}, "drops records above 1,000,000 bytes"),
        ({"cleanup.policy": "compact,delete"}, "drops all but the last record of a key"),
    ],
)
async def test_a_topic_that_keeps_too_little_is_said_with_the_command(
    config: dict[str, str], said: str
) -> None:
    admin: Any = Admin(t=config)
    lines = await check(Settings(kafka="here:1"), admin, {"t": Kept(2 * DAY), "gone": Kept(DAY)})
    assert len(lines) == bool(said)
    for line in lines:
        assert said in line
        assert "kafka-configs.sh --bootstrap-server here:1 --alter" in line
        assert "--entity-name t --add-config" in line
        assert "\n" not in line


async def test_brokers_that_do_not_let_us_look_are_no_error() -> None:
    admin: Any = Admin()
    assert await check(Settings(kafka="here:1"), admin, {"t": Kept(DAY)}) == []


def test_for_ever_is_minus_one() -> None:
    assert Kept(None).as_config() == {"retention.ms": "-1", "retention.bytes": "-1"}
    assert Kept(60).as_config()["retention.ms"] == "60000"


async def test_a_compacted_topic_keeps_the_last_record_of_each_key() -> None:
    cells = Kept(None, last=True)
    assert cells.as_config()["cleanup.policy"] == "compact"
    for policy, lines in (("compact", 0), ("compact,delete", 1), ("delete", 1)):
        admin: Any = Admin(t={"cleanup.policy": policy, "retention.ms": str(DAY * 1000)})
        assert len(await check(Settings(kafka="here:1"), admin, {"t": cells})) == lines
