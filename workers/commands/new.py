"""`driftloop new`: a pipeline to begin with, and its test."""

from __future__ import annotations

import re
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from streams.errors import ConfigurationError
from workers.terminal import out

_TEST = '''"""What {module} says of events, in memory: no server is needed."""

import asyncio

from {module} import pipeline
from streams.testing import Rehearsal, sample_events


def test_each_event_is_answered():
    events = sample_events(pipeline, 20)
    result = asyncio.run(Rehearsal(pipeline).score(events))
    assert result.dead_letters == []
    assert len(result.predictions) == len(events)
    assert all(one.degraded for one in result.predictions)  # there is no version yet
'''


class StarterKind(StrEnum):
    """What is to be predicted, and from what."""

    fraud = "fraud"
    image = "image"
    text = "text"
    value = "value"


def new(
    name: Annotated[str, typer.Argument(help="Of the pipeline, as in `returns`.")],
    kind: Annotated[StarterKind, typer.Option(help="What it is most like.")] = StarterKind.fraud,
) -> None:
    """Write a pipeline to begin with, and its test, into this directory; nothing is overwritten."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{1,60}", name):
        raise ConfigurationError(
            f"{name!r} cannot name topics - use lower-case letters, digits and -, starting with a "
            "letter"
        )
    module = name.replace("-", "_")
    source = files("workers.starters").joinpath(f"{kind.value}.py").read_text(encoding="utf-8")
    made = {
        Path(f"{module}.py"): source.replace('name="starter"', f'name="{name}"'),
        Path(f"test_{module}.py"): _TEST.format(module=module),
    }
    for path, text in made.items():
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise ConfigurationError(f"{path} is there already - use another name") from None
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
        out.print(f"wrote {path}")
    out.print(f"next, `driftloop check {module}.py`")
