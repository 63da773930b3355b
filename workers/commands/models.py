"""`models`, `promote`, `rollback`: which version serves, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from streams.errors import ConfigurationError
from streams.ledger.state import LedgerState, Stage, state_after
from streams.ledger.topic import read_entries
from streams.records import Action, LedgerEntry, Manifest
from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.tasks import Task
from workers.commands.drift import drift
from workers.commands.quality import quality
from workers.environment import connected_settings, find_pipeline
from workers.releases.manifests import gate_rules, plain_metrics
from workers.releases.repository import Repository
from workers.terminal import Module, console, out, plain

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="Versions of a pipeline's model and what they serve.")

Version = Annotated[int, typer.Argument(min=1, help="Version number, as `models list` shows it.")]


@app.command("list")
def list_models(module: Module) -> None:
    """List every version: what the gate said, and which serves."""
    pipeline, settings = find_pipeline(module), connected_settings(module, needs=("kafka",))
    entries = asyncio.run(read_entries(settings, pipeline))
    now = state_after(entries)
    if not entries:
        out.print(
            f"{pipeline.name} has no version yet: the trainer makes one when labels have "
            f"matured, or `driftloop train {module}` does"
        )
        return
    table = Table(title=f"Versions of {pipeline.name}", title_justify="left")
    for name in ("Version", "Serves", "Last action", "Labels up to", "Metric", "Threshold", "Why"):
        table.add_column(name, overflow="fold")
    on_disk = Repository(settings.model_repository, pipeline.name).versions()
    metric = pipeline.policies.gate.metric
    for version, latest in sorted(_latest(entries).items()):
        threshold = f"{latest.threshold:.3f}" if pipeline.predicts.thresholds else "-"
        row = _row(version, latest, now, metric, version in on_disk)
        table.add_row(*row, threshold, plain(latest.reason))
    out.print(table)
    out.print(
        f"champion: version {now.champion}" if now.champion else "no version serves: fallback"
    )
    if on_its_way := _on_its_way(now):
        out.print(on_its_way)


app.command("quality")(quality)
app.command("drift")(drift)


@app.command("show")
def show_model(version: Version, module: Module) -> None:
    """Show a version: its manifest, and everything the ledger says of it."""
    pipeline, settings = find_pipeline(module), connected_settings(module, needs=("kafka",))
    entries = [e for e in asyncio.run(read_entries(settings, pipeline)) if e.version == version]
    manifests = [entry.manifest for entry in entries if entry.manifest is not None]
    if manifests:
        manifest = manifests[-1]
    else:
        repository = Repository(settings.model_repository, pipeline.name)
        if version not in repository.versions():
            raise ConfigurationError(
                f"{pipeline.name} has no version {version} - see `driftloop models list {module}`"
            )
        manifest = repository.manifest(version)
    _describe(manifest, pipeline.predicts)
    for entry in entries:
        out.print(f"{_time(entry.at)}  {entry.action} by {_by(entry)}: {plain(entry.reason)}")


def promote(
    version: Version,
    module: Module,
    force: Annotated[
        bool, typer.Option("--force", help="Promote a version that the gate did not.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; recorded in the ledger.")] = "",
) -> None:
    """Make a version champion: load it, check its answers, and record the promotion."""
    if force and not reason:
        raise ConfigurationError("a forced promotion needs a reason - give --reason 'why'")
    decided = _run(module, lambda life: life.promote(version, reason or "promoted", force=force))
    _say(module, decided)


def rollback(
    module: Module,
    to: Annotated[
        int | None, typer.Option(min=1, help="Version; the last earlier champion if absent.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; recorded in the ledger.")] = "",
) -> None:
    """Take back the version that is on its way, else the champion: an earlier one serves again."""
    _say(module, _run(module, lambda life: life.rollback(to, reason or "rolled back")))


def freeze(
    module: Module, reason: Annotated[str, typer.Option(help="Why; recorded in the ledger.")]
) -> None:
    """Let no version be rolled out further until `thaw`; a bad one is still taken back."""
    decided = _run(module, lambda life: life.steps.freeze(reason))
    out.print(
        f"roll-outs are frozen at {_share(decided.share)} for version {decided.version or 'none'}; "
        f"to go on: `driftloop thaw {module}`"
    )


def thaw(
    module: Module,
    reason: Annotated[str, typer.Option(help="Why; recorded in the ledger.")] = "",
) -> None:
    """Let roll-outs go on that were frozen."""
    _run(module, lambda life: life.steps.thaw(reason or "thawed"))
    out.print(f"roll-outs go on; see `driftloop models list {module}`")


def _run(module: str, action: Callable[..., Awaitable[T]]) -> T:
    """One action of a `Lifecycle`, in an event loop of its own."""
    from workers.releases.lifecycle import Lifecycle

    async def work(settings: Settings, pipeline: Pipeline) -> T:
        life = Lifecycle(settings, pipeline)
        try:
            await life.publisher.control.alive()
            return await action(life)
        finally:
            await life.close()

    with console.status("asking Triton and the ledger"):
        return asyncio.run(work(connected_settings(module), find_pipeline(module)))


def _say(module: str, decided: LedgerEntry) -> None:
    if decided.action is Action.REJECT:
        out.print(
            f"[green]version {decided.version} is taken back[/]; version {decided.previous} serves "
            "all, scoring workers switch within a second"
        )
        return
    out.print(
        f"[green]version {decided.version} serves[/] (before: {decided.previous or 'none'}); "
        f"scoring workers switch within a second. To undo: `driftloop rollback {module}"
        + (f" --to {decided.previous}`" if decided.previous else "`")
    )


def _on_its_way(now: LedgerState) -> str:
    """The roll-out in words; empty where there is none."""
    version = now.challenger
    said = {
        Stage.NONE: "",
        Stage.CANDIDATE: f"version {version} waits to be rolled out",
        Stage.SHADOW: f"version {version} is in the shadow of version {now.incumbent}",
        Stage.CANARY: f"version {version} serves {_share(now.share)}, {now.incumbent} the others",
        Stage.WATCH: f"version {version} is watched beside version {now.incumbent}"
        + (f", which serves {_share(1 - now.share)}" if now.share < 1 else ""),
    }[now.stage]
    if now.compared:
        said += f", since {_time(now.since)} of event time"
    if now.waiting:
        said += f"; version {now.waiting} is next"
    if now.frozen:
        said += f"{'; ' if said else ''}roll-outs are frozen by the {now.frozen}"
    return said


def _share(share: float) -> str:
    return f"{100 * share:g} % of the entities"


def _by(entry: LedgerEntry) -> str:
    return plain(f"{entry.by} {entry.who}" if entry.who else entry.by)


def _latest(entries: list[LedgerEntry]) -> dict[int, LedgerEntry]:
    return {entry.version: entry for entry in entries}


def _row(
    version: int, latest: LedgerEntry, now: LedgerState, metric: str, on_disk: bool
) -> tuple[str, ...]:
    manifest = now.versions.get(version)
    serves = "[green]champion[/]" if version == now.champion else ""
    if version == now.challenger and now.stage is not Stage.WATCH:
        serves = f"[yellow]{now.stage}{f' {100 * now.share:g} %' if now.share else ''}[/]"
    if not on_disk:
        serves += "[red]not on disk[/]"
    value = manifest.metrics.get(metric) if manifest else None
    return (
        str(version),
        serves,
        f"{latest.action} ({plain(latest.by)})",
        _time(manifest.label_watermark) if manifest and manifest.label_watermark else "-",
        "-" if value is None else f"{value:.4f}",
    )


def _describe(manifest: Manifest, task: Task) -> None:
    table = Table(
        title=f"{manifest.pipeline} version {manifest.version}",
        show_header=False,
        title_justify="left",
    )
    table.add_row("made", f"{_time(manifest.created_at)} by {manifest.code}")
    table.add_row("compared with", f"version {manifest.parent}" if manifest.parent else "none")
    if manifest.cause:
        table.add_row("made for", plain(manifest.cause))
    for name, span in manifest.slices.items():
        count, positives = manifest.counts.get(name, [0, 0])
        of_class = f", {positives} positive" if task.classes else ""
        table.add_row(name, f"{_time(span[0])} to {_time(span[1])}: {count} examples{of_class}")
    table.add_row("offsets", _offsets(manifest))
    if task.thresholds:
        table.add_row("threshold", f"{manifest.threshold:.4f}")
    for name, value in plain_metrics(manifest.metrics).items():
        table.add_row(name, f"{value:g}")
    for rule, verdict, number, bound in gate_rules(manifest.metrics):
        table.add_row(plain(f"gate: {rule}"), f"{verdict} ({number}, bound {bound})")
    for name, text in (*manifest.parameters.items(), *manifest.environment.items()):
        table.add_row(plain(name), plain(text))
    table.add_row("schema", manifest.schema_hash)
    table.add_row("sha256", manifest.model_sha256)
    out.print(table)


def _offsets(manifest: Manifest) -> str:
    return ",".join(f"{name}:{first}-{after}" for name, (first, after) in manifest.offsets.items())


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
