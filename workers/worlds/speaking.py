"""Says words by eSpeak NG: `python speaking.py HOME`, a request a line, its sound as an answer.

A process of its own: what the engine says depends on what it has said before, so that only one
that has just begun says the same again. `HOME` holds the shared library and its data. A request is
JSON: voice, speed (words a minute), pitch (0 to 100), word. An answer is the length in bytes (four,
little-endian), then 16-bit samples at 22,050 a second.
"""

from __future__ import annotations

import ctypes
import json
import platform
import sys
from pathlib import Path

RATE = 22_050

# of espeak-ng's speak_lib.h
_RETRIEVAL, _STAY, _UTF8 = 2, 0x8000, 1  # sound as data; no exit without data; text as UTF-8
_SPEED, _PITCH = 1, 3
_LIBRARY = {"Windows": "espeak-ng.dll", "Darwin": "libespeak-ng.dylib"}


def speak(home: Path) -> None:
    """Answer the requests of standard input; what fails ends the process with a line on why."""
    engine = ctypes.CDLL(str(home / _LIBRARY.get(platform.system(), "libespeak-ng.so")))
    rate = engine.espeak_Initialize(_RETRIEVAL, 0, str(home).encode(), _STAY)
    if rate != RATE:
        sys.exit(f"it finds no data in {home}, whose path may have 150 characters")
    heard: list[bytes] = []

    def hear(samples: int, count: int, _: int) -> int:
        if count > 0:
            heard.append(ctypes.string_at(samples, 2 * count))
        return 0

    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    kept = kind(hear)  # the engine holds but its address
    engine.espeak_SetSynthCallback(kept)
    for line in sys.stdin.buffer:
        voice, speed, pitch, word = json.loads(line)
        if engine.espeak_SetVoiceByName(voice.encode()):
            sys.exit(f"it has no voice {voice}")
        engine.espeak_SetParameter(_SPEED, speed, 0)
        engine.espeak_SetParameter(_PITCH, pitch, 0)
        engine.espeak_ng_SetRandSeed(ctypes.c_long(1))  # it takes the time where nobody says so
        heard.clear()
        text = word.encode()
        engine.espeak_Synth(text, len(text) + 1, 0, 1, 0, _UTF8, None, None)
        engine.espeak_Synchronize()
        sound = b"".join(heard)
        sys.stdout.buffer.write(len(sound).to_bytes(4, "little") + sound)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    speak(Path(sys.argv[1]))
