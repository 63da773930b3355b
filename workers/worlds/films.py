"""Films and who liked them: MovieLens 100K, with the times of its ratings."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from workers.worlds.packages import Package
from workers.worlds.world import DataWorld, Happening

LIKED = 4
"""Stars from which on a film was liked."""
KNOWN_AFTER = 600.0
"""Seconds until the stars are given."""
OFFERED = 100
SEEN = 200

_HOME = Path("recbole", "dataset_example", "ml-100k")


def read(home: Path) -> Iterator[Happening]:
    """All 100,000 ratings by time; those of one second by user and film."""
    users = {
        row["user_id"]: {
            "age": int(row["age"]),
            "gender": row["gender"],
            "occupation": row["occupation"],
        }
        for row in _rows(home / _HOME / "ml-100k.user")
    }
    films = {row["item_id"]: _film(row) for row in _rows(home / _HOME / "ml-100k.item")}
    ratings = [
        (float(row["timestamp"]), int(row["user_id"]), int(row["item_id"]), float(row["rating"]))
        for row in _rows(home / _HOME / "ml-100k.inter")
    ]
    for at, user, film, stars in sorted(ratings):
        fields = {"film": str(film), **films[str(film)], **users[str(user)]}
        liked = float(stars >= LIKED)
        yield Happening(f"{user}-{film}", str(user), at, fields, liked, at + KNOWN_AFTER)


def _film(row: Mapping[str, str]) -> dict[str, Any]:
    said = {"title": row["movie_title"], "genres": row["class"]}
    year = row["release_year"]
    return said | ({"year": int(year)} if year.isdigit() else {})


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """Lines of a file whose columns are separated by tabs and named `name:type`."""
    with path.open(newline="", encoding="utf-8") as lines:
        table = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        names = [column.split(":")[0] for column in next(table)]
        for line in table:
            yield dict(zip(names, line, strict=True))


def read_choices(home: Path) -> Iterator[Happening]:
    """Each rating as a request: the film among 99 others that the user never rates, in any order.

    What he has seen are the films whose stars he has given before, the latest 200.
    """
    happenings = list(read(home))
    catalogue = sorted({int(one.fields["film"]) for one in happenings})
    rated = defaultdict[str, set[int]](set)
    for one in happenings:
        rated[one.key].add(int(one.fields["film"]))
    given = defaultdict[str, list[tuple[float, int]]](list)
    for one in happenings:
        film, random = int(one.fields["film"]), Random(one.event_id)  # noqa: S311 - no secret
        others = [other for other in random.sample(catalogue, 5 * OFFERED) if other != film]
        offered = [other for other in others if other not in rated[one.key]][: OFFERED - 1]
        offered.insert(random.randrange(len(offered) + 1), film)
        seen = [earlier for known, earlier in given[one.key] if known <= one.at][-SEEN:]
        given[one.key].append((one.labelled_at, film))
        fields = {"seen": seen, "films": offered}
        yield one._replace(fields=fields, label=1.0, item=str(film))


_PACKAGES = (
    Package(
        name="recbole",
        version="1.2.1",
        sha256=("9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",),
        megabytes=2.1,
        licence="MIT; the ratings' own is GroupLens'",
    ),
)
_LICENCE = "MovieLens 100K (GroupLens): for research, no redistribution, no commercial use"
_TIMES = "real (1997-09 to 1998-04), the times of ratings; each is known ten minutes later"

CHOICES = DataWorld(
    name="choices",
    key="user",
    licence=_LICENCE,
    schema=(
        "seen, the films that the user has rated; films, 100 on offer; label: 1 of the one, named "
        "by item, that he rates next"
    ),
    times=_TIMES,
    packages=_PACKAGES,
    read=read_choices,
)
FILMS = DataWorld(
    name="films",
    key="user",
    licence=_LICENCE,
    schema=(
        "film, title, genres (words apart by blanks), year where known; the user's age, gender, "
        "occupation; label: 1 if the user gave 4 stars or 5"
    ),
    times=_TIMES,
    packages=_PACKAGES,
    read=read,
)
