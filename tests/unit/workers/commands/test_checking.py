"""`driftloop check`: mistakes are one line with place and mend, and right pipelines pass."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent, indent
from types import MappingProxyType
from typing import NamedTuple

import pytest

from workers.cli import main

HEAD = """\
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Generic, Literal, Optional, TypeVar, Union
from uuid import UUID

import numpy as np
from pydantic import (
    AliasChoices, BaseModel, ConfigDict, Field, NaiveDatetime, PositiveInt, computed_field,
    field_validator, model_validator,
)
from pydantic.alias_generators import to_camel

from streams.spec import *
"""
FIELDS = """\
id: str
shopper: str
amount: float
at: datetime
"""
PARTS = {
    "name": '"orders"',
    "event": 'Event(Order, id="id", key="shopper", time="at")',
    "features": '[Column("amount"), Count(key="shopper", over="1h")]',
    "model": "Model(network=lambda features: None)",
    "feedback": 'Feedback(horizon="1d", missing=0)',
}


class Given(NamedTuple):
    """A pipeline's file, written down as what it has beside the usual."""

    fields: str = ""
    """More fields of the event."""
    before: str = ""
    """Code before the pipeline."""
    parts: Mapping[str, str] = MappingProxyType({})
    head: str = ""
    """Code before the event's schema."""
    config: str = ""
    """The rest of the event's schema."""

    def source(self, name: str = "orders") -> str:
        body = indent(f"{self.config}{FIELDS}{dedent(self.fields)}", "    ")
        parts = {**PARTS, "name": f'"{name}"', **self.parts}
        declared = ",\n".join(f"    {part}={value}" for part, value in parts.items())
        schema = f"class Order(BaseModel):\n{body}"
        return "\n".join(
            [
                HEAD,
                dedent(self.head),
                schema,
                dedent(self.before),
                f"pipeline = Pipeline(\n{declared}\n)\n",
            ]
        )


FRAUD = "from streams.pipelines.card_fraud import pipeline as fraud\n"


def gate(declared: str) -> dict[str, str]:
    return {"policies": f"Policies(gate=Gate({declared}))"}


def cleaning(declared: str) -> dict[str, str]:
    return {"cleaning": f"Cleaning({declared})"}


def features(*declared: str, **more: str) -> dict[str, str]:
    return {"features": f"[{', '.join(declared)}]", **more}


def checked(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *options: str
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a check without the model."""
    monkeypatch.setattr(sys, "argv", ["driftloop", "check", file, "--no-model", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


TEXT = "channel: str"
MISTAKES: dict[str, tuple[Given | str, list[str]]] = {
    # the file
    "syntax": ("pipeline = Pipeline(\n", ["line 1", "'(' was never closed"]),
    "nothing": ("pipe = 1\n", ["declares no pipeline", "pipeline = Pipeline(...)"]),
    "other_name": (
        "from streams.pipelines.card_fraud import pipeline as fraud\n",
        ["rename fraud"],
    ),
    "no_package": ("import catboost\n", ["line 1", "No module named 'catboost'", "install"]),
    "no_name": ("from numpy import arrray\n", ["line 1", "'arrray'", "import a name"]),
    "exits": ("raise SystemExit(0)\n", ["line 1", "ends the program"]),
    "own-kind": (
        "class Stop(BaseException): ...\nraise Stop('no')\n",
        ["line 2", "Stop: no - correct it"],
    ),
    "undefined": (Given(before="top = TOP\n"), ["line ", "name 'TOP' is not defined", "import or"]),
    # calls
    "keyword": (
        Given(parts=features('Count(key="shopper", ovr="1h")')),
        ["unexpected keyword argument 'ovr'", "write over="],
    ),
    "odd_keyword": (
        Given(parts={"model": "Model(network=print, zzz=1)"}),
        ["unexpected keyword argument 'zzz'", "Model takes: network, onnx"],
    ),
    "argument": (Given(parts=features("Column()")), ["missing 1 required", "give 'field'"]),
    "part": (Given(parts={"event": "Order"}), ["event: ", "is no Event", "write Event(...)"]),
    "no_features": (Given(parts=features()), ["features: are empty"]),
    "no_feature": (Given(parts=features('"amount"')), ["'amount' is not a feature", "use Column"]),
    # names of fields
    "field": (Given(parts=features('Column("amont")')), ["no field 'amont'", "use one of: id"]),
    "key": (Given(parts=features('Count(key="card", over="1h")')), ["has no field 'card'"]),
    "id": (
        Given(parts={"event": 'Event(Order, id="amount", key="shopper", time="at")'}),
        ["event.id", "'amount' is not str or int"],
    ),
    "time": (
        Given(parts={"event": 'Event(Order, id="id", key="shopper", time="shopper")'}),
        ["event.time", "'shopper' is not a time", "datetime"],
    ),
    "text_as_number": (
        Given(TEXT, parts=features('Column("channel")')),
        ["is not a number", "OneHot"],
    ),
    "twice": (Given(parts=features('Column("amount")', 'Column("amount")')), ["declared twice"]),
    # values
    "one_hot_kind": (
        Given("tier: int", parts=features('OneHot("tier", ("1", "2"))')),
        ["features.tier.values", "'1' is no number, as 'tier' is"],
    ),
    "one_hot_enum": (
        Given("c: C", head="class C(Enum):\n    A = 'a'\n", parts=features('OneHot("c", ("b",))')),
        ["'b' is no C, as 'c' is"],
    ),
    "one_hot_text": (Given(TEXT, parts=features('OneHot("channel", "web")')), ["is one text"]),
    "buckets": (
        Given(TEXT, parts=features('Bucket("channel", "64")')),
        ["'64' is not a whole number"],
    ),
    "filler": (
        Given("tier: int | None = None", parts=cleaning('missing={"tier": "unknown"}')),
        ["cleaning.missing['tier']", "'unknown' is no number, as 'tier' is"],
    ),
    "text_filler": (
        Given("c: str | None = None", parts=cleaning('missing={"c": 0}')),
        ["cleaning.missing['c']", "0 is no str, as 'c' is"],
    ),
    "default": (
        Given("tier: int = 'none'", parts=features('Column("tier")')),
        ["event.schema.tier.default", "'none' is no number"],
    ),
    "clip": (
        Given(parts=cleaning('outliers={"amount": Clip("0", 5)}')),
        ["cleaning.outliers.low", "'0' is not a number"],
    ),
    "clip_order": (
        Given(parts=cleaning('outliers={"amount": Clip(9, 5)}')),
        ["swap them"],
    ),
    "clip_pair": (
        Given(parts=cleaning('outliers={"amount": (0, 5)}')),
        ["write Clip(low, high)"],
    ),
    "window": (
        Given(parts=features('Count(key="shopper", over="1 hour")')),
        ["45s, 30m, 12h or 7d"],
    ),
    "empty_window": (Given(parts=features('Count(key="shopper", over="0s")')), ["window is empty"]),
    "scanned_field": (
        Given(parts=features('Max(key="shopper", over="1h", field="amont")')),
        ["features.shopper.max(amont)/1h.field", "has no field 'amont'"],
    ),
    "scanned_text": (
        Given(TEXT, parts=features('Std(key="shopper", over="1h", field="channel")')),
        ["field 'channel' is not a number", "use a numeric field"],
    ),
    "distinct_times": (
        Given(parts=features('CountDistinct(key="shopper", over="1h", field="at")')),
        ["field 'at' is no category"],
    ),
    "lag_of_itself": (
        Given(parts=features('Lag(key="shopper", over="1h", field="amount", back=0)')),
        [".back: 0 is no number of events before this one", "use 1"],
    ),
    "lag_without_bound": (
        Given(parts=features('Lag(key="shopper", field="amount")')),
        ["missing 1 required", "give 'over'"],
    ),
    "lag_default": (
        Given(parts=features('Lag(key="shopper", over="1h", field="amount", default="no")')),
        [".default: 'no' is not a number"],
    ),
    "no_time_since": (
        Given(parts=features('TimeSince(key="shopper", over="0s")')),
        ["window is empty"],
    ),
    "unknown_class": (
        Given(parts=features('LabelRate(key="shopper", over="7d", delay="7d", class_=2)')),
        [".class_: feedback.classes names 2, and none is 2", "from 0 on"],
    ),
    "named_class": (
        Given(parts=features('LabelRate(key="shopper", over="7d", delay="7d", class_="bad")')),
        [".class_: 'bad' is not a whole number"],
    ),
    "smooth": (
        Given(parts=features('LabelRate(key="shopper", over="7d", delay="7d", smooth=0.1)')),
        [".smooth: 0.1 is no tuple of numbers"],
    ),
    "label_delay": (
        Given(parts=features('LabelRate(key="shopper", over="7d", delay="1h")')),
        ["delay", "is shorter than feedback.horizon"],
    ),
    # policies
    "metric": (
        Given(parts=gate('metric="average_precison"')),
        ["policies.gate.metric", "did you mean average_precision?"],
    ),
    "margin": (Given(parts=gate('margin="2%"')), ["is not a number"]),
    "support": (
        Given(parts=gate("least_support=0")),
        ["least_support"],
    ),
    "delivery": (
        Given(parts={"policies": 'Policies(delivery="exactly-once")'}),
        ["policies.delivery", "did you mean exactly_once?"],
    ),
    "policy_part": (Given(parts={"policies": 'Policies(gate="strict")'}), ["write Gate(...)"]),
    "short_window": (
        Given(parts={"policies": 'Policies(retrain=Retrain(every="28d", window="7d"))'}),
        ["policies.retrain.window", "shorter than every=28d"],
    ),
    "least": (
        Given(parts={"policies": "Policies(retrain=Retrain(least_examples=5, least_positives=9))"}),
        ["least_positives", "9 of 5"],
    ),
    "parameter": (
        Given(parts={"model": "Model(network=print, parameters={'epochs': 0.5})"}),
        ["model.parameters.epochs", "use a whole number"],
    ),
    "classes": (
        Given(parts={"feedback": 'Feedback(horizon="1d", classes=("a", "b", "c"))'}),
        ["feedback.classes", "names 3 of 2"],
    ),
    "threshold": (Given(parts={"decision": "Decision(threshold=50)"}), ["is not a probability"]),
    # functions
    "no_column": (
        Given(
            before="def ratio(columns):\n    return columns['amont'] / 2\n",
            parts=features('Transform("ratio", ratio)'),
        ),
        ["feature", "line ", "there is no 'amont'", "use a name that is there"],
    ),
    "in_place": (
        Given(
            before="def half(columns):\n    columns['amount'] /= 2\n    return columns['amount']\n",
            parts=features('Transform("half", half)'),
        ),
        ["feature", "line ", "read-only"],
    ),
    "shape": (
        Given(parts=features('Transform("mean", lambda columns: columns["amount"].mean())')),
        ["features.mean", "returned shape ()", "one number per event"],
    ),
    "one_event": (
        Given(parts=features('Transform("first", lambda columns: columns["amount"][:1])')),
        ["several events at once", ", line ", "returned shape (1,)", "one number per event"],
    ),
    "texts": (
        Given(parts=features('Transform("id", lambda columns: columns["id"])')),
        [", line ", "features.id: function returned no numbers", "one number per event"],
    ),
    "waits": (
        Given(
            before="async def late(columns):\n    return columns['amount']\n",
            parts=features('Transform("late", late)'),
        ),
        ["features.late.function: is async", "pass a function of the columns"],
    ),
    "two_arguments": (
        Given(parts=features('Transform("two", lambda one, other: one["amount"])')),
        ["features.two.function: cannot be called with one argument", "(one, other)"],
    ),
    "positional": (
        Given(parts=features('Sum("shopper", "1h", "amount")')),
        ["missing 1 required keyword-only argument: 'field' - give 'field' by name"],
    ),
    "network_of_two": (
        Given(parts={"model": "Model(network=lambda features, hidden: None)"}),
        ["model.network: cannot be called with one argument", "number of features -> nn.Module"],
    ),
    "network_that_is_built": (
        Given(
            head="class Network:\n    def forward(self, x):\n        return x\n",
            parts={"model": "Model(network=Network())"},
        ),
        ["model.network: is a network, and not what builds one"],
    ),
    "list_of_parameters": (
        Given(parts={"model": "Model(network=print, parameters=['epochs'])"}),
        ["model.parameters: ['epochs'] is no mapping", 'write {"epochs": 10}'],
    ),
    "a_thousand_years": (
        Given(parts=features('Count(key="shopper", over="365000d")')),
        ["is above a hundred years"],
    ),
    "comma_behind": (
        Given().source().rstrip() + ",\n",
        ["pipeline is a tuple, not a Pipeline", "nothing around or behind it"],
    ),
    "value_of_lines": (
        Given(parts=features('Count(key="shopper", over=np.zeros((3, 3)))')),
        ["[[0., 0., 0.], [0., 0., 0.]", "is not a duration"],
    ),
    "set_of_values": (Given(TEXT, parts=features('OneHot("channel", {"a"})')), ["is no list"]),
    "null_value": (
        Given(TEXT, parts=features('OneHot("channel", ["a", None])')),
        ["None is no str, as 'channel' is"],
    ),
    "literal_value": (
        Given('c: Literal["web"]', parts=features('OneHot("c", ("webb",))')),
        ["'webb' is no Literal", "use one of: 'web'"],
    ),
    "bucket_of_list": (
        Given("tags: list[str]", parts=features('Bucket("tags", 8)')),
        ["features.tags: field 'tags' is no category", "use a field that is str"],
    ),
    "window_of_time": (
        Given(parts=features('Count(key="at", over="1h")')),
        [".key: field 'at' is no category"],
    ),
    "undefined_type": (Given("x: 'Unknown'"), ["event.schema: 'Unknown' is not defined"]),
    "null_filler": (
        Given("c: str | None = None", parts=cleaning('missing={"c": None}')),
        ["cleaning.missing['c']: None is no str"],
    ),
    "list_of_fillers": (
        Given(parts=cleaning('missing=["amount"]')),
        ["cleaning.missing: ['amount'] is no mapping"],
    ),
    "earliest": (
        Given(parts=cleaning("earliest=datetime.max")),
        ["cleaning.earliest", "later than any event"],
    ),
    "infinite_label": (
        Given(parts={"feedback": 'Feedback(horizon="1d", missing=float("inf"), classes=())'}),
        ["feedback.missing: inf is no label"],
    ),
    "other_order": (
        Given(parts={"decision": 'Decision(classes=("positive", "negative"))'}),
        ["feedback.classes", "in another order"],
    ),
    "onnx_of_bytes": (Given(parts={"model": "Model(onnx=b'x')"}), ["model.onnx: b'x' is no path"]),
    "infinite_rate": (
        Given(parts={"model": "Model(network=print, parameters={'learning_rate': np.inf})"}),
        ["model.parameters.learning_rate: inf cannot be"],
    ),
    "endless_epochs": (
        Given(parts={"model": "Model(network=print, parameters={'epochs': np.inf})"}),
        ["model.parameters.epochs: inf cannot be"],
    ),
    "seed": (
        Given(parts={"model": "Model(network=print, parameters={'seed': 10**30})"}),
        ["model.parameters.seed", "cannot be"],
    ),
    "no_name_of_transform": (
        Given(parts=features('Transform("", lambda columns: columns["amount"])')),
        ["a Transform has no name"],
    ),
    "complex": (
        Given(parts=features('Transform("c", lambda columns: columns["amount"] * 1j)')),
        [", line ", "features.c: function returned complex128"],
    ),
    "infinite": (
        Given(parts=features('Transform("c", lambda columns: columns["amount"] / 0)')),
        [", line ", "feature c is not a finite float32"],
    ),
    "of_the_batch": (
        Given(
            parts=features(
                'Transform("c", lambda columns: columns["amount"] - columns["amount"].max())'
            )
        ),
        [", line ", "features.c: an event gets", "and 0 alone", "the event's own fields"],
    ),
    "transform_that_exits": (
        Given(
            before="def leave(columns):\n    raise SystemExit(3)\n",
            parts=features('Transform("c", leave)'),
        ),
        [", line ", "ends the program"],
    ),
    "endless_transform": (
        Given(
            before="def f(columns):\n    return f(columns)\n", parts=features('Transform("c", f)')
        ),
        [", line ", "RecursionError"],
    ),
    "async_object": (
        Given(
            before="class Late:\n    async def __call__(self, columns):\n        return 1\n",
            parts=features('Transform("late", Late())'),
        ),
        ["features.late.function: is async"],
    ),
    "validator_fails": (
        Given(
            """\
            n: int

            @field_validator("n")
            @classmethod
            def inverse(cls, value):
                return value / 0
            """
        ),
        ["a validator of Order fails", ", line ", "division by zero"],
    ),
    "validator_of_nothing": (
        Given("""\
            @model_validator(mode="after")
            def twice(self):
                self.amount * 2
            """),
        ["a model_validator of Order returned NoneType, not self"],
    ),
    "validator_of_text": (
        Given(
            """\
            n: int

            @field_validator("n")
            @classmethod
            def text(cls, value):
                return "many"
            """
        ),
        ["n: is no number after the schema's own validators"],
    ),
    "null_bytes": ("x = 1\0\n", ["mistake_null_bytes.py, line 1", "null bytes"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_its_place_and_the_mend(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, expected = MISTAKES[name]
    file = tmp_path / f"mistake_{name}.py"
    file.write_text(given if isinstance(given, str) else given.source())
    monkeypatch.chdir(tmp_path)
    code, _, error = checked(file.name, capsys, monkeypatch)
    assert code == 1
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    for part in [*expected, " - "]:
        assert part in error
    if isinstance(given, Given):
        assert file.name in error


RIGHT: dict[str, Given] = {
    "plain": Given(),
    "optional": Given("note: Optional[str] = None\nmemo: float | None = None"),
    "literal": Given('c: Literal["web", "app"]', parts=features('OneHot("c", ("web", "app"))')),
    "literal_numbers": Given("n: Literal[1, 2, 3]", parts=features('Column("n")')),
    "enum": Given(
        "c: Channel",
        head="class Channel(Enum):\n    WEB = 'web'\n    APP = 'app'\n",
        parts=features('OneHot("c", (Channel.WEB, "app"))', 'Bucket("c", 16)'),
    ),
    "str_enum": Given(
        "c: Channel",
        head="class Channel(StrEnum):\n    WEB = 'web'\n",
        parts=features('OneHot("c", ("web",))'),
    ),
    "int_enum": Given(
        "tier: Tier",
        head="class Tier(IntEnum):\n    LOW = 1\n    HIGH = 2\n",
        parts=features('Column("tier")', 'OneHot("tier", (1, Tier.HIGH))'),
    ),
    "decimal": Given(
        "price: Decimal = Field(gt=0, decimal_places=2, max_digits=8)",
        parts=features('Column("price")', 'Sum(key="shopper", over="1d", field="price")'),
    ),
    "uuid": Given(
        "order: UUID\ncustomer: UUID",
        parts={
            "event": 'Event(Order, id="order", key="customer", time="at")',
            "features": '[Count(key="customer", over="1d")]',
        },
    ),
    "aliases": Given(
        "unit_price: float",
        config="model_config = ConfigDict(alias_generator=to_camel)\n",
        parts=features('Column("unit_price")'),
    ),
    "own_aliases": Given(
        "total: float = Field(validation_alias=AliasChoices('sum', 'total'))\n"
        "when: float = Field(alias='ts')",
        parts={
            "event": 'Event(Order, id="id", key="shopper", time="when")',
            "features": '[Column("total")]',
        },
    ),
    "nested": Given(
        "place: Place",
        head="class Place(BaseModel):\n    city: str\n    lat: float = Field(ge=-90, le=90)\n",
        before="def lat(columns):\n    return np.array([one.lat for one in columns['place']])\n",
        parts=features('Transform("lat", lat)'),
    ),
    "validators": Given(
        """\
        currency: str

        @field_validator("currency")
        @classmethod
        def known(cls, value):
            if value not in ("EUR", "USD"):
                raise ValueError("unknown currency")
            return value

        @model_validator(mode="after")
        def small(self):
            if self.amount > 1e7:
                raise ValueError("too much")
            return self
        """
    ),
    "secret_validator": Given(
        """\
        check: str

        @field_validator("check")
        @classmethod
        def known(cls, value):
            if value != "a word that nobody guesses":
                raise ValueError("wrong word")
            return value
        """
    ),
    "computed": Given(
        """\
        quantity: PositiveInt

        @computed_field
        @property
        def each(self) -> float:
            return self.amount / self.quantity
        """,
        config='model_config = ConfigDict(extra="forbid")\n',
        parts=features('Column("quantity")'),
    ),
    "discriminated": Given(
        "paid: Union[Card, Cash] = Field(discriminator='kind')",
        head=(
            "class Card(BaseModel):\n    kind: Literal['card']\n    last4: str\n"
            "class Cash(BaseModel):\n    kind: Literal['cash']\n"
        ),
    ),
    "generic": Given(
        "more: Boxed[int]",
        head="T = TypeVar('T')\nclass Boxed(BaseModel, Generic[T]):\n    held: T\n",
    ),
    "patterned": Given(
        'card: str = Field(pattern=r"^C[0-9]{8}$")',
        parts={
            "event": 'Event(Order, id="id", key="card", time="at")',
            "features": '[Count(key="card", over="1h")]',
        },
    ),
    "naive": Given(
        "local: NaiveDatetime",
        parts={"event": 'Event(Order, id="id", key="shopper", time="local")'},
    ),
    "early": Given(parts=cleaning("earliest=datetime(2025, 6, 1)")),
    "whole_seconds": Given(
        "second: int", parts={"event": 'Event(Order, id="id", key="shopper", time="second")'}
    ),
    "lists_and_dates": Given(
        "tags: list[str]\nday: date\nlasts: timedelta\nshares: dict[str, float]",
        before="def many(columns):\n    return np.array([len(one) for one in columns['tags']])\n",
        parts=features('Transform("tags", many)'),
    ),
    "merchant_codes": Given("mcc: int", parts=features('Bucket("mcc", 512)', 'Column("amount")')),
    "three_classes": Given(
        parts={
            "model": "Model(network=lambda features: None, outputs=3)",
            "decision": 'Decision(classes=("a", "b", "c"))',
            "feedback": 'Feedback(horizon="1d", classes=("a", "b", "c"))',
            "policies": 'Policies(gate=Gate(metric="accuracy"))',
        }
    ),
    "choice_of_numbers": Given("n: int | float", parts=features('Column("n")')),
    "other_names_of_types": Given(
        "who: Who\nprice: Money",
        head=(
            "from typing import NewType\nfrom typing_extensions import TypeAliasType\n"
            "Who = NewType('Who', str)\nMoney = TypeAliasType('Money', Decimal)\n"
        ),
        parts={
            "event": 'Event(Order, id="id", key="who", time="at")',
            "features": '[Column("price"), Count(key="who", over="1h")]',
        },
    ),
    "secret": Given(
        "password: SecretStr\nurl: HttpUrl\nip: IPv4Address",
        head="from ipaddress import IPv4Address\nfrom pydantic import HttpUrl, SecretStr\n",
        parts=features('Count(key="ip", over="1h")', 'Bucket("ip", 64)'),
    ),
    "tuple_with_names": Given(
        "place: Place",
        head=(
            "from typing import NamedTuple\n"
            "class Place(NamedTuple):\n    lat: float\n    lon: float\n"
        ),
    ),
    "replaced": Given(
        "c: str | None = None\nn: int | None = None",
        parts=features(
            'OneHot("c", ("web",))',
            'Column("n")',
            cleaning='Cleaning(missing={"c": "none", "n": -1})',
        ),
    ),
}
NO_SAMPLE = {"secret_validator", "tuple_with_names"}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_pipeline_passes(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"right_{name}.py"
    file.write_text(RIGHT[name].source())
    monkeypatch.chdir(tmp_path)
    code, said, error = checked(f"./{file.name}", capsys, monkeypatch)
    assert (code, error) == (0, "")
    assert "ok orders" in said
    if name in NO_SAMPLE:
        assert "no sample events" in said
        assert "--events FILE" in " ".join(said.split())
    else:
        assert "100 predictions, 0 dead letters" in said


def test_a_file_that_a_module_of_pythons_own_hides_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text(Given().source())
    monkeypatch.chdir(tmp_path)
    for given, expected in (("queue", "hides ./queue.py"), ("./queue.py", "a name that is taken")):
        code, _, error = checked(given, capsys, monkeypatch)
        assert code == 1
        assert expected in error
        assert "rename" in error


def test_a_file_of_a_package_is_found_by_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "checked_team" / "fraud"
    home.mkdir(parents=True)
    for folder in (home, home.parent):
        (folder / "__init__.py").touch()
    (home / "common.py").write_text("HOUR = '1h'\n")
    (home / "orders.py").write_text("from .common import HOUR\n" + Given().source())
    monkeypatch.chdir(home)
    assert checked("orders.py", capsys, monkeypatch)[0] == 0


@pytest.mark.parametrize(
    ("name", "lines", "expected"),
    [
        ("empty.jsonl", "", "has no events"),
        ("gone.jsonl", None, "cannot read gone.jsonl"),
        ("bad.jsonl", '{"id": 1}\n', "no sample event could be scored"),
    ],
)
def test_a_file_of_events_that_gives_nothing_is_said(
    name: str,
    lines: str | None,
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "with_events.py").write_text(Given().source())
    if lines is not None:
        (tmp_path / name).write_text(lines)
    monkeypatch.chdir(tmp_path)
    code, _, error = checked("with_events", capsys, monkeypatch, "--events", name)
    assert code == 1
    assert error.count("\n") == 1
    assert expected in error


def test_dead_letters_among_sample_events_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_bad.py").write_text(Given().source())
    good = '{"id": "1", "shopper": "a", "amount": 1, "at": "2024-01-01T00:00:00Z"}\n'
    (tmp_path / "some.jsonl").write_text(good + '{"id": "2"}\n')
    monkeypatch.chdir(tmp_path)
    code, said, _ = checked("some_bad", capsys, monkeypatch, "--events", "some.jsonl")
    assert code == 0
    assert "dead letter invalid: shopper: Field required" in said
    assert "1 predictions, 1 dead letters" in said
