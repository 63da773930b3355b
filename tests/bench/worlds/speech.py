"""Spoken digits by logistic regression on a coarse spectrum, without and with the later voices."""

from __future__ import annotations

import base64

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.bench.worlds.stream import Figures, Floats, Ints, Predict, frozen, prequential, stream

BANDS, SLICES, WINDOW, STEP, EVERY = 20, 8, 256, 128, 250


def measure() -> Figures:
    """Accuracy of the second half."""
    found = stream("speech")
    table = np.array([spectrum(one.fields["sound"]) for one in found.happenings])
    half = len(table) // 2
    voices = np.array([one.key for one in found.happenings])
    new = ~np.isin(voices[half:], voices[:half])

    def fit(learnt: Ints) -> Predict:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        model.fit(table[learnt], found.label[learnt])
        return lambda run: model.predict(table[run])

    def right(predicted: Floats) -> str:
        hits = predicted == found.label[half:]
        return f"known voices {hits[~new].mean():.3f}, new ones {hits[new].mean():.3f}"

    return [
        ("accuracy, frozen at half", right(frozen(found, half, fit))),
        (f"accuracy, anew every {EVERY}", right(prequential(found, half, EVERY, fit))),
        ("share of new voices in the second half", f"{new.mean():.2f}"),
    ]


def spectrum(sound: str) -> Floats:
    """The logarithm of the energy in bands of equal ratio, by time slice [slices * bands].

    The sound begins where it is loud for the first time: a tenth of its loudest window.
    """
    heard = np.frombuffer(base64.b64decode(sound), "<i2") / 32_768
    windows = np.lib.stride_tricks.sliding_window_view(heard, WINDOW)[::STEP]
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), axis=1)) ** 2
    loud = power.sum(axis=1)
    power = power[int(np.argmax(loud > 0.1 * loud.max())) :]
    edges = np.unique(np.rint(np.geomspace(3, WINDOW // 2, BANDS + 1)).astype(int))
    bands = np.add.reduceat(power, edges[:-1], axis=1)
    parts = np.array_split(np.log(bands + 1e-6), SLICES)
    mean = [part.mean(axis=0) if len(part) else np.zeros(bands.shape[1]) for part in parts]
    found: Floats = np.concatenate([part - np.mean(mean) for part in mean])
    return found
