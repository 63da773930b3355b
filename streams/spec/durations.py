"""Durations as people write them: `7d`, `12h`, `30m`, `45s`, or a `timedelta`."""

from __future__ import annotations

import re
from datetime import timedelta

from streams.errors import PipelineError

Duration = str | timedelta
_LONGEST = 36_500 * 86_400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds(value: Duration, field: str) -> int:
    """Whole seconds of a duration.

    Raises:
        PipelineError: it is not a duration, is negative, or is finer than a second.
    """
    if isinstance(value, timedelta):
        total = value.total_seconds()
    else:
        match = re.fullmatch(r"(\d+)([smhdw])", str(value).strip())
        if match is None:
            raise PipelineError(
                field, f"{value!r} is not a duration", "write it as 45s, 30m, 12h or 7d"
            )
        total = int(match[1]) * _UNITS[match[2]]
    if total > _LONGEST:
        raise PipelineError(field, f"{value!r} is above a hundred years", "use 36500d or less")
    if total < 0 or total != int(total):
        raise PipelineError(
            field, f"{value!r} is not a whole number of seconds", "use seconds or more"
        )
    return int(total)


def text(total: int) -> str:
    """The shortest exact way to write `total` seconds, as `7d`."""
    for unit in "dhm":
        if total and total % _UNITS[unit] == 0:
            return f"{total // _UNITS[unit]}{unit}"
    return f"{total}s"
