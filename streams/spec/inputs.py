"""Inputs: arrays and images that a network sees as they are, beside the features.

What an input makes of an event's field is its tensor in the row (`streams.spec.layout`).
"""

from __future__ import annotations

import binascii
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.fields import require_field
from streams.spec.layout import Tensor

LARGEST_ROW = 32_768
"""Bytes that a row may have: it is in two records of each event."""
_MOST_PIXELS = 16_000_000
"""Of a compressed image: a small file may hold a very large one."""

Values = NDArray[np.object_]
Read = tuple[NDArray[Any], Mapping[int, str]]
"""A tensor of each event, [n, *shape], and by row what is wrong with those that have none."""


class Input(Protocol):
    """What a pipeline declares beside its features."""

    @property
    def name(self) -> str:
        """Of the tensor, and of the network's argument."""
        ...

    @property
    def field(self) -> str:
        """Of the event's schema."""
        ...

    @property
    def tensor(self) -> Tensor:
        """Its place in a row."""
        ...

    @property
    def meaning(self) -> list[Any]:
        """What tells it from others that have the same tensor."""
        ...

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        ...

    def read(self, values: Values) -> Read:
        """The tensors of a field's values."""
        ...

    def sample(self, random: np.random.Generator) -> Any:
        """A value that a field may have, as JSON has it."""
        ...


class Declared(Protocol):
    """What every input has, whatever it reads."""

    @property
    def name(self) -> str:
        """Of the tensor."""
        ...

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        ...


def check_inputs(inputs: Sequence[Declared], schema: type[BaseModel]) -> None:
    """Raise a `PipelineError` where one does not fit the schema, or two have one name."""
    for one in inputs:
        if not hasattr(one, "tensor"):
            raise PipelineError(
                "inputs", f"{one!r} is no input", "use Array, Image, Text, Audio, Indices or LastN"
            )
        one.validate(schema)
    names = [one.name for one in inputs]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise PipelineError(f"inputs.{min(repeated)}", "is declared twice", "name one differently")


def each(values: Values, tensor: Tensor, read: Callable[[Any], NDArray[Any]]) -> Read:
    """The tensor of each value by itself; a `ValueError` or `TypeError` says what is wrong."""
    found, bad = np.zeros((len(values), *tensor.shape), tensor.dtype), dict[int, str]()
    for i, value in enumerate(values):
        try:
            found[i] = read(value)
        except (ValueError, TypeError, OverflowError) as error:
            bad[i] = str(error) or type(error).__name__
    return found, bad


def check_name(name: str, where: str) -> None:
    """Raise a `PipelineError` unless a network's argument may be called so."""
    if not name.isidentifier() or name == "features":
        raise PipelineError(
            where, f"{name!r} cannot name a network's argument", 'use a name such as "image"'
        )


def check_shape(shape: tuple[int, ...], where: str) -> None:
    """Raise a `PipelineError` unless every side is 1 or more."""
    if not shape or min(shape) < 1:
        raise PipelineError(where, f"{shape!r} is no shape", "write (28, 28)")


@dataclass(frozen=True)
class Array:
    """Numbers of a fixed shape, as nested lists: the network gets them as they are."""

    name: str
    """Of the network's argument."""
    field: str
    """A field of the event's schema: a list of numbers, or lists of lists."""
    shape: tuple[int, ...]
    """Of one event's; a flat list of as many numbers will do."""

    @property
    def tensor(self) -> Tensor:
        """Float32."""
        return Tensor(self.name, "<f4", self.shape)

    @property
    def meaning(self) -> list[Any]:
        """Nothing but its field."""
        return ["array", self.field]

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        check_fields(self, f"inputs.{self.name}")
        check_name(self.name, "inputs.name")
        check_shape(self.shape, f"inputs.{self.name}.shape")
        require_field(schema, self.field, f"inputs.{self.name}.field")

    def read(self, values: Values) -> Read:
        """All at once where each is a list of the right shape; else one by one."""
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite
            try:
                found = np.array(values.tolist(), np.float32).reshape(len(values), *self.shape)
            except (ValueError, TypeError):
                return each(values, self.tensor, self._one)
            if np.isfinite(found).all():
                return found, {}
            return each(values, self.tensor, self._one)

    def _one(self, value: Any) -> NDArray[np.float32]:
        try:
            found = np.array(value, np.float32)
        except (ValueError, TypeError):
            raise ValueError("is no list of numbers, or its lists differ in length") from None
        if found.size != math.prod(self.shape):
            raise ValueError(f"has {found.size} numbers in shape {found.shape}, not {self.shape}")
        if not np.isfinite(found).all():
            raise ValueError("has a number that is not a finite float32")
        return found.reshape(self.shape)

    def sample(self, random: np.random.Generator) -> Any:
        """Numbers around 0."""
        return np.round(random.normal(size=self.shape), 3).tolist()


@dataclass(frozen=True)
class Image:
    """An image, in base64: the network gets float32 [n, channels, height, width] of 0 to 1."""

    name: str
    """Of the network's argument."""
    field: str
    """A field of the event's schema: a text in base64, or bytes."""
    shape: tuple[int, ...]
    """(height, width) of a grey image, (height, width, 3) of one in colour."""
    encoding: Literal["raw", "png", "jpeg"] = "raw"
    """`raw`: one byte for each pixel and channel, row by row. Files are decoded, and made as large
    as the shape says where they are not."""

    @property
    def tensor(self) -> Tensor:
        """Bytes."""
        return Tensor(self.name, "|u1", self.shape, "image")

    @property
    def meaning(self) -> list[Any]:
        """Its field and its encoding."""
        return ["image", self.field, self.encoding]

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        where = f"inputs.{self.name}"
        check_fields(self, where)
        check_name(self.name, "inputs.name")
        check_shape(self.shape, f"{where}.shape")
        if len(self.shape) not in (2, 3) or (len(self.shape) == 3 and self.shape[2] not in (1, 3)):
            raise PipelineError(
                f"{where}.shape", f"{self.shape} is no image's", "write (28, 28) or (28, 28, 3)"
            )
        require_field(schema, self.field, f"{where}.field")
        if self.encoding != "raw":
            _pillow(where)

    def read(self, values: Values) -> Read:
        """Raw images all at once where each is right; else one by one."""
        if self.encoding == "raw":
            try:
                packed = list(map(unbase64, values))
            except (ValueError, TypeError):
                packed = []
            size = math.prod(self.shape)
            if len(packed) == len(values) and set(map(len, packed)) == {size}:
                found = np.frombuffer(b"".join(packed), np.uint8)
                return found.reshape(len(values), *self.shape), {}
        return each(values, self.tensor, self._one)

    def _one(self, value: Any) -> NDArray[np.uint8]:
        data = unbase64(value)
        if self.encoding != "raw":
            return self._decoded(data)
        if len(data) != math.prod(self.shape):
            raise ValueError(f"has {len(data)} bytes, not {math.prod(self.shape)}")
        return np.frombuffer(data, np.uint8).reshape(self.shape)

    def _decoded(self, data: bytes) -> NDArray[np.uint8]:
        from PIL import Image as Pillow
        from PIL import UnidentifiedImageError

        height, width, *channels = self.shape
        try:
            with Pillow.open(io.BytesIO(data), formats=[self.encoding]) as opened:
                if math.prod(opened.size) > _MOST_PIXELS:
                    raise ValueError(f"has {opened.size} pixels, more than {_MOST_PIXELS:,}")
                made = opened.convert("RGB" if channels == [3] else "L")
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ValueError(f"is no {self.encoding} image ({error})") from None
        if made.size != (width, height):
            made = made.resize((width, height), Pillow.Resampling.BILINEAR)
        return np.asarray(made, np.uint8).reshape(self.shape)

    def sample(self, random: np.random.Generator) -> Any:
        """Noise."""
        pixels = random.integers(0, 256, self.shape, np.uint8)
        if self.encoding == "raw":
            return base64(pixels.tobytes())
        from PIL import Image as Pillow

        held = io.BytesIO()
        square = pixels if self.shape[2:] == (3,) else pixels.reshape(self.shape[:2])
        Pillow.fromarray(square).save(held, self.encoding)
        return base64(held.getvalue())


def unbase64(value: Any) -> bytes:
    """The bytes of a text in base64; bytes as they are. Raises `ValueError`."""
    if isinstance(value, bytes):
        return value
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except binascii.Error as error:
        raise ValueError(f"is no base64 ({error})") from None


def base64(data: bytes) -> str:
    """The inverse of `unbase64`."""
    return binascii.b2a_base64(data, newline=False).decode()


def _pillow(where: str) -> None:
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise PipelineError(
            f"{where}.encoding", "needs Pillow", "pip install 'driftloop[inputs]'"
        ) from None
