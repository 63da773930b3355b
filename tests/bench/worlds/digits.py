"""Digits by a small network: as published (60,000 and 10,000), and learning as labels come."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier

from tests.bench.worlds.stream import Figures, Ints, Stream, by_quarter, stream, turns

EPOCHS, TRAIN, EVERY = 6, 60_000, 1000


def measure() -> Figures:
    """Accuracy on the last 10,000, and test-then-train over all."""
    found = stream("digits")
    raw = b"".join(base64.b64decode(one.fields["image"]) for one in found.happenings)
    images = np.frombuffer(raw, np.uint8).reshape(len(found.at), -1).astype(
        np.float32
    ) / np.float32(255)
    network = _network()
    for _ in range(EPOCHS):
        _learn(network, found, images, np.arange(TRAIN))
    right = network.predict(images[TRAIN:]) == found.label[TRAIN:]
    return [
        (f"accuracy on the last 10,000, {EPOCHS} epochs of 60,000", f"{right.mean():.4f}"),
        (f"accuracy by quarter, one pass, taught every {EVERY:,}", _prequential(found, images)),
    ]


def _network() -> MLPClassifier:
    return MLPClassifier((128,), batch_size=64, learning_rate_init=1e-3, random_state=0)


def _learn(network: MLPClassifier, of: Stream, images: NDArray[Any], rows: Ints) -> None:
    network.partial_fit(images[rows], of.label[rows], classes=np.arange(10.0))


def _prequential(of: Stream, images: NDArray[Any]) -> str:
    """Each label teaches once, when it is known; the first answer needs the first labels."""
    network, taught, hits = _network(), 0, []
    for learnt, run in turns(of, 2 * EVERY, EVERY):
        if len(learnt) > taught:
            _learn(network, of, images, learnt[taught:])
            taught = len(learnt)
        hits.append(network.predict(images[run]) == of.label[run])
    return by_quarter(np.concatenate(hits))
