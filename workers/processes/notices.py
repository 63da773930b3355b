"""What a person should see of the workers' logs: each thing once, in one line.

A worker's log file has a JSON object a line (`streams.telemetry.configure_logging`). Warnings and
errors are told, and news such as a promotion. The same thing is not told again by another worker,
nor by the same one while it lasts.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

_NEWS = frozenset(
    [
        "candidate decided",
        "roll-out",
        "serving",
        "no version serves yet, the fallback answers until the trainer publishes one",
        "events whose id came before are dropped",
        "a Triton gets requests again",
        "shadowing",
        "the challenger answers again",
        "no longer degraded",
        "no longer waiting",
        "a retrain that was put off begins",
        "serving is within budget again",
        "Redis drops no keys any more",
        "the pipeline brings its own ONNX file: it is published as is and not retrained",
    ]
)
"""What is told though it is no warning."""
_LAST = "lane failed"
"""The worker ends for it, and whoever keeps it running says so."""
_ENDS = {
    "a retrain that was put off begins": "a retrain is put off",
    "serving is within budget again": "serving is over budget, and goes on",
    "no longer degraded": "degraded",
    "the challenger answers again": (
        "the challenger does not answer, the shadow goes on without its scores"
    ),
    "a Triton gets requests again": "a Triton fails, others get its requests until it answers",
}
"""The first is told where the second was, which may come again then."""
_TELL_APART = ("topic", "cause", "version", "action", "share", "stage", "endpoint", "key", "model")
_OF_KAFKA = (
    "Kafka takes no write",
    "Kafka takes no commit",
    "Kafka does not answer, trying again",
)
"""Not told of a Kafka that is known to be away, nor of one that has just come back."""
_TELL_CAUSES_APART = ("no candidate", "waiting")
"""Of these another cause is another thing; its numbers are not."""
_NUMBERS = re.compile(r"\d+")
_LEFT_OUT = frozenset(
    [
        "event",
        "level",
        "logger",
        "timestamp",
        "pipeline",
        "role",
        "exception",
        "attempt",
        "error",
        "reason",
        "group",
        "partition",
        "offset",
        "watermark",
    ]
)
_QUIET_SECONDS = 60.0
"""A thing that was not heard of for so long has ended: it is told when it comes again."""
_LONGEST = 500
_LATEST = 20
"""An error so many lines before the end of a log is not what ended the worker."""
_AWAY = re.compile(r"cannot reach (\w+) at ")
_MARKS = re.compile(r"^(?:\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f])+")
"""What Faust tells a terminal, though there is none."""

Key = tuple[str, ...]


class Notices:
    """Turns log lines, and what is known of servers, into what is told; a clock in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[Key, float] = {}
        self._down: set[str] = set()
        self._returned: dict[str, float] = {}
        """When servers were seen to answer again."""

    def of(self, worker: str, line: Mapping[str, Any]) -> str | None:
        """What to tell of a worker's log line; None for nothing."""
        event = str(line.get("event", ""))
        if (
            not _ours(line)
            or event == _LAST
            or (line.get("level") == "info" and event not in _NEWS)
            or (event in _OF_KAFKA and self._away_lately("Kafka"))
        ):
            return None
        if away := _AWAY.match(_cause(line)):
            if event == "no longer waiting":
                return self._back(away[1], _cause(line))
            return f"{worker}: {_text(line)}" if self._new(("away", away[1])) else None
        if event == "no longer waiting":
            told = self._forget(("waiting", str(line.get("stage"))))
            return f"{worker}: {_text(line, cause=False)}" if told else None
        apart = [str(line[name]) for name in _TELL_APART if name in line]
        if event in _ENDS:
            return f"{worker}: {_text(line)}" if self._forget((_ENDS[event], *apart)) else None
        key = (event, *apart)
        if event in _TELL_CAUSES_APART:
            key += (_NUMBERS.sub("", _cause(line)),)
        if event == "serving" and key not in self._heard:
            self._forget((event,))  # one version at a time
        return f"{worker}: {_text(line)}" if self._new(key) else None

    def server(self, name: str, address: str, *, up: bool) -> str | None:
        """What to tell where a server is seen to answer, or not to."""
        if up:
            known = name in self._down
            self._down.discard(name)
            if known:
                self._returned[name] = self._clock()
            return f"{name} at {address} answers again" if known and self._was(name) else None
        self._down.add(name)
        new = self._new(("away", name))
        return f"{name} at {address} does not answer - the workers wait for it" if new else None

    def worker(self, name: str, pid: int, *, hangs: bool) -> str | None:
        """What to tell where a worker that runs is seen to hang, or not to."""
        if not hangs:
            return f"{name} answers again" if self._forget(("hangs", name)) else None
        if not self._new(("hangs", name)):
            return None
        return (
            f"{name} (process {pid}) runs and does not answer - another takes its work over once "
            "its session has ended; kill it, and it is started anew"
        )

    def _back(self, name: str, cause: str) -> str | None:
        """A call went through that had failed because a server was away."""
        if name in self._down or not self._was(name):  # who watches the server says so
            return None
        return f"{name} answers again (it did not: {cause.partition(' - ')[0]})"

    def _away_lately(self, name: str) -> bool:
        since = self._clock() - self._returned.get(name, -math.inf)
        return name in self._down or since < _QUIET_SECONDS

    def _was(self, name: str) -> bool:
        return self._forget(("away", name))

    def _new(self, key: Key) -> bool:
        now = self._clock()
        before = self._heard.get(key)
        self._heard[key] = now
        return before is None or now - before > _QUIET_SECONDS

    def _forget(self, start: Key) -> bool:
        """Whether something with a key that starts so was told."""
        gone = [key for key in self._heard if key[: len(start)] == start]
        for key in gone:
            del self._heard[key]
        return bool(gone)


def parsed(line: str) -> dict[str, Any]:
    """A log line's fields; none where it is no JSON object."""
    line = _MARKS.sub("", line)
    if not line.startswith("{"):
        return {}
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def last_words(lines: list[str]) -> str:
    """Why a worker ended, by its log: what it says it failed with, else its last line."""
    for line in reversed(lines):
        if line.startswith("error: "):
            return line.removeprefix("error: ")[:_LONGEST]
    for line in reversed(lines[-_LATEST:]):
        fields = parsed(line)
        if fields.get("level") in ("error", "critical") and _ours(fields):
            return _text(fields)
    said = [line.strip() for line in lines if line.strip() and not parsed(line)]
    return said[-1][:_LONGEST] if said else "it said nothing"


def _ours(line: Mapping[str, Any]) -> bool:
    """Whether our code says it; Faust uses our loggers too, with its own marks."""
    logger = str(line.get("logger", ""))
    faust = str(line.get("event", "")).startswith("[^")
    return logger.startswith(("streams.", "workers.")) and not faust and "level" in line


def _cause(line: Mapping[str, Any]) -> str:
    return " ".join(str(line.get("error") or line.get("reason") or "").split())


def _text(line: Mapping[str, Any], *, cause: bool = True) -> str:
    told = {k: v for k, v in line.items() if k not in _LEFT_OUT and v not in (None, "")}
    details = ", ".join(f"{name} {value}" for name, value in told.items())
    text = str(line["event"]) + (f" ({details})" if details else "")
    because = _cause(line)
    return (f"{text}: {because}" if because and cause else text)[:_LONGEST]
