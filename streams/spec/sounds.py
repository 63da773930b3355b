"""Sounds as an input: a fixed number of samples."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.fields import require_field
from streams.spec.inputs import Read, Values, base64, check_name, each, unbase64
from streams.spec.layout import Tensor


@dataclass(frozen=True)
class Audio:
    """A sound of fixed length, in base64: the network gets float32 [n, samples] of -1 to 1.

    A shorter one is followed by silence, of a longer one the end is left out.
    """

    name: str
    """Of the network's argument."""
    field: str
    """A field of the event's schema: a text in base64, or bytes."""
    samples: int
    """How many samples the network sees."""
    rate: int
    """Samples a second; a file that says otherwise is a bad event."""
    encoding: Literal["pcm", "wav"] = "pcm"
    """`pcm`: 16-bit numbers, little-endian, of one channel; `wav`: a file of such."""

    @property
    def tensor(self) -> Tensor:
        """16-bit numbers."""
        return Tensor(self.name, "<i2", (self.samples,), "sound")

    @property
    def meaning(self) -> list[Any]:
        """Its field, its encoding and its rate."""
        return ["audio", self.field, self.encoding, self.rate]

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        where = f"inputs.{self.name}"
        check_fields(self, where)
        check_name(self.name, "inputs.name")
        require_field(schema, self.field, f"{where}.field")
        for name in ("samples", "rate"):
            if getattr(self, name) < 1:
                raise PipelineError(
                    f"{where}.{name}", f"{getattr(self, name)} is too few", "use 1 or more"
                )

    def read(self, values: Values) -> Read:
        """One by one."""
        return each(values, self.tensor, self._one)

    def _one(self, value: Any) -> NDArray[np.int16]:
        data = unbase64(value)
        if self.encoding == "wav":
            data = self._unwrapped(data)
        if not data or len(data) % 2:
            raise ValueError(f"has {len(data)} bytes: no 16-bit samples")
        sound = np.zeros(self.samples, np.int16)
        given = np.frombuffer(data, "<i2")[: self.samples]
        sound[: len(given)] = given
        return sound

    def _unwrapped(self, data: bytes) -> bytes:
        try:
            with wave.open(io.BytesIO(data)) as file:
                said = file.getnchannels(), file.getsampwidth(), file.getframerate()
                if said != (1, 2, self.rate):
                    raise ValueError(
                        f"has {said[0]} channels of {8 * said[1]} bits at {said[2]} a second, "
                        f"not 1 of 16 at {self.rate}"
                    )
                return bytes(file.readframes(self.samples))
        except (wave.Error, EOFError) as error:
            raise ValueError(f"is no WAV file ({error})") from None

    def sample(self, random: np.random.Generator) -> Any:
        """Noise."""
        data = random.integers(-999, 999, self.samples, np.int16).tobytes()
        if self.encoding == "pcm":
            return base64(data)
        held = io.BytesIO()
        with wave.open(held, "wb") as file:
            file.setparams((1, 2, self.rate, 0, "NONE", ""))
            file.writeframes(data)
        return base64(held.getvalue())
