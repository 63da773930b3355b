"""Each world read from a tiny package of its shape."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from streams.errors import ConfigurationError
from workers.worlds import digits, films, groceries, liver, machine, mail
from workers.worlds.packages import TARBALL
from workers.worlds.pickles import load

DAY = 86_400


def put(home: Path, name: str, content: bytes) -> Path:
    file = home / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def pickled(value: object) -> bytes:
    """As numpy 1 wrote it, whose module the packages' pickles name."""
    return pickle.dumps(value, protocol=3).replace(b"numpy._core.", b"numpy.core.")


def test_mnist_is_read_from_its_pickle(tmp_path: Path) -> None:
    images = np.zeros((2, 784), np.float32)
    images[1, 5] = 255 / 256
    part = (images, np.array([3, 7]))
    put(tmp_path, "mnist/data/mnist.pkl.gz", gzip.compress(pickled((part, part, part))))
    found = list(digits.read_mnist(tmp_path))
    assert [one.label for one in found] == [3, 7] * 3
    assert base64.b64decode(found[1].fields["image"]) == bytes(5) + b"\xff" + bytes(778)
    assert [one.labelled_at - one.at for one in found] == pytest.approx([600] * 6)
    assert len({one.event_id for one in found}) == 6


def test_small_digits_have_the_size_of_the_large_ones() -> None:
    found = list(digits.read_small())
    assert len(found) == 1797
    assert {len(base64.b64decode(one.fields["image"])) for one in found} == {784}
    image = np.frombuffer(base64.b64decode(found[0].fields["image"]), np.uint8).reshape(28, 28)
    assert image.max() == 239  # 15 of 16
    assert not image[:2].any()
    assert (image[2:26:3, 2:26:3] == image[4:26:3, 4:26:3]).all()


@pytest.mark.parametrize("command", [os.getcwd, eval, pd.read_pickle])
def test_a_pickle_that_does_something_is_refused(command: object, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return command, ("1",)

    with pytest.raises(ConfigurationError, match=r"trap cannot be read: it names .* no array"):
        load(io.BytesIO(pickle.dumps([np.zeros(2), Trap()])), tmp_path / "trap")


def test_a_pickle_that_ends_early_is_one_line(tmp_path: Path) -> None:
    content = pickled(np.arange(100))[:-20]
    with pytest.raises(ConfigurationError, match="short cannot be read"):
        load(io.BytesIO(content), tmp_path / "short")


def tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


LATE = """From x Thu Aug 22 13:17:22 2002
Received: from a by b; Thu, 22 Aug 2002 08:17:21 -0400 (EDT)
From: Ann <Ann@Example.org>
Subject: =?iso-8859-1?Q?Gr=FC=DFe?=
Date: Mon, 1 Jan 2036 00:00:00 +0000
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary=part

--part
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Gr=FC=DFe
--part
Content-Type: text/html; charset=no-such-charset

<b>now</b>
--part
Content-Type: image/gif
Content-Transfer-Encoding: base64

R0lGODdh
--part--
"""
EARLY = """From: bob@example.org
Date: Tue, 20 Aug 2002 10:00:00 +0200
Subject: =?no-such?Q?x?=

hello
"""


def test_mails_come_by_when_they_were_received(tmp_path: Path) -> None:
    def stored(number: str, group: str, text: str) -> bytes:
        return json.dumps({"id": number, "group": group, "checksum": {}, "text": text}).encode()

    files = {
        "package/data/file_list.json": b"[]",
        "package/package.json": b"{}",
        "package/data/spam-1/00001.a.json": stored("00001", "spam-1", LATE),
        "package/data/spam-1/00001.a.txt": b"the same again",
        "package/data/easy-ham-1/00001.b.json": stored("00001", "easy-ham-1", EARLY),
    }
    put(tmp_path, TARBALL, tar(files))
    early, late = mail.read(tmp_path)
    assert (early.event_id, early.key, early.label) == ("easy-ham-1-00001", "bob@example.org", 0.0)
    assert (late.event_id, late.key, late.label) == ("spam-1-00001", "ann@example.org", 1.0)
    assert late.at == pd.Timestamp("2002-08-22T12:17:21Z").timestamp()
    assert late.fields["subject"] == "Grüße"
    assert late.fields["body"].split() == ["Grüße", "<b>now</b>"]
    assert early.fields == {"subject": "=?no-such?Q?x?=", "body": "hello\n"}
    assert late.labelled_at == late.at + DAY


def test_ratings_come_by_time_with_who_and_what(tmp_path: Path) -> None:
    home = "recbole/dataset_example/ml-100k/ml-100k"
    users = (
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "1\t24\tM\tlawyer\t0\n"
    )
    items = (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        '7\tA "B\t1995\tComedy Drama\n8\tC\tunknown\tWar\n'
    )
    ratings = (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "1\t7\t4\t881250949\n1\t8\t3\t881250900\n"
    )
    for name, text in (("user", users), ("item", items), ("inter", ratings)):
        put(tmp_path, f"{home}.{name}", text.encode())
    first, second = films.read(tmp_path)
    about = {"age": 24, "gender": "M", "occupation": "lawyer"}
    assert first.fields == {"film": "8", "title": "C", "genres": "War", **about}
    assert second.fields["year"] == 1995
    assert second.fields["title"] == 'A "B'
    assert [(one.event_id, one.label) for one in (first, second)] == [("1-8", 0.0), ("1-7", 1.0)]


def test_readings_of_a_machine(tmp_path: Path) -> None:
    table = "f1,f2,anomaly\n50,21,1\n53,-2,0\n"
    put(tmp_path, "river/datasets/shuttle.csv.gz", gzip.compress(table.encode()))
    first, second = machine.read(tmp_path)
    assert first.fields == {"f1": 50.0, "f2": 21.0}
    assert (first.label, second.label, second.fields["f2"]) == (1.0, 0.0, -2.0)
    assert second.at > first.at
    assert list(machine.read(tmp_path)) == [first, second]  # the clock is seeded


PEOPLE = pd.DataFrame(
    [(1, 60, 1, 80.0, 180.0, np.nan, 2000), (2, 50, 0, 70.0, np.nan, 24.0, 500)],
    columns=["id", "age", "male", "weight", "height", "bmi", "futime"],
)
TESTS = pd.DataFrame(
    [
        (1, 0, "hdl", 50.0),
        (1, 0, "chol", 200.0),
        (1, 400, "hdl", 51.0),  # alone: no visit
        (1, 1000, "hdl", 52.0),
        (1, 1000, "sbp", 120.0),
        (1, 1200, "hdl", 53.0),  # after the diagnosis
        (1, 1200, "chol", 190.0),
        (2, -5, "hdl", 60.0),  # before entry
        (2, -5, "chol", 210.0),
        (2, 100, "hdl", 61.0),  # not followed for two years from here
        (2, 100, "chol", 215.0),
        (3, 0, "hdl", 1.0),  # of nobody
        (3, 0, "chol", 1.0),
    ],
    columns=["id", "days", "test", "value"],
)
DIAGNOSES = pd.DataFrame(
    [(1, 1100, "diabetes"), (1, -10, "htn"), (1, 900, "MI"), (1, 1500, "diabetes")],
    columns=["id", "days", "event"],
)


def test_visits_are_labelled_by_what_was_diagnosed_within_two_years() -> None:
    found = {one.event_id: one for one in liver.happenings(PEOPLE, TESTS, DIAGNOSES)}
    assert found.keys() == {"1-0", "1-1000", "2-100"}
    first, later, other = (found[name] for name in ("1-0", "1-1000", "2-100"))
    assert first.fields == {
        "age": 60.0,
        "male": 1,
        "weight": 80.0,
        "height": 180.0,
        "hdl": 50.0,
        "chol": 200.0,
        "nafld": 0,
        "hypertension": 1,
        "dyslipidemia": 0,
        "heart": 0,
    }
    assert later.fields["heart"] == 1
    assert later.fields["age"] == pytest.approx(62.7)
    assert (first.label, first.labelled_at - first.at) == (0.0, 730 * DAY)
    assert (later.label, later.labelled_at - later.at) == (1.0, 100 * DAY)
    assert other.label is None
    assert later.at - first.at == 1000 * DAY


SHOPPED = ("06", "04", "23", "05", "05", "05")
"""Hours (UTC); the shops' day ends at five."""


def test_categories_sell_by_day_and_learn_of_the_day_after() -> None:
    sales = {
        "product_id": np.array([1, 2, 1, 9, 3, 1]),
        "basket_id": np.array([5, 5, 5, 6, 7, 8]),
        "quantity": np.array([1, 2, 1, 1, 1, 3]),
        "sales_value": np.array([1.5, 4.0, 1.0, 99.0, 50.0, 2.25]),
        "retail_disc": np.array([0.5, 0.0, 0.0, 0.0, 0.0, 0.0]),
        "coupon_disc": np.array([0.25, 0.0, 0.0, 0.0, 0.0, 0.0]),
        "transaction_timestamp": np.array(
            [f"2017-01-0{day}T{hour}" for day, hour in zip("121123", SHOPPED, strict=True)],
            "datetime64[ns]",
        ),
    }
    products = {
        "product_id": np.array([2, 1, 3]),
        "product_category": np.array(["BREAD", "AIR CARE", ""]),
    }
    found = list(groceries.happenings(sales, products))
    assert [(one.event_id, one.key) for one in found[:3]] == [
        ("2017-01-01-0", "AIR CARE"),
        ("2017-01-01-1", "BREAD"),
        ("2017-01-02-0", "AIR CARE"),
    ]
    assert found[0].fields == {
        "amount": 2.5,
        "quantity": 2.0,
        "baskets": 1.0,
        "discount": 0.75,
        "weekday": 1,
    }
    assert [one.label for one in found] == [0.0, 0.0, 2.25, 0.0, None, None]
    assert found[0].at == pd.Timestamp("2017-01-02T05Z").timestamp()
    assert found[0].labelled_at - found[0].at == DAY


def test_a_day_of_sales_ends_by_the_shops_clocks() -> None:
    stamps = np.array(
        ["2017-03-12T04:30", "2017-03-13T04:30", "2017-11-06T04:30"], "datetime64[ns]"
    )
    sales = {name: np.ones(3) for name in ("quantity", "sales_value", "retail_disc", "coupon_disc")}
    numbers = {"product_id": np.ones(3, int), "basket_id": np.arange(3)}
    products = {"product_id": np.array([1]), "product_category": np.array(["BREAD"])}
    sales |= {**numbers, "transaction_timestamp": stamps}
    sold = [one for one in groceries.happenings(sales, products) if one.fields["amount"]]
    assert [one.event_id[:10] for one in sold] == ["2017-03-11", "2017-03-13", "2017-11-05"]
    ends = ["2017-03-12T05Z", "2017-03-14T04Z", "2017-11-06T05Z"]
    assert [one.at for one in sold] == [pd.Timestamp(end).timestamp() for end in ends]
    assert sold[0].labelled_at - sold[0].at == 23 * 3600
