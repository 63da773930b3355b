"""Which workers a loop runs."""

from __future__ import annotations

from streams.settings import Settings
from workers.processes.loop import _commands


def names(settings: Settings) -> list[str]:
    return [command.name for command in _commands("orders", settings, 2, {})]


def test_the_shadow_runs_where_it_is_asked_for() -> None:
    given = Settings(kafka="k:1", triton="t:1")
    assert "shadow" not in names(given)
    assert names(given.model_copy(update={"shadow": True})) == [
        "score-1",
        "score-2",
        "label",
        "evaluate",
        "shadow",
        "trainer",
    ]
