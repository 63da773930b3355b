"""How long a pipeline's topics keep their records: what the pipeline needs, and what they do.

A topic's retention goes by the time at which a record was written; what a pipeline needs goes by
event time. The two run alike on a live stream.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import NamedTuple

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.durations import text

log = structlog.get_logger(__name__)

_DAY = 86_400
_WEEK = 7 * _DAY


class Kept(NamedTuple):
    """What a topic must keep."""

    seconds: int | None
    """For so long; None: for ever."""
    last: bool = False
    """The last record of each key is enough."""

    def as_config(self) -> dict[str, str]:
        """The configuration of a topic that keeps this."""
        kept = "-1" if self.seconds is None else str(self.seconds * 1000)
        config = {"retention.ms": kept, "retention.bytes": "-1"}
        return config | {"cleanup.policy": "compact"} if self.last else config


def needed(pipeline: Pipeline) -> dict[str, Kept]:
    """What each of the pipeline's topics must keep.

    - Events, for as long as a window counts them: feature state that is lost is folded again.
    - What was served and what was fed back, for as long as they may meet, and then be counted in
      label windows: a label store, too, is rebuilt from the topics.
    - Examples, for as long as a candidate may be trained on them; what champion and challenger say
      of them, for as long.

    A week at least, and a day (or a tenth) more than that. The ledger is kept for ever, and of the
    metrics, the distributions and the costs the last record of each key.
    """
    topics, feedback, retrain = pipeline.topics, pipeline.feedback, pipeline.policies.retrain
    kept = max((plan.kept for plan in pipeline.plan.keys), default=0)
    labelled = max((plan.kept for plan in pipeline.plan.keys if plan.labels), default=0)
    trained = retrain.window_seconds + retrain.every_seconds + feedback.horizon_seconds
    seconds = {
        topics.events: kept,
        topics.feedback: feedback.keep_seconds + labelled,
        topics.scored: feedback.keep_seconds + labelled,
        topics.examples: trained,
        topics.shadow: trained,
        topics.predictions: _WEEK,
        topics.dead_letters: 30 * _DAY,
    }
    last = Kept(None, last=True)
    found = {topics.models: Kept(None)}
    found |= dict.fromkeys((topics.metrics, topics.drift, topics.costs), last)
    return found | {name: Kept(_with_margin(max(_WEEK, least))) for name, least in seconds.items()}


async def check(
    settings: Settings,
    admin: AIOKafkaAdminClient,
    wanted: Mapping[str, Kept],
) -> list[str]:
    """A line for each topic that keeps too little, with the command that mends it.

    Brokers that do not let us look are passed over.
    """
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
    try:
        answers = await admin.describe_configs(asked)
    except KafkaError as error:
        log.info("cannot see what topics keep", error=repr(error))
        return []
    found: dict[str, dict[str, str]] = {}
    for answer in answers:
        for code, _, _, name, entries, *_ in answer.resources:
            if not code:
                found[name] = {entry[0]: entry[1] for entry in entries}
    return [
        line
        for name, kept in wanted.items()
        if name in found and (line := _complaint(settings, name, kept, found[name]))
    ]


def _complaint(settings: Settings, topic: str, needs: Kept, config: Mapping[str, str]) -> str:
    """What is wrong with a topic's configuration; empty where nothing is."""
    wrong = {}
    said = []
    kept, policy = int(config.get("retention.ms", -1)), config.get("cleanup.policy", "")
    seconds = needs.seconds
    deletes = not needs.last or "delete" in policy
    if deletes and kept >= 0 and (seconds is None or kept < seconds * 1000):
        wrong["retention.ms"] = needs.as_config()["retention.ms"]
        least = "for ever" if seconds is None else text(seconds)
        said.append(f"keeps records for {text(max(1, kept // 1000))}, and needs to {least}")
    if int(config.get("retention.bytes", -1)) >= 0:
        wrong["retention.bytes"] = "-1"
        said.append(f"drops records above {int(config['retention.bytes']):,} bytes")
    if "compact" in policy and not needs.last:
        wrong["cleanup.policy"] = "delete"
        said.append("drops all but the last record of a key")
    if not wrong:
        return ""
    command = [
        *("kafka-configs.sh", "--bootstrap-server", settings.kafka, "--alter"),
        *("--entity-type", "topics", "--entity-name", topic),
        *("--add-config", ",".join(f"{name}={value}" for name, value in wrong.items())),
    ]
    return f"topic {topic} {', '.join(said)} - mend it: {shlex.join(command)}"


def _with_margin(seconds: int) -> int:
    return seconds + max(_DAY, seconds // 10)
