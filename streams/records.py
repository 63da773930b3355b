"""The records on a pipeline's topics, as msgspec structs: what producers and consumers see.

All are JSON. Times are seconds since 1970 (UTC). Decoders are strict about types and ignore
fields that they do not know.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from streams.distributions import Reference

ARMS = CHAMPION, CANARY, HOLDOUT = "champion", "canary", "holdout"
"""Who is served by the champion, by the version on its way, and by the one before it."""
WHOLE = 1.0
"""The propensity where all are in one arm; left out of a record as this object, not as any 1.0."""


class Prediction(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """`P.predictions`: one per event, keyed as the event was."""

    event_id: str
    event_time: float
    score: float | list[float]
    """The probability of class 1, or one probability per class; of a value its point, or the point
    and then its quantiles; of a ranking the score of each of `items`."""
    decision: str
    """The class that was decided for; empty of a value and of a ranking."""
    version: int
    """Model version; 0 for the fallback."""
    degraded: bool
    """Whether the fallback answered instead of a model."""
    id: str
    """`<topic>-<partition>-<offset>` of the event, with six digits of the topic's id: equal in each
    delivery of this prediction, and of no other. Brokers older than Kafka 2.8 give no topic."""
    arm: str = CHAMPION
    """`champion`, `canary` or `holdout`; the champion answers for an arm whose version does not."""
    propensity: float = WHOLE
    """The share of the entities that are in this arm."""
    items: list[str] = []
    """Of a ranking: the candidates' ids, as they are to be shown, the first first."""
    propensities: list[float] = []
    """Of each of `items` the probability that it is at its place: below 1 where some requests are
    shown in random order."""


class Shown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a ranking shows; nothing of other tasks."""

    items: list[str] = []
    """The candidates' ids in the request's order, which is also that of `score`."""
    positions: list[int] = []
    """Of each of `items` the place at which it is shown, from 0 on."""
    propensities: list[float] = []
    """Of each of `items` the probability that it is at that place."""


class Scored(Shown, frozen=True, gc=False, omit_defaults=True):
    """`P.scored`: what the model saw and said."""

    event_id: str
    event_time: float
    entities: dict[str, str] | list[str]
    """Names of the entities that take the event's label, by key field. A list, in the order of the
    pipeline's plan, in older records."""
    vector: bytes
    """Little-endian float32, one per feature; base64 in JSON."""
    score: float | list[float]
    version: int
    written: float | None = None
    """When the event was written to its topic, seconds since 1970, where its own time is later."""
    schema: str = ""
    """Names what the vector means (`Pipeline.schema_hash`); empty in older records."""
    decision: int = 0
    """The class that was decided for, by index; left out for class 0."""
    arm: str = CHAMPION
    """As in `Prediction`."""
    propensity: float = WHOLE
    """As in `Prediction`."""


class FeedbackRecord(msgspec.Struct, frozen=True):
    """`P.feedback`: a label for an event, keyed as the event was."""

    event_id: str | int
    label: float | bool | str
    """A class by its index or its name, `true` for class 1; or a number, where the pipeline's
    feedback has no classes."""
    labelled_at: str | float
    """When the label was known: ISO 8601, or a number as an event's time may be."""
    item: str | int | None = None
    """Of a ranking: the candidate whose label it is."""


class Example(Shown, frozen=True, omit_defaults=True):
    """`P.examples`: a served vector with its label. A later one for the same event replaces it."""

    event_id: str
    event_time: float
    vector: bytes
    """As in `Scored`."""
    score: float | list[float]
    version: int
    """The version that scored it."""
    label: float
    """Of a ranking the largest of `labels`."""
    labelled_at: float
    origin: str
    """`feedback`, `horizon` (no label came in time) or `correction`."""
    key: str
    """The event's key."""
    schema: str = ""
    """As in `Scored`."""
    decision: int = 0
    """As in `Scored`."""
    previous: float | None = None
    """The label of the example that this one replaces; None where it is the event's first."""
    arm: str = CHAMPION
    """As in `Prediction`."""
    propensity: float = WHOLE
    """As in `Prediction`."""
    labels: list[float] = []
    """Of a ranking the label of each of `items`."""
    previous_labels: list[float] = []
    """And those that they replace."""


class Shadowed(msgspec.Struct, frozen=True, omit_defaults=True):
    """`P.shadow`: what champion and challenger say of one served vector, keyed as the event was.

    One record for what was served, without a label, and one for each of its examples, with it.
    """

    event_id: str
    event_time: float
    champion: int
    """The version that the challenger is compared with."""
    champion_score: float | list[float]
    challenger: int
    challenger_score: float | list[float] | None
    """None where it gave no finite score."""
    since: float
    """Event time at which the roll-out's stage began, seconds since 1970: it names the stage."""
    served: int
    """The version whose score was served; 0 for the fallback."""
    key: str
    entities: dict[str, str] | list[str] = {}
    """As in `Scored`; of an example none."""
    slices: list[str] = []
    """Those of the declared slices that the event is in."""
    label: float | None = None
    """Of an example, as its `labelled_at` and `origin`."""
    labelled_at: float | None = None
    origin: str | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What a model version came from; stored beside it and in the ledger."""

    pipeline: str
    version: int
    parent: int
    """The champion it was compared with; 0 for none."""
    offsets: dict[str, list[int]]
    """`<topic>-<partition>` -> [first, next) offsets of the examples that were read."""
    label_watermark: float
    """Event time up to which labels were mature."""
    slices: dict[str, list[float]]
    """`train`, `validate`, `evaluate` -> [from, to) event time."""
    counts: dict[str, list[int]]
    """Slice -> [examples, positives]."""
    schema_hash: str
    """Names what the rows mean that it was made from (`Pipeline.schema_hash`)."""
    feature_names: list[str]
    seed: int
    parameters: dict[str, float | int | str]
    code: str
    """Version of Driftloop, and a hash of the pipeline module's source."""
    environment: dict[str, str]
    """Versions of python, onnx, numpy and of what it learned by; device, threads."""
    normalisation: dict[str, list[float]]
    """`mean` and `scale` by column, as fitted on the training slice."""
    threshold: float
    """Chosen on the validation slice."""
    metrics: dict[str, float]
    model_sha256: str
    created_at: float
    reference: Reference | None = None
    """How features and scores were distributed; None in older manifests, and of an ONNX file that
    the pipeline brings."""
    cause: str = ""
    """The drift that it was made for; empty where it was made because its time had come."""
    columns: dict[str, str] = {}
    """What each of its features means, by name, in the order in which it takes them
    (`Pipeline.column_meanings`); empty in older manifests, as `inputs`."""
    inputs: dict[str, str] = {}
    """What each of its inputs means, by name."""
    row: dict[str, str] = {}
    """As `columns`, of all features of the rows that it was made from, which `schema_hash` names;
    empty where they are its own."""
    policies: dict[str, str] = {}
    """What the pipeline's policies were, by name."""
    model: str = ""
    """Its model in Triton; empty for the pipeline's first, which has the pipeline's name."""


class Action(StrEnum):
    """What was done about a version.

    Only `promote` and `rollback` change the champion. Workers that are older than another action
    pass over its entries, and go on serving the champion.
    """

    PROMOTE = "promote"
    REJECT = "reject"
    """The gate's verdict, or the end of a roll-out: the version serves nobody any more."""
    INCONCLUSIVE = "inconclusive"
    ROLLBACK = "rollback"
    """The version, an earlier champion, is champion again."""
    CANDIDATE = "candidate"
    """The gate let the version through; its roll-out begins when no other is on its way."""
    SHADOW = "shadow"
    """The version scores live events, and nobody is served its scores."""
    CANARY = "canary"
    """The version serves `share` of the entities."""
    FREEZE = "freeze"
    """Roll-outs go no further; a version can still be taken back."""
    THAW = "thaw"
    """Roll-outs go on."""
    SETTLE = "settle"
    """The new champion has been watched for long enough, and holds."""


class LedgerEntry(msgspec.Struct, frozen=True):
    """`P.models`: one action on a version. The last promotion or roll-back names the champion."""

    action: Action
    version: int
    previous: int
    """Champion before this action; 0 for none."""
    at: float
    reason: str
    by: str
    """`gate`, `operator` or `rollout`."""
    threshold: float
    manifest: Manifest | None = None
    who: str = ""
    """Of an operator's action: user and host."""
    share: float = 0.0
    """Of the entities that the version serves from now on; of a canary and a watched promotion."""
    evidence: dict[str, float] = {}
    """The numbers that it was decided on, by name."""
    event_time: float = 0.0
    """How far event time was when it was decided; 0 where that played no part."""
    decided_on: int | None = None
    """`LedgerState.length` when it was decided: on a ledger that has grown since, it counts for
    nothing. None of an entry that counts in any case, as an operator's does."""


encode = msgspec.json.Encoder().encode


def decoder(record: type[Any]) -> msgspec.json.Decoder[Any]:
    """A reusable decoder for one record type."""
    return msgspec.json.Decoder(record)
