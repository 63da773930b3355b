"""The command line, `driftloop`: one line per mistake, a traceback only for our own bugs."""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from streams.errors import DriftloopError, Halted
from streams.kafka import workarounds
from workers.commands import (
    backfilling,
    checking,
    costs,
    demo,
    diff,
    dlq,
    models,
    new,
    pipeline,
    planning,
    produce,
    repairs,
    report,
    running,
    scaling,
    sending,
    stack,
    training,
)
from workers.processes.supervisor import end_with_parent
from workers.terminal import console, plain, spell_out

app = typer.Typer(
    name="driftloop",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Streaming inference that retrains itself: Kafka in, predictions out, labels back, "
    "new model versions published while traffic flows.",
    epilog="Start with `driftloop check MODULE`, then `driftloop up MODULE`.",
)
app.command()(new.new)
app.command()(checking.check)
app.command()(running.up)
app.command()(demo.demo)
app.command()(running.score)
app.command()(running.label)
app.command()(running.evaluate)
app.command()(running.shadow)
app.command()(running.trainer)
app.command()(scaling.scale)
app.command()(training.train)
app.add_typer(models.app, name="models")
app.command()(models.promote)
app.command()(models.rollback)
app.command()(models.freeze)
app.command()(models.thaw)
app.command()(diff.diff)
app.command()(planning.plan)
app.command()(report.report)
app.command()(costs.costs)
app.command()(sending.send)
app.command()(backfilling.backfill)
app.command()(produce.produce)
app.command()(pipeline.tail)
app.command("settings")(pipeline.show_settings)
app.add_typer(dlq.app, name="dlq")
app.command()(repairs.skip)
app.add_typer(repairs.app, name="state")
app.add_typer(stack.app, name="stack")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"driftloop {version('driftloop')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which it is.")
    ] = False,
) -> None:
    """Streaming inference that retrains itself."""
    del version


def main() -> None:
    """Run a command; our own errors become one line and exit code 1."""
    end_with_parent()
    spell_out()
    workarounds.apply()
    # until a worker sets up its logs: what a client says of a missing server, we say in one line
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        app()
    except DriftloopError as error:
        console.print(f"[red]error:[/] {plain(error)}", soft_wrap=True, markup=True)
        sys.exit(Halted.EXIT_CODE if isinstance(error, Halted) else 1)


if __name__ == "__main__":
    main()
