"""`tail`, `settings`: what a pipeline's users run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from streams.errors import ConfigurationError
from streams.kafka.reading import TopicFollower
from streams.kafka.topics import topic_exists
from streams.ports.batches import SourceRecord
from streams.settings import PREFIX, Settings
from streams.spec import Pipeline
from streams.spec.times import readable
from workers.environment import connected_settings, find_pipeline
from workers.operations.rates import TopicRate, rates
from workers.terminal import Module, note, out


class Stream(StrEnum):
    """What `tail` can show."""

    predictions = "predictions"
    dead_letters = "dead-letters"
    metrics = "metrics"
    scored = "scored"
    examples = "examples"
    models = "models"


def tail(
    module: Module,
    stream: Annotated[Stream, typer.Argument(help="What to show.")] = Stream.predictions,
    limit: Annotated[int, typer.Option("-n", help="Stop after so many; 0: never.")] = 0,
    beginning: Annotated[bool, typer.Option(help="Start with the oldest.")] = False,
) -> None:
    """Show what flows: predictions, dead letters, examples, the ledger, or live rates and lag."""
    pipeline = find_pipeline(module)
    settings = connected_settings(module, needs=("kafka",))
    with suppress(KeyboardInterrupt):
        if stream is Stream.metrics:
            asyncio.run(_tail_metrics(settings, pipeline, limit))
        else:
            topic = f"{pipeline.name}.{stream.value}"
            asyncio.run(_tail_topic(settings, topic, limit, beginning))


async def _tail_topic(settings: Settings, topic: str, limit: int, beginning: bool) -> None:
    follower = TopicFollower(settings, topic, start="earliest" if beginning else "latest")
    if not await topic_exists(settings, topic):
        raise ConfigurationError(
            f"there is no topic {topic} yet - `driftloop up` makes the topics of a pipeline"
        )
    await follower.start()
    note(f"{topic} - Ctrl-C ends")
    shown = 0
    try:
        while True:
            for record in await follower.poll():
                out.print_json(json.dumps(_readable(record)), indent=None, ensure_ascii=True)
                shown += 1
                if shown == limit:
                    return
    finally:
        await follower.stop()


def _readable(record: SourceRecord) -> dict[str, Any]:
    if record.headers:  # a dead letter: the record as it came, its cause in headers
        value = (record.value or b"").decode(errors="backslashreplace")
        headers = {
            name: None if text is None else text.decode(errors="backslashreplace")
            for name, text in record.headers
        }
        return headers | {"value": value[:2000]}
    try:
        found = json.loads(record.value or b"null")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        said = (record.value or b"").decode(errors="backslashreplace")
        return {"key": (record.key or b"").decode(errors="backslashreplace"), "value": said[:2000]}
    at = found.get("event_time", found.get("at"))
    if isinstance(at, int | float):
        found["time"] = readable(at)
    return found


async def _tail_metrics(settings: Settings, pipeline: Pipeline, limit: int) -> None:
    shown = 0
    with Live(auto_refresh=False) as live:
        async for sample in rates(settings, pipeline):
            live.update(_rates_table(pipeline, sample), refresh=True)
            shown += 1
            if shown == limit:
                return


def _rates_table(pipeline: Pipeline, sample: Sequence[TopicRate]) -> Table:
    table = Table("topic", "records", "per second", "lag", title=f"Pipeline {pipeline.name}")
    for one in sample:
        lag = "" if one.lag is None else f"{one.lag:,}"
        table.add_row(one.topic, f"{one.records:,}", f"{one.per_second:,.0f}", lag)
    return table


def show_settings(
    markdown: Annotated[bool, typer.Option(help="As a Markdown table, for the docs.")] = False,
) -> None:
    """List every setting: its environment variable, its default, and what it is for."""
    rows = [
        (
            f"{PREFIX}{name.upper()}",
            _default(field.default),
            " ".join((field.description or "").split()),
        )
        for name, field in Settings.model_fields.items()
    ]
    if markdown:
        typer.echo("| Variable | Default | Meaning |\n|---|---|---|")
        for variable, default, meaning in rows:
            typer.echo(f"| `{variable}` | {default and f'`{default}`'} | {meaning} |")
        return
    for variable, default, meaning in rows:
        out.print(f"[bold]{variable}[/] {escape(default and f'({default})')}")
        out.print(Padding(escape(meaning), (0, 0, 0, 4)))


def _default(value: Any) -> str:
    shown = "" if value is None or "PydanticUndefined" in str(value) else str(value)
    return "" if "*" in shown else shown
