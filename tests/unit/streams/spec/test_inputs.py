"""Inputs: what they make of a field, what they refuse, and what they may not be declared as."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from pydantic import BaseModel
from tokenizers import Tokenizer, models, pre_tokenizers

from streams.errors import PipelineError
from streams.spec import Array, Audio, Column, Event, Feedback, Image, Model, Pipeline, Text
from streams.spec.inputs import Input


class Seen(BaseModel):
    seen_id: str
    camera: str
    at: datetime
    size: float
    picture: str
    words: str
    numbers: list[float]


def declared(*inputs: Input, **changes: Any) -> Pipeline:
    return Pipeline(
        name="seen",
        event=Event(Seen, id="seen_id", key="camera", time="at"),
        features=changes.pop("features", []),
        inputs=inputs,
        model=Model(network=lambda features: None),
        feedback=Feedback(horizon="1d"),
    )


def values(*given: Any) -> np.ndarray:
    return np.fromiter(given, object, len(given))


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def picture(kind: str, size: tuple[int, int], mode: str = "L", value: Any = 200) -> str:
    held = io.BytesIO()
    Pillow.new(mode, size, value).save(held, kind)
    return text(held.getvalue())


def sound(samples: bytes, rate: int = 8000, channels: int = 1) -> str:
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(samples)
    return text(held.getvalue())


def test_numbers_in_lists_flat_or_nested() -> None:
    made = Array("a", "numbers", (2, 2))
    found, bad = made.read(values([1, 2, 3, 4], [[1, 2], [3, 4]]))
    assert not bad
    assert found.tolist() == [[[1, 2], [3, 4]]] * 2
    wrong = values([1, 2, 3, 4], [1, 2, 3], "text", [1, 2, 3, 1e39], [[1, 2], [3]], [1, 2, 3, None])
    found, bad = made.read(wrong)
    assert sorted(bad) == [1, 2, 3, 4, 5]
    assert "has 3 numbers" in bad[1]
    assert "not a finite float32" in bad[3]
    assert found[0].tolist() == [[1, 2], [3, 4]]


def test_raw_images() -> None:
    made, pixels = Image("image", "picture", (2, 3)), bytes(range(6))
    found, bad = made.read(values(text(pixels), pixels))
    assert not bad
    assert found.tolist() == [[[0, 1, 2], [3, 4, 5]]] * 2
    found, bad = made.read(values(text(pixels), text(pixels[1:]), "?", "ä", text(pixels)))
    assert sorted(bad) == [1, 2, 3]
    assert bad[1] == "has 5 bytes, not 6"
    assert "is no base64" in bad[2]
    assert found[4].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_image_files_are_decoded_and_made_as_large_as_declared(encoding: Any) -> None:
    made = Image("image", "picture", (4, 6, 3), encoding=encoding)
    found, bad = made.read(
        values(picture(encoding, (6, 4)), picture(encoding, (12, 8), "RGB", (9, 200, 90)))
    )
    assert not bad
    assert found.shape == (2, 4, 6, 3)
    assert (found[0] == 200).all()
    np.testing.assert_allclose(found[1], np.broadcast_to((9, 200, 90), (4, 6, 3)), atol=6)
    other = "jpeg" if encoding == "png" else "png"
    whole = base64.b64decode(picture(encoding, (6, 4)))
    found, bad = made.read(values(picture(other, (6, 4)), text(whole[:40]), "", text(b"no")))
    assert sorted(bad) == [0, 1, 2, 3]
    assert f"is no {encoding} image" in bad[0]


def test_an_image_that_unpacks_to_gigabytes_is_refused() -> None:
    made = Image("image", "picture", (4, 6), encoding="png")
    _, bad = made.read(values(picture("png", (5000, 4000))))
    assert "more than 16,000,000" in bad[0]


def test_sounds_end_in_silence_or_are_cut() -> None:
    samples = np.arange(4, dtype="<i2").tobytes()
    for encoding, given in (("pcm", text(samples)), ("wav", sound(samples))):
        for length, expected in ((6, [0, 1, 2, 3, 0, 0]), (3, [0, 1, 2])):
            made = Audio("sound", "picture", length, 8000, encoding=encoding)  # type: ignore[arg-type]
            found, bad = made.read(values(given))
            assert not bad
            assert found[0].tolist() == expected
    made = Audio("sound", "picture", 4, 8000, encoding="wav")
    _, bad = made.read(values(sound(samples, 16000), sound(samples, channels=2), text(samples)))
    assert sorted(bad) == [0, 1, 2]
    assert "at 16000 a second" in bad[0]
    _, bad = Audio("sound", "picture", 4, 8000).read(values(text(b"123"), ""))
    assert sorted(bad) == [0, 1]


def test_words_are_hashed_to_indices() -> None:
    made = Text("text", "words", tokens=4, vocabulary=50)
    found, bad = made.read(values("Pay NOW, pay", "", "a b c d e f", "\ud83d"))
    assert not bad
    assert found.shape == (4, 4)
    assert found[0, 0] == found[0, 3]
    assert found[1].tolist() == [0, 0, 0, 0]
    assert (found[2] > 0).all()
    assert found.max() < 50
    again, _ = Text("text", "words", tokens=4, vocabulary=50).read(values("Pay NOW, pay"))
    assert again[0].tolist() == found[0].tolist()


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "pay": 1, "now": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_a_tokenizer_has_its_own_indices(tokenizer: Path) -> None:
    made = Text("text", "words", tokens=3, vocabulary=3, tokenizer=tokenizer)
    found, bad = made.read(values("pay now", "now now pay pay pay", "else"))
    assert not bad
    assert found.tolist() == [[1, 2, 0], [2, 2, 1], [0, 0, 0]]


def test_what_an_input_means_is_in_the_hash(tokenizer: Path) -> None:
    plain = Text("text", "words")
    several = [
        declared(plain),
        declared(Text("text", "words", tokens=65)),
        declared(Text("text", "words", vocabulary=99)),
        declared(Text("text", "picture")),
        declared(Text("text", "words", tokenizer=tokenizer)),
        declared(Image("text", "words", (8, 8))),
        declared(plain, features=[Column("size")]),
    ]
    assert len({one.schema_hash for one in several}) == len(several)
    assert declared(Text("text", "words")).schema_hash == several[0].schema_hash
    before = several[4].schema_hash
    tokenizer.write_text(tokenizer.read_text().replace("now", "later"))
    assert declared(Text("text", "words", tokenizer=tokenizer)).schema_hash != before


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (declared, "features: are empty"),
        (lambda: declared("image"), "is no input"),  # type: ignore[arg-type]
        (lambda: declared(Image("image", "photo", (2, 2))), "has no field 'photo'"),
        (lambda: declared(Image("features", "picture", (2, 2))), "cannot name a network's"),
        (lambda: declared(Image("an image", "picture", (2, 2))), "cannot name a network's"),
        (lambda: declared(Image("image", "picture", (2,))), "is no image's"),
        (lambda: declared(Image("image", "picture", (2, 2, 4))), "is no image's"),
        (lambda: declared(Image("image", "picture", (0, 2))), "is no shape"),
        (lambda: declared(Image("image", "picture", (2, 2), encoding="gif")), "is not known"),  # type: ignore[arg-type]
        (lambda: declared(Image("image", "picture", (200, 200))), "rows of 40,000 bytes"),
        (lambda: declared(Array("a", "numbers", ())), "is no shape"),
        (lambda: declared(Array("a", "numbers", (2.5,))), "no tuple of whole numbers"),  # type: ignore[arg-type]
        (lambda: declared(Audio("a", "picture", 0, 8000)), "is too few"),
        (lambda: declared(Text("a", "words", tokens=0)), "is too few"),
        (lambda: declared(Text("a", "words", vocabulary=1)), "is too small"),
        (lambda: declared(Text("a", "numbers")), "is no category"),
        (lambda: declared(Text("a", "words", tokenizer=Path("none.json"))), "cannot be read"),
        (lambda: declared(Text("a", "words"), Array("a", "numbers", (1,))), "declared twice"),
    ],
)
def test_mistakes_are_one_line(make: Callable[[], Pipeline], said: str) -> None:
    with pytest.raises(PipelineError, match=said) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_tokenizer_needs_its_vocabulary(tokenizer: Path) -> None:
    with pytest.raises(PipelineError, match="less than the tokenizer's 3"):
        declared(Text("text", "words", vocabulary=2, tokenizer=tokenizer))
