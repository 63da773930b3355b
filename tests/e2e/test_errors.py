"""A user's mistake gets one line that says what is wrong and how to mend it, and exit code 1."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from streams.settings import Settings
from workers.cli import app
from workers.devstack.servers import free_port
from workers.environment import environment

ROOT = Path(__file__).parents[2]
NOWHERE = "127.0.0.1:1"
CARD_FRAUD = "streams.pipelines.card_fraud"
MISTAKE = """
from dataclasses import replace
from streams.pipelines.card_fraud import pipeline as base
from streams.spec import Column
pipeline = replace(base, features=[Column("amont")])
"""


def run(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Exit code and standard error of a command."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DRIFTLOOP_")}
    own = {
        "DRIFTLOOP_STATE_DIR": str(folder / "state"),
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "workers.cli", *arguments],
        env={**clean, **own, **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def assert_one_line(result: tuple[int, str], *said: str) -> None:
    code, text = result
    assert code == 1, text
    assert text.startswith("error: "), text
    assert text.count("\n") == 1, text
    for part in said:
        assert part in text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mistaken.py").write_text(MISTAKE)
    (tmp_path / "empty.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "nobody.here"], ["no module 'nobody.here'", "run where it can be imported"]),
        (["check", "empty"], ["empty declares no pipeline", "pipeline = Pipeline(...)"]),
        (["check", "mistaken"], ["features.amont", "has no field 'amont'", "use one of"]),
        (["check", CARD_FRAUD, "--events", "gone.jsonl"], ["cannot read gone.jsonl", "JSON lines"]),
        (["score", CARD_FRAUD], ["no embedded stack is up", "driftloop stack up --detach"]),
        (["tail", CARD_FRAUD], ["no embedded stack is up", "DRIFTLOOP_KAFKA"]),
        (["produce", "weather"], ["no world named 'weather'", "use card_fraud"]),
        (["stack", "status"], ["no stack is up", "driftloop stack up"]),
    ],
)
def test_without_servers(folder: Path, arguments: list[str], said: list[str]) -> None:
    assert_one_line(run(folder, *arguments), *said)


def test_a_bad_setting_is_named(folder: Path) -> None:
    result = run(folder, "stack", "status", DRIFTLOOP_PARTITIONS="many")
    assert_one_line(result, "DRIFTLOOP_PARTITIONS='many'", "valid integer", "driftloop settings")


def test_a_taken_port_is_named_with_its_setting(folder: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = run(folder, "stack", "up", DRIFTLOOP_KAFKA_PORT=port)
    assert_one_line(result, f"port {port} is in use", "DRIFTLOOP_KAFKA_PORT")


@pytest.fixture
def servers(settings: Settings) -> dict[str, str]:
    return environment(settings.model_copy(update={"connect_timeout": 1.0}))


@pytest.mark.parametrize("command", ["score", "label", "trainer", "tail"])
def test_kafka_away(folder: Path, servers: dict[str, str], command: str) -> None:
    result = run(folder, command, CARD_FRAUD, **{**servers, "DRIFTLOOP_KAFKA": NOWHERE})
    assert_one_line(result, f"cannot reach Kafka at {NOWHERE}", "set DRIFTLOOP_KAFKA")


@pytest.mark.parametrize("arguments", [["tail"], ["dlq", "list"], ["models", "list"]], ids=" ".join)
def test_what_only_reads_topics_asks_for_no_other_server(
    folder: Path, arguments: list[str]
) -> None:
    result = run(folder, *arguments, CARD_FRAUD, DRIFTLOOP_KAFKA=NOWHERE)
    assert_one_line(result, f"cannot reach Kafka at {NOWHERE}", "set DRIFTLOOP_KAFKA")


@pytest.mark.parametrize("command", ["score", "label"])
def test_redis_away_and_its_password_stays_secret(
    folder: Path, servers: dict[str, str], command: str
) -> None:
    url = f"redis://:secret@{NOWHERE}/0"
    result = run(folder, command, CARD_FRAUD, **{**servers, "DRIFTLOOP_REDIS": url})
    assert_one_line(result, f"cannot reach Redis at {NOWHERE}", "set DRIFTLOOP_REDIS")
    assert "secret" not in result[1]


@pytest.mark.parametrize("server", ["KAFKA", "TRITON", "REDIS"])
def test_up_does_not_start_servers_beside_one_that_is_away(folder: Path, server: str) -> None:
    address = f"redis://{NOWHERE}/0" if server == "REDIS" else NOWHERE
    variables = {f"DRIFTLOOP_{server}": address, "DRIFTLOOP_CONNECT_TIMEOUT": "0.5"}
    result = run(folder, "up", CARD_FRAUD, **variables)
    assert_one_line(result, f"cannot reach {server.capitalize()} at {NOWHERE}", "start it")


@pytest.mark.parametrize("command", [["up", CARD_FRAUD], ["stack", "up"]])
def test_a_state_directory_that_cannot_be_written(folder: Path, command: list[str]) -> None:
    (folder / "file").touch()
    result = run(folder, *command, DRIFTLOOP_STATE_DIR=str(folder / "file" / "state"))
    assert_one_line(result, "cannot write", "set DRIFTLOOP_STATE_DIR")


def test_a_home_that_cannot_be_written(folder: Path) -> None:
    code, said = run(folder, "stack", "up", "--detach", HOME="/dev/null/home", XDG_CACHE_HOME="")
    assert code == 1
    assert said.splitlines()[-1].startswith("error: cannot write to /dev/null/home")
    assert "set DRIFTLOOP_CACHE_DIR" in said


@pytest.mark.parametrize("command", ["score", "trainer"])
def test_triton_away(folder: Path, servers: dict[str, str], command: str) -> None:
    result = run(folder, command, CARD_FRAUD, **{**servers, "DRIFTLOOP_TRITON": NOWHERE})
    assert_one_line(result, f"cannot reach Triton at {NOWHERE}", "set DRIFTLOOP_TRITON")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "fresh"], ["example"]),
        (["promote", "7", "fresh"], ["7"]),
        (["rollback", "fresh"], ["roll"]),
        (["models", "show", "7", "fresh"], ["7"]),
    ],
)
def test_with_nothing_learnt_yet(
    folder: Path, servers: dict[str, str], arguments: list[str], said: list[str]
) -> None:
    name = f"fresh-{free_port()}"
    (folder / "fresh.py").write_text(
        "from dataclasses import replace\nfrom streams.pipelines.card_fraud import pipeline as p\n"
        f"pipeline = replace(p, name={name!r})\n"
    )
    assert_one_line(run(folder, *arguments, **servers), *said)


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


@pytest.mark.parametrize(
    ("path", "command"),
    [
        pytest.param(p, c, id=" ".join(p) or "driftloop")
        for p, c in commands(typer.main.get_command(app))
    ],
)
def test_help_is_complete(path: tuple[str, ...], command: Any) -> None:
    from typer.testing import CliRunner

    assert command.help
    undocumented = [
        p.name for p in command.params if not getattr(p, "help", "") and p.name != "help"
    ]
    assert undocumented == []
    shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80", "TERM": "dumb"})
    assert shown.exit_code == 0
    assert max(len(line.rstrip()) for line in shown.stdout.splitlines()) <= 80
