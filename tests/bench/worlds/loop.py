"""A world through the whole loop (`driftloop demo --pipeline`), in its own process, as figures."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.worlds.stream import Figures

SINCE = {"digits": 0.4, "mail": 0.4, "liver": 0.5, "groceries": 0.33, "machine": 0.4, "speech": 0.5}
"""Share of the labelled events from which on a world is judged, as its baselines are."""


def measure(name: str, limit: int | None = None) -> Figures:
    """What was served beside the first version left alone: over all that is judged, by quarter."""
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "outcome.json"
        options = ["--pipeline", name, "--since", str(SINCE[name]), "--json", str(file)]
        options += ["--limit", str(limit)] if limit else []
        command = [sys.executable, "-m", "workers.cli", "demo", *options]
        subprocess.run(command, check=True, stdout=sys.stderr)
        found = json.loads(file.read_text())
    everything, *quarters = found["spans"]
    sent = f"{found['events']:,} events, {found['judged']:,} judged"
    rows = [("loop: versions that became champion", f"{len(found['promoted'])}, of {sent}")]
    for who, said in (("loop", "loop"), ("alone", "first version alone")):
        for what in everything[who]:
            parts = " ".join(_shown(one[who], what) for one in quarters)
            whole = _shown(everything[who], what)
            rows.append((f"{said}: {what} by quarter", f"{parts}, of all {whole}"))
    return rows


def _shown(figures: dict[str, Any], what: str) -> str:
    return f"{figures[what]:.4f}" if what in figures else "-"
