"""One root for every error Driftloop raises on purpose.

A subclass says what the caller should do: stop (`ConfigurationError`), retry (`Unavailable`),
or dead-letter (`BadRecord`). The message is one line: what is wrong, and how to mend it.
"""

from __future__ import annotations


class DriftloopError(Exception):
    """The root of all our errors."""


class ConfigurationError(DriftloopError):
    """The user asked for something that cannot work: a setting, a file, an argument."""


class PipelineError(ConfigurationError):
    """A pipeline declaration is wrong; the message names the field and the mend."""

    def __init__(self, field: str, problem: str, mend: str) -> None:
        super().__init__(f"{field}: {problem} - {mend}")
        self.field = field


class Unavailable(DriftloopError):
    """A server does not answer; retrying later may help."""

    def __init__(self, what: str, address: str, setting: str, reason: object = "") -> None:
        detail = f" ({reason})" if str(reason) else ""
        super().__init__(
            f"cannot reach {what} at {address}{detail} - start it, or set {setting} to its address"
        )


class BadRecord(DriftloopError):
    """One record cannot be processed and becomes a dead letter with this cause."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail


class StateBehind(DriftloopError):
    """Feature state lost offsets that were committed; they must be refolded before scoring."""

    def __init__(self, partition: int, folded: int, expected: int) -> None:
        super().__init__(
            f"feature state of partition {partition} ends at offset {folded}, expected {expected}"
        )
        self.partition = partition
        self.folded = folded


class ModelError(DriftloopError):
    """A model version does not load, or does not answer as its signature says."""


class TrainingError(DriftloopError):
    """A training run cannot produce a candidate; the message says what is missing."""
