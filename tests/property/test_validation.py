"""What the compiled struct accepts, the pydantic model accepts, with the same values."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator

from streams.errors import BadRecord
from streams.pipelines.card_fraud import Transaction
from streams.scoring.validation import Validator, compile_struct
from streams.spec.times import epoch


class Everything(BaseModel):
    text: Annotated[str, Field(min_length=1, max_length=6)]
    whole: Annotated[int, Field(ge=-5, lt=2**40)]
    number: Annotated[float, Field(gt=-1e9, le=1e9, allow_inf_nan=False)]
    any_number: float
    flag: bool
    at: datetime
    maybe: int | None
    bounded: Annotated[float, Field(ge=0)] | None = None
    word: str = "none"
    numbers: list[float] = []
    rows: list[list[int]] | None = None


class Strict(Everything):
    model_config = ConfigDict(extra="forbid")


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-10, 10)
    | st.floats()
    | st.text(max_size=8)
    | st.datetimes(timezones=st.none() | st.just(UTC)).map(datetime.isoformat)
    | st.sampled_from(["1", "1.5", "true", "2020-01-01", "2020-02-30T00:00:00", "12:00", "nan", ""])
    | st.sampled_from([2**63, 2**64, 10**30, 1e308, -0.0, 1.0, 1e2])
)
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=2), scalars)
good = st.fixed_dictionaries(
    {
        "text": st.text(min_size=1, max_size=6),
        "whole": st.integers(-5, 2**40 - 1),
        "number": st.floats(-1e8, 1e9),
        "any_number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
        "flag": st.booleans(),
        "at": st.datetimes(timezones=st.none() | st.just(UTC)).map(datetime.isoformat),
        "maybe": st.none() | st.integers(),
    },
    optional={
        "bounded": st.none() | st.floats(0, 1e6),
        "word": st.text(max_size=4),
        "numbers": st.lists(st.floats(-1e9, 1e9) | st.integers(-(2**53), 2**53), max_size=3),
        "rows": st.none() | st.lists(st.lists(st.integers(-5, 2**62), max_size=2), max_size=2),
    },
)
NAMES = list(Everything.model_fields)


def judge(schema: type[BaseModel], value: bytes) -> dict[str, Any] | None:
    try:
        return dict(schema.model_validate_json(value))
    except ValueError:
        return None


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, datetime):
        return bool(abs(epoch([ours])[0] - epoch([theirs])[0]) <= 1e-6)
    return type(ours) is type(theirs) and repr(ours) == repr(theirs)


@settings(max_examples=600)
@given(record=good, changes=st.dictionaries(st.sampled_from([*NAMES, "other"]), values, max_size=2))
@example(record={}, changes={"at": "2020-01-01T23:59:59.9999999Z"})
@pytest.mark.parametrize("schema", [Everything, Strict])
def test_the_struct_accepts_only_what_the_model_accepts(
    schema: type[BaseModel], record: dict[str, Any], changes: dict[str, Any]
) -> None:
    struct = compile_struct(schema)
    assert struct is not None
    value = json.dumps({**record, **changes}).encode()
    found = Validator(schema).all([value])
    expected = judge(schema, value)
    if found is None:
        return
    assert expected is not None, value
    assert all(same(getattr(found[0], name), expected[name]) for name in schema.model_fields)


@settings(max_examples=300)
@given(record=good)
def test_good_records_take_the_fast_path(record: dict[str, Any]) -> None:
    # a whole number beyond 64 bits is left to the model
    if abs(record["any_number"]) < 2**63 and abs(record["maybe"] or 0) < 2**63:
        assert Validator(Everything).all([json.dumps(record).encode()]) is not None


@settings(max_examples=300)
@given(record=good, changes=st.dictionaries(st.sampled_from(NAMES), values, max_size=2))
def test_a_record_is_judged_the_same_whatever_came_before(
    record: dict[str, Any], changes: dict[str, Any]
) -> None:
    value = json.dumps({**record, **changes}).encode()
    validator = Validator(Everything)
    try:
        alone = validator.one(value)
    except BadRecord:
        assert validator.all([value]) is None
        assert judge(Everything, value) is None
    else:
        together = validator.all([value])
        assert together is None or repr(together[0]) == repr(alone)


class Checked(BaseModel):
    at: datetime

    @field_validator("at")
    @classmethod
    def recent(cls, at: datetime) -> datetime:
        return max(at, datetime(2020, 1, 1))


class Nested(BaseModel):
    inner: Transaction


class Aliased(BaseModel):
    number: int = Field(alias="n")


class Made(BaseModel):
    words: str = Field(default_factory=str)


class Stripped(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    word: str


class Patterned(BaseModel):
    word: Annotated[str, Field(pattern="^a")]


class Spanned(BaseModel):
    span: timedelta


class Initialised(BaseModel):
    number: int

    def model_post_init(self, context: Any) -> None:
        self.number += 1


@pytest.mark.parametrize(
    "schema", [Checked, Nested, Aliased, Made, Stripped, Patterned, Spanned, Initialised]
)
def test_what_msgspec_says_differently_is_left_to_the_model(schema: type[BaseModel]) -> None:
    assert compile_struct(schema) is None


def test_a_model_that_is_not_plain_is_validated_all_the_same() -> None:
    validator = Validator(Checked)
    [event] = validator.all([b'{"at": "2019-05-01T00:00:00"}']) or []
    assert event.at == datetime(2020, 1, 1)
    with pytest.raises(BadRecord, match=r"invalid: at: "):
        validator.one(b'{"at": "soon"}')


def test_card_fraud_takes_the_fast_path() -> None:
    assert compile_struct(Transaction) is not None
