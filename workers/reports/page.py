"""A page: one HTML file that needs no network, is readable on a phone, in light and in dark.

Whatever text it shows is escaped, and its own policy lets a browser load and run nothing.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.reports.drawing import DARK, LIGHT, Draw, as_svg, write_png

_STYLE = """
:root {{ color-scheme: light dark; {light} }}
@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 0 auto; padding: 1rem;
  background: var(--page); color: var(--ink) }}
h1 {{ margin-bottom: 0 }} h2 {{ margin-top: 2.5rem }}
.pictures {{ display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)) }}
figure {{ margin: 0 }} figcaption, .says {{ font-size: .9rem; color: var(--faint) }}
figure b {{ display: block }} svg {{ width: 100%; height: auto }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-size: .9rem; margin: .5rem 0 }}
th, td {{ text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: break-word; max-width: 36rem }}
td {{ font-variant-numeric: tabular-nums }} th {{ font-weight: 500 }}
"""


@dataclass(frozen=True)
class Picture:
    """A picture with the sentence that says what it shows, and what to do about it."""

    name: str
    """Of its file, without ending."""
    title: str
    says: str
    draw: Draw


@dataclass(frozen=True)
class Rows:
    """A table."""

    title: str
    says: str
    head: tuple[str, ...]
    """Empty for rows that name themselves in their first column."""
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Section:
    """A part of a page; what there is nothing to show of yet is said in `says`."""

    title: str
    says: str = ""
    pictures: Sequence[Picture] = ()
    tables: Sequence[Rows] = ()


@dataclass(frozen=True)
class Page:
    """A report."""

    title: str
    says: str
    sections: Sequence[Section]

    def html(self) -> str:
        """The page as one HTML document."""
        style = _STYLE.format(light=_variables(LIGHT), dark=_variables(DARK))
        return "".join(
            [
                '<!doctype html><html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
                "style-src 'unsafe-inline'\">",
                f"<title>{html.escape(self.title)}</title><style>{style}</style></head><body>",
                f"<h1>{html.escape(self.title)}</h1>{_says(self.says)}",
                *map(_section, self.sections),
                "</body></html>\n",
            ]
        )

    def write(self, path: Path) -> None:
        """Write the page to a file."""
        path.write_text(self.html(), encoding="utf-8")

    def write_pictures(self, folder: Path) -> list[Path]:
        """Write each picture to a PNG file of its name in a folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        return [
            write_png(one.draw, one.title, folder / f"{one.name}.png") for one in self._pictures()
        ]

    def _pictures(self) -> Iterator[Picture]:
        for section in self.sections:
            yield from section.pictures


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


def _says(text: str) -> str:
    return f'<p class="says">{html.escape(text)}</p>' if text else ""


def _section(section: Section) -> str:
    pictures = "".join(map(_figure, section.pictures))
    return (
        f"<section><h2>{html.escape(section.title)}</h2>{_says(section.says)}"
        + (f'<div class="pictures">{pictures}</div>' if pictures else "")
        + "".join(map(_table, section.tables))
        + "</section>"
    )


def _figure(picture: Picture) -> str:
    title = html.escape(picture.title)
    return (
        f"<figure><b>{title}</b>{as_svg(picture.draw, picture.name, title)}"
        f"<figcaption>{html.escape(picture.says)}</figcaption></figure>"
    )


def _table(table: Rows) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.head)
    rows = "".join(_row(row, named=not table.head) for row in table.rows)
    title = f"<h3>{html.escape(table.title)}</h3>" if table.title else ""
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    body = f'<div class="wide"><table>{head}<tbody>{rows}</tbody></table></div>'
    return f"{title}{_says(table.says)}{body}"


def _row(row: tuple[str, ...], named: bool) -> str:
    cells = [f"<td>{html.escape(text)}</td>" for text in row]
    if named:
        cells[0] = f"<th>{html.escape(row[0])}</th>"
    return f"<tr>{''.join(cells)}</tr>"
