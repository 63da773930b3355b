"""The workers' log files, read as they grow."""

from __future__ import annotations

from pathlib import Path

_MOST = 1 << 20
"""Bytes that are read at a time: of a log that grows faster, the latest."""


class LogReader:
    """Reads the lines that are added to a file from now on. The file may be made later."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def lines(self) -> list[str]:
        """The lines that have been completed since the last call."""
        try:
            size = self.path.stat().st_size
            if size < self._at:  # somebody has cut it
                self._at, self._rest = 0, b""
            if size - self._at > _MOST:
                self._at, self._rest = size - _MOST, b""
            with self.path.open("rb") as file:
                file.seek(self._at)
                data = file.read(_MOST)
        except FileNotFoundError:
            return []
        self._at += len(data)
        *complete, self._rest = (self._rest + data).split(b"\n")
        return [line.decode(errors="replace") for line in complete]
