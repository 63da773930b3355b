"""Test vectors for a published version: Triton must answer as onnxruntime does.

They are drawn from the manifest's normalisation, so that they look like the pipeline's without
being anybody's data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.records import Manifest
from streams.spec import Bucket, OneHot, Pipeline


def probes(pipeline: Pipeline, manifest: Manifest, count: int = 32) -> NDArray[np.float32]:
    """Vectors [count, features], the same for the same manifest."""
    random = np.random.default_rng(manifest.seed)
    width = len(pipeline.feature_names)
    mean = np.asarray(manifest.normalisation.get("mean", np.zeros(width)))
    scale = np.asarray(manifest.normalisation.get("scale", np.ones(width)))
    vectors = mean + scale * random.normal(size=(count, width))
    column = 0
    for feature in pipeline.features:
        names = len(feature.names)
        if isinstance(feature, Bucket):  # an index: must be one that the embedding has
            vectors[:, column] = random.integers(0, feature.buckets, count)
        elif isinstance(feature, OneHot):
            vectors[:, column : column + names] = np.eye(names)[random.integers(0, names, count)]
        column += names
    return vectors.astype(np.float32)
