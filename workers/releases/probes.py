"""Test vectors for a published version: Triton must answer as onnxruntime does.

They are drawn from the manifest's normalisation, so that they look like the pipeline's without
being anybody's data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.records import Manifest
from streams.spec import Bucket, OneHot, Pipeline
from streams.spec.layout import Rows, Tensor


def probes(pipeline: Pipeline, manifest: Manifest, count: int = 32) -> Rows:
    """So many rows, the same for the same manifest."""
    random = np.random.default_rng(manifest.seed)
    width = len(pipeline.feature_names)
    mean, scale = np.zeros(width), np.ones(width)
    if manifest.normalisation:  # of the columns that the version takes
        places = [pipeline.feature_names.index(name) for name in manifest.feature_names]
        mean[places] = manifest.normalisation["mean"]
        scale[places] = manifest.normalisation["scale"]
    vectors = mean + scale * random.normal(size=(count, width))
    column = 0
    for feature in pipeline.computed:
        names = len(feature.names)
        if isinstance(feature, Bucket):  # an index: must be one that the embedding has
            vectors[:, column] = random.integers(0, feature.buckets, count)
        elif isinstance(feature, OneHot):
            vectors[:, column : column + names] = np.eye(names)[random.integers(0, names, count)]
        column += names
    inputs = {one.name: _noise(one.tensor, count, random) for one in pipeline.inputs}
    if (ranked := pipeline.candidates) is not None:
        inputs[ranked.name] = ranked.probes(count, random)
    return pipeline.layout.rows(vectors.astype(np.float32), inputs)


def _noise(tensor: Tensor, count: int, random: np.random.Generator) -> NDArray[Any]:
    """Tensors of such a kind, [count, *shape]."""
    shape = (count, *tensor.shape)
    if tensor.kind == "numbers":
        return random.normal(size=shape)
    most = tensor.most or np.iinfo(tensor.dtype).max
    return random.integers(0, most, shape)
