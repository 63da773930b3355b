"""Metric names, log fields and their set-up, in one place."""

from __future__ import annotations

import logging
import math
import sys
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram, start_http_server

from streams.errors import ConfigurationError
from streams.settings import Settings

EVENTS = Counter("driftloop_events", "Records read.", ["pipeline", "partition"])
PREDICTIONS = Counter("driftloop_predictions", "Predictions made.", ["pipeline", "version"])
DEAD_LETTERS = Counter("driftloop_dead_letters", "Bad records set aside.", ["pipeline", "cause"])
DEGRADED = Counter("driftloop_degraded", "Events served the fallback.", ["pipeline"])
TRITON_CIRCUIT = Gauge(
    "driftloop_triton_circuit",
    "Circuit breaker: 0 closed, 0.5 probing, 1 open.",
    ["pipeline", "endpoint"],
)
INVALID_RATIO = Gauge(
    "driftloop_invalid_ratio", "Share of bad records lately.", ["pipeline", "topic", "partition"]
)
DUPLICATES = Counter("driftloop_duplicates", "Events seen before and dropped.", ["pipeline"])
LABELS = Counter("driftloop_labels", "Labels by what became of them.", ["pipeline", "outcome"])
EXAMPLES = Counter("driftloop_examples", "Examples written.", ["pipeline"])
SHADOWED = Counter(
    "driftloop_shadowed",
    "Served events and examples by what the shadow made of them.",
    ["pipeline", "outcome"],
)
CHALLENGER_VERSION = Gauge(
    "driftloop_challenger_version", "Challenger's version; 0 for none.", ["pipeline"]
)
ANSWERED_FOR = Counter(
    "driftloop_answered_for",
    "Events that the champion answered for the version of their arm.",
    ["pipeline", "arm"],
)
ROLLOUT_SHARE = Gauge(
    "driftloop_rollout_share", "Share of entities that the version on its way serves.", ["pipeline"]
)
ROLLOUT_FROZEN = Gauge(
    "driftloop_rollout_frozen", "1 while roll-outs go no further, else 0.", ["pipeline"]
)
ROLLOUT_LABELLED = Gauge(
    "driftloop_rollout_labelled",
    "Labelled events on which the version on its way was compared in this stage.",
    ["pipeline"],
)
ROLLOUT_LOSS = Gauge(
    "driftloop_rollout_loss",
    "Ends (low, high) of the interval for its mean loss minus the champion's.",
    ["pipeline", "end"],
)
LIVE_QUALITY = Gauge(
    "driftloop_live_quality",
    "By the labels of the last complete buckets, of this worker's partitions: average_precision, "
    "roc_auc, precision, recall, bias (mean score over the share of class 1); "
    "of a ranking ndcg, mrr, hit_rate; of a value mae, wape "
    "and of each quantile q below_q (the share of labels that are not above it).",
    ["pipeline", "version", "measure"],
)
LIVE_EVENTS = Gauge(
    "driftloop_live_events",
    "Labelled events that driftloop_live_quality is of.",
    ["pipeline", "version"],
)
TRIMMED = Counter(
    "driftloop_trimmed",
    "Records that retention deleted before they were read.",
    ["pipeline", "topic"],
)
HOT_EVENTS = Counter(
    "driftloop_hot_events",
    "Events of entities that have more events than are kept.",
    ["pipeline", "key"],
)
RETRIES = Counter(
    "driftloop_retries", "Attempts repeated because a server was away.", ["pipeline", "stage"]
)
BATCH_RECORDS = Histogram(
    "driftloop_batch_records",
    "Records in a micro-batch.",
    ["pipeline"],
    buckets=(1, 4, 16, 64, 256, 512, 1024, 2048, 4096),
)
BUSY_SECONDS = Counter(
    "driftloop_busy_seconds",
    "Seconds in which the worker had a micro-batch or a commit in hand.",
    ["pipeline"],
)
STAGE_SECONDS = Histogram(
    "driftloop_stage_seconds",
    "Seconds a micro-batch spends in a stage: decode, fold, infer, produce, commit, join, shadow, "
    "evaluate, drift.",
    ["pipeline", "stage"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)
LAG = Gauge(
    "driftloop_lag_records", "Records behind the log's end.", ["pipeline", "topic", "partition"]
)
LAG_SECONDS = Gauge(
    "driftloop_lag_seconds",
    "Age of the next record to work on; 0 at the log's end.",
    ["pipeline", "topic", "partition"],
)
OLDEST_SECONDS = Gauge(
    "driftloop_oldest_seconds",
    "Time since the oldest record was fetched that is not committed.",
    ["pipeline"],
)
STANDBY_LAG = Gauge(
    "driftloop_standby_lag_records",
    "Committed records that this worker's copy of another's label store lacks.",
    ["pipeline", "partition"],
)
TRITON_QUEUE_SECONDS = Gauge(
    "driftloop_triton_queue_seconds",
    "Mean time that a request waited in Triton lately.",
    ["pipeline", "endpoint", "version"],
)
TRITON_COMPUTE_SECONDS = Gauge(
    "driftloop_triton_compute_seconds",
    "Mean time that Triton worked on a request lately.",
    ["pipeline", "endpoint", "version"],
)
TRITON_IN_FLIGHT = Gauge(
    "driftloop_triton_in_flight",
    "Mean number of requests in Triton lately, those that waited included.",
    ["pipeline", "endpoint", "version"],
)
TRITON_USE = Gauge(
    "driftloop_triton_use",
    "Share of the version's instances in Triton that worked lately.",
    ["pipeline", "endpoint", "version"],
)
REDIS_USE = Gauge(
    "driftloop_redis_use", "Share of a core that Redis's main thread, of the busiest node, used."
)
REDIS_MEMORY = Gauge("driftloop_redis_memory_bytes", "Memory that Redis uses, over its nodes.")
REDIS_MAX_MEMORY = Gauge(
    "driftloop_redis_max_memory_bytes", "Memory that Redis may use, over its nodes; 0: no limit."
)
REDIS_CALL_SECONDS = Gauge(
    "driftloop_redis_call_seconds", "Mean time of a function call in Redis lately."
)
REDIS_SLOW_CALL_SECONDS = Gauge(
    "driftloop_redis_slow_call_seconds",
    "Time that 99 of 100 function calls took at most, since Redis started.",
)
REDIS_EVICTED = Gauge(
    "driftloop_redis_evicted_keys", "Keys that Redis has dropped since it started, for memory."
)
WANTED_WORKERS = Gauge(
    "driftloop_wanted_workers",
    "Workers of a role that the load asks for.",
    ["pipeline", "role"],
)
LATE_EVENTS = Counter(
    "driftloop_late_events",
    "Served events that came too late to be counted in their bucket.",
    ["pipeline"],
)
DRIFT_RATIO = Gauge(
    "driftloop_drift_ratio",
    "The champion's largest shift in its latest bucket, over the level of an alarm.",
    ["pipeline"],
)
DRIFT_INDEX = Gauge(
    "driftloop_drift_stability_index",
    "Of each feature and score, the population stability index in the latest bucket.",
    ["pipeline", "column"],
)
DRIFT_ALARMS = Gauge(
    "driftloop_drift_alarms",
    "Features and scores that drifted in the champion's latest bucket.",
    ["pipeline"],
)
SERVING_VERSION = Gauge("driftloop_serving_version", "Champion's version.", ["pipeline"])
EVENT_TIME = Gauge("driftloop_event_time_seconds", "Largest event time scored.", ["pipeline"])
COST = Counter(
    "driftloop_cost",
    "What this process, and the training runs that it started, have cost, in the currency of the "
    "settings; 0 without prices.",
    ["pipeline", "role"],
)
COST_PER_MILLION = Gauge(
    "driftloop_cost_per_million",
    "Cost of serving a million predictions, over the last day.",
    ["pipeline"],
)
RETRAIN_SPENT = Gauge(
    "driftloop_retrain_spent", "What training runs have cost in the last 24 hours.", ["pipeline"]
)
RETRAIN_PUT_OFF = Gauge(
    "driftloop_retrain_put_off",
    "1 while a retrain that is due is over budget, else 0.",
    ["pipeline"],
)
TRAINING_RUNS = Counter(
    "driftloop_training_runs", "Candidates by the gate's decision.", ["pipeline", "decision"]
)
TRAINING_SECONDS = Histogram(
    "driftloop_training_seconds",
    "Seconds to train a candidate.",
    ["pipeline"],
    buckets=(1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600),
)

_LIBRARIES = ("streams", "workers", "faust", "mode", "aiokafka")


def serve_metrics(settings: Settings) -> int:
    """Serve Prometheus metrics; returns the port, which is a free one where none is set.

    Raises:
        ConfigurationError: the port is in use, or the address is none of this machine.
    """
    try:
        server, _ = start_http_server(settings.metrics_port, settings.metrics_host)
    except OSError as error:
        at = f"{settings.metrics_host}:{settings.metrics_port}"
        raise ConfigurationError(
            f"metrics cannot be served at {at} ({error.strerror or error}) - end what listens "
            "there, or set DRIFTLOOP_METRICS_PORT (0 takes a free one) and DRIFTLOOP_METRICS_HOST"
        ) from None
    return int(server.server_port)


class Seldom(logging.Filter):
    """Lets a library log the same message only once in a number of seconds.

    aiokafka has a line for each attempt to connect: an outage would bring hundreds a second.
    """

    def __init__(self, name: str, seconds: float = 5.0) -> None:
        super().__init__(name)
        self._seconds = seconds
        self._said: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is let through; those of other libraries always are."""
        if not super().filter(record):
            return True
        what = (record.name, record.msg)
        # the clock may have been put back
        if abs(record.created - self._said.get(what, -math.inf)) < self._seconds:
            return False
        self._said[what] = record.created
        return True


def configure_logging(settings: Settings, **context: Any) -> None:
    """Structured lines on standard error for our logs and the libraries'; `context` is on each."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    console = settings.log_format == "console" or (
        settings.log_format == "auto" and sys.stderr.isatty()
    )
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler()
    handler.addFilter(Seldom("aiokafka"))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers, library.propagate = [], True
        library.setLevel(settings.log_level if name in ("streams", "workers") else "WARNING")
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**context)
