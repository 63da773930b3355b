"""`driftloop stack up|status|down`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Annotated

import psutil
import typer
from rich.table import Table

from streams.addresses import masked
from streams.errors import ConfigurationError
from streams.settings import Settings, load_settings
from workers.devstack.stack import Stack
from workers.devstack.state import Addresses, read_stack, running
from workers.environment import make_state_dir
from workers.processes.sharing import in_use
from workers.terminal import console, note, out

app = typer.Typer(
    no_args_is_help=True,
    help="Kafka, Triton and Redis (Valkey) on this machine, without Docker.",
)


@app.command()
def up(
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave it running in the background.")
    ] = False,
) -> None:
    """Start the servers and wait until they are healthy; Ctrl-C ends them."""
    settings = load_settings()
    make_state_dir(settings)
    found = running(settings)
    if found is not None:
        out.print(f"a stack is already up in {settings.state_dir}")
        _show(found)
    elif detach:
        _show(_detached(settings))
        out.print("end it with `driftloop stack down`")
    else:
        _foreground(settings)


def _foreground(settings: Settings) -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Stack(settings, note) as addresses:
        _show(addresses)
        out.print("Ctrl-C ends it")
        stop.wait()
        if in_use(settings.state_dir):
            console.print("loops use these servers: they end with the last, or on another Ctrl-C")
            stop.clear()
            while in_use(settings.state_dir) and not stop.wait(0.2):
                pass
        console.print("stopping")


def _detached(settings: Settings) -> Addresses:
    home = settings.state_dir / "stack"
    home.mkdir(parents=True, exist_ok=True)
    path = home / "supervisor.log"
    with path.open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", "stack", "up"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    shown = 0
    while (found := running(settings)) is None:
        lines = path.read_text(errors="replace").splitlines()
        for line in lines[shown:]:
            note(line)
        shown = len(lines)
        if child.poll() is not None:
            last = lines[-1] if lines else f"it did not start - see {path}"
            raise ConfigurationError(last.removeprefix("error: "))
        time.sleep(0.1)
    return found


def _show(addresses: Addresses) -> None:
    for name, address in (vars(addresses) | {"redis": masked(addresses.redis)}).items():
        out.print(f"  DRIFTLOOP_{name.upper()}={address}", soft_wrap=True)


@app.command()
def status() -> None:
    """Show each server's address, process, memory, uptime and log."""
    settings = load_settings()
    found = read_stack(settings)
    if found is None:
        raise ConfigurationError(f"no stack is up in {settings.state_dir} - `driftloop stack up`")
    table = Table("server", "address", "pid", "memory", "up for", "log")
    for name, server in found.servers.items():
        try:
            process = psutil.Process(server.pid)
            memory = f"{process.memory_info().rss / 1e6:,.0f} MB"
            up_for = f"{time.time() - process.create_time():,.0f} s"
        except psutil.NoSuchProcess:
            memory, up_for = "restarting", ""
        table.add_row(name, server.address, str(server.pid), memory, up_for, server.log)
    out.print(table)


@app.command()
def down(
    force: Annotated[bool, typer.Option("--force", help="Even while loops use it.")] = False,
) -> None:
    """End the stack of this state directory, and wait until it is gone."""
    settings = load_settings()
    found = read_stack(settings)
    if found is None:
        out.print(f"no stack is up in {settings.state_dir}")
        return
    pid = found.pid
    used = in_use(settings.state_dir)
    if used and not force:
        raise ConfigurationError(
            f"`driftloop up` uses the stack in {settings.state_dir} - end it first, or give --force"
        )
    process = psutil.Process(pid)
    for _ in range(2 if used else 1):  # the second cuts its waiting for others short
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.5 if used else 0.0)
    try:
        process.wait(timeout=30)
    except psutil.TimeoutExpired:
        raise ConfigurationError(f"process {pid} does not end - see its logs, or kill it") from None
    out.print("the stack is down; its data is kept")
