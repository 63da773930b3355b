"""`dlq`: what could not be processed, why, and another try."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from streams.dead_letters import DeadLetter
from streams.errors import ConfigurationError
from streams.spec.durations import seconds
from workers.environment import connected_settings, find_pipeline
from workers.operations.dead_letters import read_dead_letters
from workers.operations.dead_letters import replay as put_back
from workers.terminal import Module, out, plain

app = typer.Typer(no_args_is_help=True, help="Dead letters: list, show, replay.")

Cause = Annotated[str | None, typer.Option(help="Only those with this cause.")]
_SHOWN = 60


@app.command("list")
def list_letters(
    module: Module,
    cause: Cause = None,
    since: Annotated[str | None, typer.Option(help="Only the latest, as in 2h or 7d.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="Show so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List bad records: how many by cause, and the newest."""
    after = time.time() - seconds(since, "--since") if since else 0.0
    letters = [
        letter
        for letter in _read(module)
        if letter.at >= after and (cause is None or letter.cause == cause)
    ]
    if as_json:
        for letter in letters[-limit:]:
            typer.echo(json.dumps(_as_dict(letter)))
        return
    if not letters:
        out.print("no dead letters")
        return
    counts = Counter((letter.cause, letter.replayed) for letter in letters)
    totals = Table("Cause", "Open", "Replayed", title="Dead letters", title_justify="left")
    for name in sorted({name for name, _ in counts}):
        totals.add_row(plain(name), f"{counts[name, False]:,}", f"{counts[name, True]:,}")
    out.print(totals)
    table = Table("Reference", "When (UTC)", "Cause", "Why", "Came from", "Value")
    for letter in letters[-limit:]:
        table.add_row(*_row(letter))
    out.print(table)
    out.print(
        "one in full: driftloop dlq show REFERENCE MODULE; "
        "back into the stream: driftloop dlq replay REFERENCE... MODULE"
    )


@app.command()
def show(
    reference: Annotated[str, typer.Argument(help="As `dlq list` shows it.")], module: Module
) -> None:
    """Show one bad record: why, where it came from, headers, key and value."""
    letter = _picked(_read(module), [reference])[0]
    for name, text in _as_dict(letter).items():
        if name != "value":
            out.print(f"[bold]{name}[/]  {plain(text)}", soft_wrap=True)
    value = letter.value or b""
    try:
        out.print_json(value.decode(), ensure_ascii=True)
    except (ValueError, RecursionError):
        out.print(escape(_hexdump(value)), soft_wrap=True)


@app.command()
def replay(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[REFERENCE]... MODULE", help="References as `dlq list` shows them, if any."
        ),
    ],
    cause: Cause = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are open.")] = False,
    again: Annotated[bool, typer.Option(help="Also those that were replayed before.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Say what would be replayed, no more.")] = False,
) -> None:
    """Put bad records back onto the topic that they came from, once the cause is fixed.

    Safe to repeat: what was replayed is not replayed twice, and an event that has had its
    prediction is dropped as a duplicate. A record that fails again comes back as a new dead letter
    with its number of attempts.
    """
    *references, module = arguments
    if sum([bool(references), cause is not None, everything]) != 1:
        raise ConfigurationError("say what to replay: REFERENCE..., --cause CAUSE, or --all")
    settings, pipeline = connected_settings(module, needs=("kafka",)), find_pipeline(module)
    found = asyncio.run(read_dead_letters(settings, pipeline))
    if references:
        picked = _picked(found, references)
    else:
        picked = [letter for letter in found if cause in (None, letter.cause)]
    chosen = [letter for letter in picked if again or not letter.replayed]
    if not chosen:
        done = len(picked)
        out.print(
            f"nothing to replay: {done} replayed before (--again)" if done else "nothing to replay"
        )
        return
    targets = Counter(letter.source[0] for letter in chosen)
    where = ", ".join(f"{count:,} onto {topic}" for topic, count in targets.items())
    if dry_run:
        out.print(f"would replay {where}")
        return
    asyncio.run(put_back(settings, pipeline, chosen))
    out.print(f"replayed {where}; see what came of it: driftloop dlq list {module}")


def _read(module: str) -> list[DeadLetter]:
    return asyncio.run(
        read_dead_letters(connected_settings(module, needs=("kafka",)), find_pipeline(module))
    )


def _picked(letters: list[DeadLetter], references: list[str]) -> list[DeadLetter]:
    known = {letter.reference: letter for letter in letters}
    for reference in references:
        if reference not in known:
            raise ConfigurationError(
                f"no dead letter {reference!r} - `driftloop dlq list` shows their references"
            )
    return [known[reference] for reference in references]


def _as_dict(letter: DeadLetter) -> dict[str, object]:
    topic, partition, offset = letter.source
    return {
        "reference": letter.reference,
        "at": datetime.fromtimestamp(letter.at, UTC).isoformat(timespec="seconds"),
        "cause": letter.cause,
        "detail": letter.detail,
        "source": f"{topic}, partition {partition}, offset {offset}",
        "attempts": letter.attempts,
        "replayed": letter.replayed,
        "headers": {
            name: None if text is None else text.decode(errors="backslashreplace")
            for name, text in letter.headers
        },
        "size": len(letter.value or b"") if letter.size is None else letter.size,
        "key": (letter.key or b"").decode(errors="backslashreplace"),
        "value": (letter.value or b"").decode(errors="backslashreplace"),
    }


def _row(letter: DeadLetter) -> list[str]:
    topic, partition, offset = letter.source
    when = datetime.fromtimestamp(letter.at, UTC).strftime("%m-%d %H:%M:%S")
    cause = letter.cause + (", replayed" if letter.replayed else "")
    value = (letter.value or b"")[:_SHOWN].decode(errors="backslashreplace")
    source = f"{topic} {partition}-{offset}"
    if not letter.whole:
        value = f"{letter.size:,} bytes: {value}"
    return [letter.reference, when, *map(plain, (cause, letter.detail[:200], source, value))]


def _hexdump(value: bytes, limit: int = 4096) -> str:
    lines = []
    for start in range(0, min(len(value), limit), 16):
        part = value[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):47}  {text}")
    if len(value) > limit:
        lines.append(f"... {len(value):,} bytes in all")
    return "\n".join(lines)
