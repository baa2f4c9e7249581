"""Pictures as a result keeps them: small, at 8 bits a pixel, in a line of JSON; and weights, counted by their size."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

ImageShape = tuple[int, int] | Callable[[np.ndarray], np.ndarray]
"""The height and width of a row's image, or what makes images ``[rows, height, width]`` of rows."""

FILTERS = 36
"""Filters of a layer that are kept."""

LIMIT, BINS = 1.0, 100
"""Weights are counted in so many bins from -`LIMIT` to `LIMIT`; those beyond in the outermost."""


def images(rows: np.ndarray, shape: ImageShape) -> np.ndarray:
    """Rows of values as images ``[rows, height, width]``."""
    return shape(rows) if callable(shape) else rows.reshape(-1, *shape)


def filters(weights: np.ndarray, shape: ImageShape) -> dict[str, Any]:
    """`FILTERS` evenly spaced columns of ``[features, units]`` as pictures, each scaled by its largest absolute weight.

    Evenly spaced because units may be in the order of the pixels (autoregression), whose first ones are never on.

    Returns:
        ``shape`` [filters, height, width]; ``scales``, the largest absolute weight of each; ``data``, base64 of zlib of
        int8 levels, a weight being ``scale * level / 127``.
    """
    columns = np.linspace(0, weights.shape[1] - 1, min(FILTERS, weights.shape[1])).round().astype(int)
    return packed(images(weights[:, columns].T, shape))


def packed(pictures: np.ndarray) -> dict[str, Any]:
    """Pictures ``[filters, height, width]`` in the form that `filters` describes."""
    scales = np.maximum(np.abs(pictures).max(axis=(1, 2)), 1e-12)
    levels = np.round(pictures / scales[:, None, None] * 127).astype(np.int8)
    data = base64.b64encode(zlib.compress(levels.tobytes(), 9)).decode()
    return {"shape": list(pictures.shape), "scales": [float(f"{scale:.4g}") for scale in scales], "data": data}


def unpacked(stored: Mapping[str, Any]) -> np.ndarray:
    """The pictures ``[filters, height, width]`` that were packed."""
    levels = np.frombuffer(zlib.decompress(base64.b64decode(stored["data"])), np.int8).reshape(stored["shape"])
    return np.asarray(stored["scales"])[:, None, None] * levels / 127.0


def counted(weights: Sequence[np.ndarray]) -> list[int]:
    """How many of all weights lie in each of `BINS` bins."""
    values = np.concatenate([np.ravel(array) for array in weights])
    edges = np.linspace(-LIMIT, LIMIT, BINS + 1)
    return np.histogram(np.clip(values, -LIMIT, LIMIT), edges)[0].tolist()
