"""The real packages: fetched, every row of them counted, and read twice to the same events."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streams.errors import ConfigurationError, Unavailable
from streams.settings import Settings
from workers.worlds.catalogue import WORLDS
from workers.worlds.packages import TARBALL, Package, fetch
from workers.worlds.world import EventRow

COUNTS = {
    "digits": (70_000, 70_000, {1.0: 7_877}),
    "small_digits": (1_797, 1_797, {1.0: 182}),
    "mail": (6_046, 6_046, {0.0: 4_150, 1.0: 1_896}),
    "films": (100_000, 100_000, {0.0: 44_625, 1.0: 55_375}),
    "choices": (100_000, 100_000, {1.0: 100_000}),
    "liver": (48_237, 36_989, {0.0: 35_287, 1.0: 1_702}),
    "groceries": (73_000, 72_800, {0.0: 4_030}),
    "machine": (49_097, 49_097, {0.0: 45_586, 1.0: 3_511}),
    "speech": (6_000, 6_000, {1.0: 598}),
}
"""Events, labels, and how many labels have some values."""
SMALL = ("films", "machine")
"""Of 2 and 3 MB; the others are fetched by `make worlds`."""


def test_every_world_is_counted() -> None:
    assert COUNTS.keys() == WORLDS.keys()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in SMALL else pytest.mark.worlds) for n in WORLDS],
)
def test_a_world_is_as_large_as_it_is_known_to_be(name: str) -> None:
    world, values, before = WORLDS[name], Counter[float](), 0.0
    names, events, fields = set(), list[EventRow](), set[str]()
    for found in world.timeline(Settings().cache_dir, print):
        assert found.at >= before
        before = found.at
        if isinstance(found, EventRow):
            events = [*events, found] if len(events) < 20 else events
            assert found.row["event_id"] not in names
            names.add(found.row["event_id"])
            fields |= found.row.keys()
        else:
            assert found.row["event_id"] in names
            values[found.row["label"]] += 1
    expected, labelled, some = COUNTS[name]
    assert (len(names), values.total()) == (expected, labelled)
    assert list(world.events(Settings().cache_dir, print, len(events))) == events
    assert {value: values[value] for value in some} == some
    assert {"event_id", "at", world.key} < fields


class _Tarball(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/@scope/rows/-/rows-1.0.0.tgz"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(b"rows" if found else b"none")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Tarball)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def npm(name: str, digest: str) -> Package:
    return Package(name, "1.0.0", (digest,), 0.1, "none", registry="npm")


def test_a_npm_package_comes_from_the_configured_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registry() as address:
        monkeypatch.setenv("npm_config_registry", address)
        home = fetch(npm("@scope/rows", hashlib.sha256(b"rows").hexdigest()), tmp_path, print)
        assert (home / TARBALL).read_bytes() == b"rows"
        with pytest.raises(ConfigurationError, match=f"not the pinned file: {address} serves"):
            fetch(npm("@scope/rows", "0" * 64), tmp_path, print)
        with pytest.raises(Unavailable, match=f"npm's registry at {address} .*404"):
            fetch(npm("@scope/other", "0" * 64), tmp_path, print)
    with pytest.raises(Unavailable, match="refused"):
        fetch(npm("@scope/rows", "1" * 64), tmp_path, print)
