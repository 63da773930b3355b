"""Pictures drawn by matplotlib: as SVG whose colours are the page's, and as PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Draw = Callable[[Axes], None]
"""Draws a picture into its axes."""

LIGHT = {
    "page": "#ffffff",
    "ink": "#1b1f24",
    "faint": "#59636e",
    "line": "#d1d9e0",
    "bad": "#c1261d",
    "c0": "#1f6feb",
    "c1": "#bc4c00",
    "c2": "#1a7f37",
    "c3": "#8250df",
    "c4": "#bf3989",
    "c5": "#9a6700",
}
"""Colours by name: drawn as these, and on a page the variables of these names."""
DARK = {
    "page": "#0d1117",
    "ink": "#e6edf3",
    "faint": "#9198a1",
    "line": "#30363d",
    "bad": "#ff7b72",
    "c0": "#58a6ff",
    "c1": "#f0883e",
    "c2": "#3fb950",
    "c3": "#bc8cff",
    "c4": "#f778ba",
    "c5": "#d29922",
}
INK, FAINT, LINE, BAD = LIGHT["ink"], LIGHT["faint"], LIGHT["line"], LIGHT["bad"]
CYCLE = tuple(colour for name, colour in LIGHT.items() if re.fullmatch(r"c\d", name))
_SIZE = (5.2, 3.2)
"""Inches: on a phone's width its text of 9 points is still read."""
_NAMES = {colour: name for name, colour in LIGHT.items()}
_RULES: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
}


def legend(axes: Axes) -> None:
    """Name what is drawn, above the picture, where it covers nothing."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8, borderaxespad=0, frameon=False
    )


def as_svg(draw: Draw, name: str, title: str) -> str:
    """A picture as an SVG element to stand in a page; the same picture gives the same text.

    `title` is what it is called for those who cannot see it, escaped.
    """
    buffer = io.StringIO()
    with style.context({**_RULES, "svg.hashsalt": name}):
        _figure(draw).savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<!--.*?-->| xmlns(:\w+)?="[^"]*"| id="[\w.]+_\d+"', "", text)
    text = re.sub(r' (?:d|x|y)="[^"]*"', lambda found: _rounded(found[0]), text)
    text = re.sub(r"\s*\n\s*", "\n", text).replace("xlink:href", "href")
    text = text.replace("'DejaVu Sans'", "system-ui, sans-serif")
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: _variable(found[0]), text)
    called = f'<svg role="img" aria-label="{title}" viewBox'
    return re.sub(r"<svg [^>]*viewBox", lambda _: called, text, count=1)


def write_png(draw: Draw, title: str, path: Path) -> Path:
    """Write a picture with its title to a PNG file, light."""
    with style.context(_RULES):
        figure = _figure(draw)
        figure.suptitle(title, fontsize=10)
        figure.savefig(path, dpi=160, facecolor=LIGHT["page"])
    return path


def _figure(draw: Draw) -> Figure:
    figure = Figure(figsize=_SIZE)
    draw(figure.add_subplot())
    return figure


def _rounded(numbers: str) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", numbers)


def _variable(colour: str) -> str:
    return f"var(--{_NAMES[colour]})" if colour in _NAMES else colour
