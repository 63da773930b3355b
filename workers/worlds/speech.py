"""Spoken digits, synthetic: eSpeak NG says them, in many voices, offline. No person speaks here."""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
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


def read(home: Path) -> Iterator[Happening]:
    """6,000 utterances of the ten digits, in the order of the made clock; the same each time.

    Raises:
        ConfigurationError: the engine does not start, or ends.
    """
    clock, draws = ticks(PER_MINUTE, seed=10), np.random.default_rng(11_025)
    voices = [accent + timbre for timbre in TIMBRES for accent in ACCENTS]
    with _engine(home / "espeakng_loader") as say:
        for number in range(UTTERANCES):
            known = len(voices) - (LATER if number < UTTERANCES // 2 else 0)
            digit, voice = int(draws.integers(10)), voices[int(draws.integers(known))]
            speed, pitch = int(draws.integers(100, 301)), int(draws.integers(20, 81))
            sound = _recorded(say(voice, speed, pitch, WORDS[digit]), draws)
            at, packed = next(clock), base64.b64encode(sound.astype("<i2").tobytes()).decode()
            fields = {"sound": packed, "rate": RATE}
            yield Happening(
                f"utterance-{number}", voice, at, fields, float(digit), at + KNOWN_AFTER
            )


@contextmanager
def _engine(home: Path) -> Iterator[Callable[..., Samples]]:
    """What says a word in a voice, at a speed and pitch; a process that has just begun."""
    command = [sys.executable, str(Path(__file__).with_name("speaking.py")), str(home)]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=said) as process,
    ):
        assert process.stdin
        assert process.stdout
        asking, answering = process.stdin, process.stdout

        def say(*request: object) -> Samples:
            try:
                asking.write(msgspec.json.encode(request) + b"\n")
                asking.flush()
            except BrokenPipeError:
                raise _ended(process, said) from None
            length = int.from_bytes(answering.read(4), "little")
            if not length:
                raise _ended(process, said)
            return np.frombuffer(answering.read(length), np.int16)

        try:
            yield say
        finally:
            process.kill()


def _ended(process: subprocess.Popen[bytes], said: IO[bytes]) -> ConfigurationError:
    process.kill()
    process.wait()
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return ConfigurationError(f"eSpeak NG says nothing: {(lines or ['it ended'])[-1]}")


def _recorded(sound: Samples, draws: np.random.Generator) -> Samples:
    """Half the rate, up to a fifth of a second of silence before, and noise 0 to 20 dB below."""
    halved = sound[: len(sound) // 2 * 2].reshape(-1, 2).mean(axis=1)
    quiet = np.zeros(int(draws.integers(RATE // 5)))
    loud = np.sqrt(np.mean(halved**2)) * 10 ** (-draws.uniform(0, 20) / 20)
    heard = np.concatenate([quiet, halved])
    heard += draws.normal(0.0, loud, len(heard))
    found: Samples = np.clip(np.rint(heard), -32_768, 32_767).astype(np.int16)
    return found


SPEECH = DataWorld(
    name="speech",
    key="voice",
    licence="made here by eSpeak NG (GPL-3, fetched, and run as it is); what it says is free",
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
