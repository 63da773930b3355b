"""A page: it loads nothing, escapes everything, follows light and dark, and is the same again."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

from matplotlib.axes import Axes

from workers.reports.drawing import CYCLE, DARK, LIGHT, legend
from workers.reports.page import Page, Picture, Rows, Section

HOSTILE = """<script>alert(1)</script>"><img src=https://x.example/y onerror='1'>&amp;$x_1$"""
TAGS = """
html head meta title style body section h1 h2 h3 p div figure b figcaption table thead tbody
tr th td svg defs g path text use clippath rect
"""
KNOWN = set(TAGS.split())


def draw(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=CYCLE[0], marker="o", label=HOSTILE)
    axes.fill_between([0, 1], [0, 0], [1, 2], color=CYCLE[1], alpha=0.2)
    axes.set_xlabel(HOSTILE)
    legend(axes)


def page(name: str = "one") -> Page:
    picture = Picture(name, HOSTILE, HOSTILE, draw)
    table = Rows(HOSTILE, HOSTILE, (HOSTILE,), [(HOSTILE,)])
    section = Section(HOSTILE, HOSTILE, [picture], [table, Rows("", "", (), [(HOSTILE, "1")])])
    return Page(HOSTILE, HOSTILE, [section])


class Read(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_holds_no_markup_but_its_own_and_shows_the_text_as_it_is() -> None:
    found = Read(page().html())
    assert found.tags <= KNOWN
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert found.text.count(HOSTILE) >= 10


def test_it_loads_nothing() -> None:
    found = Read(page().html())
    links = [value for name, value in found.attributes if name in ("src", "href", "xlink:href")]
    assert links
    assert all(value.startswith("#") for value in links)
    urls = re.findall(r"url\((.*?)\)", page().html())
    assert all(url.startswith("#") for url in urls)
    assert "@import" not in page().html()
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in found.attributes


def test_its_pictures_are_sound_and_have_the_colours_of_light_and_dark() -> None:
    assert LIGHT.keys() == DARK.keys()
    html = page().html()
    [svg] = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    ElementTree.fromstring(svg)
    colours = set(re.findall(r"var\(--(\w+)\)", svg))
    assert {"c0", "c1", "ink", "line"} <= colours <= LIGHT.keys()
    assert not re.findall(r"(?:fill|stroke): #", svg)
    for name in colours:
        assert f"--{name}: {LIGHT[name]};" in html
        assert f"--{name}: {DARK[name]};" in html


def test_the_same_page_is_the_same_text_and_pictures_share_no_name() -> None:
    assert page().html() == page().html()
    names = [set(re.findall(r' id="(\w+)"', page(name).html())) for name in ("one", "two")]
    assert names[0]
    assert not names[0] & names[1]


def test_it_is_readable_on_a_phone() -> None:
    found = Read(page().html())
    assert ("content", "width=device-width, initial-scale=1") in found.attributes
    # wide tables scroll by themselves, pictures shrink
    assert '<div class="wide"><table>' in page().html()
    assert "svg { width: 100%" in page().html()


def test_its_pictures_can_be_had_as_png(tmp_path: Path) -> None:
    [path] = page().write_pictures(tmp_path / "made" / "here")
    assert path == tmp_path / "made" / "here" / "one.png"
    assert path.read_bytes().startswith(b"\x89PNG")
