"""One root for every error Driftloop raises on purpose.

A subclass says what the caller should do: stop (`ConfigurationError`), retry (`Unavailable`),
or dead-letter (`BadRecord`). The message is one line: what is wrong, and how to fix it.
"""

from __future__ import annotations

_LONGEST = 300
"""Characters that an error shows of what an author wrote."""


class DriftloopError(Exception):
    """The root of all our errors."""


class ConfigurationError(DriftloopError):
    """The user asked for something that cannot work: a setting, a file, an argument."""


class PipelineError(ConfigurationError):
    """A pipeline declaration is wrong; the message names the field and the fix."""

    def __init__(self, field: str, problem: str, fix: str) -> None:
        super().__init__(f"{_line(field)}: {_line(problem)} - {fix}")
        self.field = field


def _line(text: str) -> str:
    """What an author wrote, in one line that can be read: a value may be an array, or a module."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


class Unavailable(DriftloopError):
    """A server does not answer; retrying later may help."""

    def __init__(self, what: str, address: str, setting: str, reason: object = "") -> None:
        detail = f" ({reason})" if str(reason) else ""
        super().__init__(
            f"cannot reach {what} at {address}{detail} - start it, or set {setting} to its address"
        )


class NotAnswering(Unavailable):
    """Somebody listens at a server's address and does not serve us; the message says it all."""

    def __init__(self, message: str) -> None:
        DriftloopError.__init__(self, message)


class Busy(Unavailable):
    """A local resource is held by another process; it is free when that process has ended."""

    def __init__(self, what: str, where: object, reason: object) -> None:
        DriftloopError.__init__(
            self, f"{what} in {where} is in use or unreadable ({reason}) - stop the other process"
        )


class StoreFailed(DriftloopError):
    """A local store cannot be written: the worker ends, and goes on where it was when it can."""

    def __init__(self, what: str, where: object, reason: object) -> None:
        super().__init__(
            f"{what} in {where} cannot be written ({reason}) - make room on that disk or mend it, "
            "or set DRIFTLOOP_STATE_DIR to a directory on another"
        )


class BadRecord(DriftloopError):
    """One record cannot be processed and becomes a dead letter with this cause."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail


class OffsetsMissing(DriftloopError):
    """Offsets that were asked for are not in their topic, or not any more."""


class StateBehind(DriftloopError):
    """Feature state lost offsets that were committed; they must be refolded before scoring."""

    def __init__(self, partition: int, folded: int, expected: int) -> None:
        super().__init__(
            f"feature state of partition {partition} ends at offset {folded}, expected {expected}"
        )
        self.partition = partition
        self.folded = folded


class TopicRecreated(DriftloopError):
    """A topic was deleted and made anew while a worker read it: its offsets mean other records."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"topic {topic} was deleted and made anew - the worker ends, and starts over with the "
            "new one when it is started again"
        )


class StateLost(DriftloopError):
    """An offset was folded before and its answer is gone: committed offsets were moved back."""

    def __init__(self, partition: int, offset: int, folded: int) -> None:
        super().__init__(
            f"feature state of partition {partition} counted offset {offset} before and no longer "
            f"holds its answer: committed offsets were moved back - move the consumer group to "
            f"offset {folded} or later, or `driftloop state reset` to count from the topic again"
        )
        self.partition = partition
        self.folded = folded


class Halted(DriftloopError):
    """Work has stopped until a person has looked; a restart alone would change nothing."""

    EXIT_CODE = 3


class TooManyInvalid(Halted):
    """So many records are bad that the topic is not what the pipeline expects."""

    def __init__(
        self, topic: str, partition: int, share: float, records: int, example: str
    ) -> None:
        super().__init__(
            f"{share:.0%} of the last {records:,} records of {topic}, partition {partition}, "
            f"are bad ({example}) - stopped before more become dead letters: fix the "
            "producer or the pipeline, or raise policies.invalid.ratio, and start again"
        )


class ModelError(DriftloopError):
    """A model version does not load, or does not answer as its signature says."""


class NotFinite(ModelError):
    """A model version gives no finite score for any of the vectors that it was asked."""


class TrainingError(DriftloopError):
    """A training run cannot produce a candidate; the message says what is missing."""
