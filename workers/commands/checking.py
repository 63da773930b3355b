"""`check`: what a pipeline's author runs before anything is started."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from streams.errors import ConfigurationError, PipelineError
from streams.spec import Pipeline, Transform
from streams.spec.durations import text
from streams.spec.functions import place_of
from streams.spec.layout import features_of
from streams.testing import Rehearsal, Rehearsed, sample_events
from streams.testing.rehearsal import check_alone
from streams.versions import learned
from workers.environment import find_pipeline
from workers.terminal import Module, console, out, plain
from workers.training.trying import try_model

_ALONE = 100
"""Of the sample events, so many are scored once more, one by one."""


def check(
    module: Module,
    events: Annotated[
        Path | None,
        typer.Option(
            help="File of events, one JSON object a line; made from the schema if absent."
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many sample events to make.")] = 100,
    model: Annotated[
        bool, typer.Option(help="Also build, export and run the model, which takes seconds.")
    ] = True,
) -> None:
    """Validate a pipeline, run sample events through it, and try its model; without a server."""
    pipeline = find_pipeline(module)
    _describe(pipeline)
    sample = _sample(pipeline, events, count)
    result = Rehearsed()
    if sample:
        with warnings.catch_warnings():  # numpy's: what is not finite is told below
            warnings.simplefilter("ignore")
            result = asyncio.run(_rehearsed(pipeline, module, sample))
    if model:
        served = [one.vector for one in result.scored]
        rows = pipeline.layout.unpack(served) if served else pipeline.layout.zeros(3)
        with console.status("trying the model, which takes seconds"):
            try_model(pipeline.learned, module, learned(pipeline).of(rows))
    out.print(f"[green]ok[/] {pipeline.name}: next, `driftloop up {plain(module)}`")


async def _rehearsed(pipeline: Pipeline, module: str, sample: list[Any]) -> Rehearsed:
    result = await Rehearsal(pipeline).score(sample)
    _describe_result(pipeline, result, len(sample))
    if not result.predictions:
        raise ConfigurationError(_why_none(pipeline, module, result))
    await check_alone(pipeline, sample[:_ALONE], result)
    return result


def _why_none(pipeline: Pipeline, module: str, result: Rehearsed) -> str:
    """Why no event at all could be scored: what the first one says."""
    letter = result.dead_letters[0]
    if letter["cause"] == "feature":  # which says where, and what to do
        return f"a feature fails on the sample events: {letter['detail']}"
    if letter["cause"] == "not-finite":
        for feature in pipeline.computed:
            if isinstance(feature, Transform) and f"feature {feature.name} " in letter["detail"]:
                module = place_of(feature.function) or module
    return (
        f"{module}: no sample event could be scored: {letter['cause']}: {letter['detail']} - "
        "correct the pipeline, or give events of your own with --events"
    )


def _sample(pipeline: Pipeline, events: Path | None, count: int) -> list[Any]:
    """Events from a file, or made; none where the schema's validators let none pass."""
    if events is not None:
        found = list(_lines(events))
        if not found:
            raise ConfigurationError(f"{events} has no events - give a file of JSON lines")
        return found
    try:
        return list(sample_events(pipeline, count))
    except PipelineError as error:
        out.print(f"[yellow]no sample events[/] {plain(error)}")
        return []


def _lines(path: Path) -> Iterator[bytes]:
    try:
        yield from (line for line in path.read_bytes().splitlines() if line.strip())
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path} ({error.strerror}) - give a file of JSON lines"
        ) from None


def _describe(pipeline: Pipeline) -> None:
    table = Table(title=f"Pipeline {pipeline.name}", show_header=False, title_justify="left")
    event, feedback = pipeline.event, pipeline.feedback
    table.add_row("event", f"{event.schema.__name__}: id {event.id}, key {event.key}, {event.time}")
    table.add_row("predicts", plain(str(pipeline.predicts)))
    if names := pipeline.feature_names:
        table.add_row("features", plain(f"{len(names)}: {', '.join(names)}"))
    if pipeline.all_inputs:
        shapes = [
            f"{one.name} {list(one.shape)}"
            for one in (given.tensor for given in pipeline.all_inputs)
        ]
        table.add_row("inputs", plain(", ".join(shapes)))
    absent = "left out" if feedback.missing is None else f"label {feedback.missing:g}"
    table.add_row("feedback", f"horizon {text(feedback.horizon_seconds)}; no label: {absent}")
    retrain = pipeline.policies.retrain
    table.add_row("retrain", f"every {retrain.every} on the last {retrain.window}")
    table.add_row("delivery", pipeline.policies.delivery)
    table.add_row("schema", pipeline.schema_hash)
    out.print(table)


def _describe_result(pipeline: Pipeline, result: Rehearsed, count: int) -> None:
    for letter in result.dead_letters[:5]:
        out.print(f"[yellow]dead letter[/] {plain(letter['cause'])}: {plain(letter['detail'])}")
    rejected, predicted = len(result.dead_letters), len(result.predictions)
    out.print(
        f"{count} sample events: {predicted} predictions, {rejected} dead letters, "
        f"{count - predicted - rejected} duplicates"
    )
    if result.scored and pipeline.computed:
        last = result.scored[-1]
        [vector] = features_of(pipeline.layout.unpack([last.vector])).tolist()
        named = zip(pipeline.feature_names, vector, strict=True)
        shown = ", ".join(f"{name}={value:g}" for name, value in named)
        out.print(f"last vector: {plain(shown)}", soft_wrap=True)
