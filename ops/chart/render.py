"""Renders the chart for each values file into `rendered/`: `python ops/chart/render.py`.

Needs Helm 3 on the PATH. What it writes is committed and begins with the digest of what it was made
from, so that tests, which have no Helm, see when it is out of date.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

CHART = Path(__file__).parent
KUBERNETES = "1.29.0"
"""The oldest that the chart is for."""


def variants() -> list[str]:
    """The names of the values files."""
    return sorted(path.stem.removeprefix("values-") for path in CHART.glob("values-*.yaml"))


def digest(variant: str) -> str:
    """Of all that a rendering is made from."""
    made_from = [CHART / "Chart.yaml", CHART / "values.yaml", CHART / f"values-{variant}.yaml"]
    found = hashlib.sha256(KUBERNETES.encode())
    for path in [*made_from, *sorted((CHART / "templates").iterdir())]:
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def head(variant: str) -> str:
    """The first line of a rendering."""
    return f"# made by ops/chart/render.py from sha256:{digest(variant)}\n"


def render(variant: str) -> str:
    """What Helm makes of the chart.

    Raises:
        subprocess.CalledProcessError: it does not render; Helm has said why.
        FileNotFoundError: there is no Helm.
    """
    command = ["helm", "template", "driftloop", str(CHART), "--namespace", "driftloop"]
    command += ["--kube-version", KUBERNETES, "--values", str(CHART / f"values-{variant}.yaml")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return head(variant) + done.stdout


def main() -> None:
    """Write every rendering."""
    for variant in variants():
        (CHART / "rendered" / f"{variant}.yaml").write_text(render(variant))


if __name__ == "__main__":
    main()
