"""One suite for every label store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.adapters.memory.labels import MemoryLabelStore
from streams.adapters.rocksdb.labels import RocksLabelStore
from streams.errors import Busy, StoreFailed
from streams.ports.labels import Changes, EventName, Label, LabelStore, ServedEvent


@pytest.fixture(params=["memory", "rocks"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LabelStore]:
    made: LabelStore
    made = MemoryLabelStore() if request.param == "memory" else RocksLabelStore(tmp_path / "0")
    yield made
    made.close()


def name(event_id: str, key: bytes = b"key") -> EventName:
    return EventName(key, event_id)


def served(
    name: str, at: float, matured: bool = False, labels: tuple[Label, ...] = ()
) -> ServedEvent:
    return ServedEvent(name, b"key", at, b"{}", labels, matured)


def put(store: LabelStore, *entries: ServedEvent, **early: tuple[Label, ...]) -> None:
    named = {name(event_id): labels for event_id, labels in early.items()}
    store.write(Changes({e.name: e for e in entries}, named, {}, 0.0))


def test_what_is_written_is_found(store: LabelStore) -> None:
    entry = served("a", 5.5, labels=(Label(3, 1.0, 9.0),))
    put(store, entry, early=(Label(7, 0.0, 2.0),))
    assert store.entries([name("a"), name("none")]) == [entry, None]
    assert store.early([name("early"), name("a")]) == [(Label(7, 0.0, 2.0),), ()]
    assert store.entries([]) == []


def test_a_new_store_is_empty(store: LabelStore) -> None:
    assert (store.positions, store.watermark, store.due(1e12)) == ({}, 0.0, [])


def test_positions_and_watermark_are_kept(store: LabelStore) -> None:
    store.write(Changes({}, {}, {"a": 1, "b": 2}, 5.0))
    store.write(Changes({}, {}, {"a": 3}, 6.0))
    assert (store.positions, store.watermark) == ({"a": 3, "b": 2}, 6.0)


def test_due_are_the_unmatured_older_ones_oldest_first(store: LabelStore) -> None:
    put(store, served("c", 3.0), served("a", 1.0), served("b", 2.0, matured=True), served("d", 4.0))
    assert [s.event_id for s in store.due(4.0)] == ["a", "c"]
    put(store, served("a", 1.0, matured=True), served("c", 3.0, matured=True))
    assert store.due(4.0) == []
    assert [s.event_id for s in store.due(4.5)] == ["d"]


def test_an_entry_that_comes_out_of_order_is_due_too(store: LabelStore) -> None:
    put(store, served("a", 5.0))
    assert store.due(4.0) == []
    put(store, served("late", 1.0))
    assert [s.event_id for s in store.due(4.0)] == ["late"]


def test_expiry_drops_matured_entries_and_early_labels(store: LabelStore) -> None:
    put(store, served("old", 1.0), x=(Label(1, 1.0, 1.0),), y=(Label(2, 1.0, 8.0),))
    put(store, served("old", 1.0, matured=True), served("waiting", 1.0), served("new", 9.0, True))
    store.expire(5.0)
    assert [
        s and s.event_id for s in store.entries(list(map(name, ["old", "waiting", "new"])))
    ] == [
        None,
        "waiting",
        "new",
    ]
    assert store.early([name("x"), name("y")]) == [(), (Label(2, 1.0, 8.0),)]


def test_an_id_is_told_apart_by_its_key(store: LabelStore) -> None:
    entries = [ServedEvent("a", key, 1.0, key) for key in (b"", b"k", b"k\x00", b"\x00\x01ka")]
    put(store, *entries, ServedEvent("\x00a", b"k", 1.0, b"other"))
    assert store.entries([entry.name for entry in entries]) == entries
    assert store.entries([name("a", b"kk")]) == [None]
    assert len(store.due(2.0)) == 5
    early: dict[EventName, tuple[Label, ...]]
    early = {entry.name: (Label(1, i, 1.0),) for i, entry in enumerate(entries)}
    store.write(Changes({}, early, {}, 0.0))
    assert store.early(list(early)) == list(early.values())


def test_early_labels_are_removed(store: LabelStore) -> None:
    put(store, x=(Label(1, 1.0, 1.0),))
    put(store, x=())
    assert store.early([name("x")]) == [()]


@pytest.fixture
def reopen(tmp_path: Path) -> Callable[[], RocksLabelStore]:
    return lambda: RocksLabelStore(tmp_path / "0")


def test_the_disk_remembers(reopen: Callable[[], RocksLabelStore]) -> None:
    first = reopen()
    first.write(
        Changes({name("a"): served("a", 1.0)}, {name("x"): (Label(1, 1.0, 1.0),)}, {"t": 9}, 7.0)
    )
    with pytest.raises(Busy, match="stop the other process"):
        reopen()
    first.close()
    second = reopen()
    assert second.entries([name("a")]) == [served("a", 1.0)]
    assert second.due(2.0) == [served("a", 1.0)]
    assert (second.positions, second.watermark) == ({"t": 9}, 7.0)
    second.close()


def test_a_disk_that_is_full_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """As a database whose log cannot grow."""

        def write(self, batch: object) -> None:
            raise Exception(f"IO error: While appending to file: {batch}: No space left on device")

    store = RocksLabelStore(tmp_path / "0")
    with monkeypatch.context() as patched:
        patched.setattr(store, "_db", Full())
        with pytest.raises(StoreFailed) as failed:
            put(store, served("a", 1.0))
    store.close()
    assert "label store in" in str(failed.value)
    assert "cannot be written (No space left on device) - make room" in str(failed.value)
