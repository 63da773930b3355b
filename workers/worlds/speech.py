"""Spoken digits, synthetic: eSpeak NG says them, in many voices, offline. No person speaks here."""

from __future__ import annotations

import base64
import ctypes
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.errors import ConfigurationError
from workers.worlds.clock import ticks
from workers.worlds.packages import Package
from workers.worlds.world import DataWorld, Happening

Samples = NDArray[np.int16]

UTTERANCES = 6000
RATE = 11_025
"""Samples a second, half of what the engine gives."""
PER_MINUTE = 60.0
KNOWN_AFTER = 300.0
"""Seconds until somebody has listened."""
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = ("en", "en-us", "en-gb-scotland", "en-029")
TIMBRES = ("", "+m3", "+f2", "+f5", "+whisper", "+klatt4")
LATER = 8
"""Voices of the 24 that speak only in the second half: what comes is not what was."""

_RETRIEVAL, _UTF8, _SPEED, _PITCH, _SPREAD = 2, 1, 1, 3, 4
"""AUDIO_OUTPUT_RETRIEVAL, espeakCHARS_UTF8, and parameters, of espeak-ng's speak_lib.h."""


class Said(NamedTuple):
    """How a word is said."""

    word: str
    voice: str
    speed: int
    """Words a minute."""
    pitch: int
    """0 to 100."""


def read(home: Path) -> Iterator[Happening]:
    """6,000 utterances of the ten digits, in the order of the made clock."""
    speaker = Speaker(home / "espeakng_loader")
    clock, draws = ticks(PER_MINUTE, seed=10), np.random.default_rng(11_025)
    voices = [accent + timbre for timbre in TIMBRES for accent in ACCENTS]
    for number in range(UTTERANCES):
        known = len(voices) - (LATER if number < UTTERANCES // 2 else 0)
        digit, voice = int(draws.integers(10)), voices[int(draws.integers(known))]
        speed, pitch = int(draws.integers(100, 301)), int(draws.integers(20, 81))
        sound = _recorded(speaker.say(Said(WORDS[digit], voice, speed, pitch)), draws)
        at = next(clock)
        fields = {"sound": base64.b64encode(sound.astype("<i2").tobytes()).decode(), "rate": RATE}
        yield Happening(f"utterance-{number}", voice, at, fields, float(digit), at + KNOWN_AFTER)


def _recorded(sound: Samples, draws: np.random.Generator) -> Samples:
    """Half the rate, up to a fifth of a second of silence before, and noise 0 to 20 dB below."""
    halved = sound[: len(sound) // 2 * 2].reshape(-1, 2).mean(axis=1)
    quiet = np.zeros(int(draws.integers(RATE // 5)))
    loud = np.sqrt(np.mean(halved**2)) * 10 ** (-draws.uniform(0, 20) / 20)
    heard = np.concatenate([quiet, halved])
    heard += draws.normal(0.0, loud, len(heard))
    found: Samples = np.clip(np.rint(heard), -32_768, 32_767).astype(np.int16)
    return found


class Speaker:
    """The engine's shared library; one for a process, which it is not safe to share by threads."""

    def __init__(self, home: Path) -> None:
        """`home` holds the library and its data.

        Raises:
            ConfigurationError: the library does not load, or speaks at another rate.
        """
        suffix = {"Windows": "espeak-ng.dll", "Darwin": "libespeak-ng.dylib"}
        file = home / suffix.get(platform.system(), "libespeak-ng.so")
        try:
            self._engine = ctypes.CDLL(str(file))
        except OSError as error:
            raise ConfigurationError(f"{file} does not load: {error}") from None
        rate = self._engine.espeak_Initialize(_RETRIEVAL, 0, str(home).encode(), 0)
        if rate != 2 * RATE:
            raise ConfigurationError(f"{file} speaks at a rate of {rate}, not {2 * RATE}")
        self._heard: list[bytes] = []
        called = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self._hear = called(self._keep)  # kept: the engine holds only its address
        self._engine.espeak_SetSynthCallback(self._hear)

    def say(self, said: Said) -> Samples:
        """The sound of a word [samples], at 22,050 a second.

        Raises:
            ConfigurationError: there is no such voice, or nothing was said.
        """
        if self._engine.espeak_SetVoiceByName(said.voice.encode()):
            raise ConfigurationError(f"the engine has no voice {said.voice!r}")
        for parameter, value in ((_SPEED, said.speed), (_PITCH, said.pitch), (_SPREAD, 50)):
            self._engine.espeak_SetParameter(parameter, value, 0)
        self._heard.clear()
        text = said.word.encode()
        self._engine.espeak_Synth(text, len(text) + 1, 0, 1, 0, _UTF8, None, None)
        self._engine.espeak_Synchronize()
        if not self._heard:
            raise ConfigurationError(f"the engine said nothing for {said.word!r}")
        return np.frombuffer(b"".join(self._heard), np.int16)

    def _keep(self, samples: object, count: int, _: object) -> int:
        if count > 0:
            self._heard.append(ctypes.string_at(samples, 2 * count))  # type: ignore[arg-type]
        return 0


SPEECH = DataWorld(
    name="speech",
    key="voice",
    licence="made here by eSpeak NG (GPL-3, fetched and loaded as it is); what it says is free",
    schema="sound: base64 of 16-bit PCM, little-endian, mono; rate: 11,025 a second; label: digit",
    times=(
        "synthetic: 60 utterances a minute, each labelled five minutes later; 8 of the 24 voices "
        "speak only in the second half"
    ),
    packages=(
        Package(
            name="espeakng-loader",
            version="0.2.4",
            sha256=(
                "08721baf27d13d461f6be6eed9a65277e70d68234ff484fd8b9897b222cdcb6d",
                "41f1e08ac9deda2efd1ea9de0b81dab9f5ae3c4b24284f76533d0a7b1dd7abd7",
                "b77477ae2ddf62a748e04e49714eabb2f3a24f344166200b00539083bd669904",
                "d1e798141b46a050cdb75fcf3c17db969bb2c40394f3f4a48910655d547508b9",
                "d27cdca31112226e7299d8562e889d3e38a1e48055c9ee381b45d669072ee59f",
                "d7a2928843eaeb2df82f99a370f44e8a630f59b02f9b0d1f168a03c4eeb76b89",
            ),
            megabytes=10.1,
            licence="GPL-3.0-or-later",
        ),
    ),
    read=read,
)
