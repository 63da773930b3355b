"""Log files are read line by line as they grow, whatever is done to them."""

from __future__ import annotations

from pathlib import Path

from workers.processes.log_files import LogReader


def test_lines_come_when_they_are_complete_and_once(tmp_path: Path) -> None:
    log = tmp_path / "score-1.log"
    early = LogReader(log)
    assert early.lines() == []
    log.write_bytes(b"before\n")
    late = LogReader(log)
    with log.open("ab") as file:
        file.write("ü 1\nha".encode())
        file.flush()
        assert late.lines() == ["ü 1"]
        assert late.lines() == []
        file.write(b"lf\n\xff\n")
    assert late.lines() == ["half", "\ufffd"]
    assert early.lines() == ["before", "ü 1", "half", "\ufffd"]


def test_a_file_that_was_cut_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "label.log"
    log.write_bytes(b"a long line\n")
    reader = LogReader(log)
    log.write_bytes(b"new\n")
    assert reader.lines() == ["new"]


def test_of_a_flood_the_latest_is_read(tmp_path: Path) -> None:
    log = tmp_path / "trainer.log"
    reader = LogReader(log)
    log.write_bytes(b"x" * 99 + b"\n" + b"y\n" * (1 << 20))
    assert set(reader.lines()) == {"y"}
