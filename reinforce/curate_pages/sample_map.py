"""Where queries, curated and gallery samples lie: the set's vectors as a map (figure 10).

    N = samples, D = dimensions of all encoders together
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from reinforce.curate.curated import MAP, CuratedSet
from reinforce.curate.tsne import project
from reinforce.curate_pages.map_plot import Layer, MapPlotter, Role
from reinforce.errors import DataError

MAX_SAMPLES = 1_000
"""Of a role."""
ROLES = {"query": (Role.QUERY, "queries"), "curated": (Role.CURATED, "curated"), "gallery": (Role.GALLERY, "gallery")}


def map_plot(plotter: MapPlotter, curated: CuratedSet) -> Markup:
    """Raises DataError where the set has no sound vectors, MissingExtraError without scikit-learn."""
    vectors = read_vectors(curated.path / MAP)
    seed = curated.summary.get("seed")
    places = project(np.concatenate([*vectors.values()]), seed if isinstance(seed, int) and seed >= 0 else 0)
    stops = np.cumsum([len(own) for own in vectors.values()])[:-1]
    layers = [Layer(role=ROLES[name][0], label=ROLES[name][1], places=own)
              for name, own in zip(vectors, np.split(places, stops), strict=True)]  # fmt: skip
    return plotter.draw(layers, title="A map of queries, curated and gallery samples")


def read_vectors(path: Path) -> dict[str, NDArray[Any]]:
    """(N, D) of each role, at most MAX_SAMPLES spread evenly. Raises DataError."""
    try:
        with np.load(path, allow_pickle=False) as document:
            vectors = {name: _spread(document[name]) for name in ROLES}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name} is not there or cannot be read") from error
    widths = {own.shape[1:] for own in vectors.values() if len(own)}
    if len(widths) != 1 or not all(own.ndim == 2 and np.isfinite(own).all() for own in vectors.values()):
        raise DataError(f"{path.name} holds no vectors of one length")
    width = widths.pop()
    return {name: own if len(own) else np.empty((0, *width), np.float16) for name, own in vectors.items()}


def _spread(samples: NDArray[Any]) -> NDArray[Any]:
    if samples.ndim != 2 or not np.issubdtype(samples.dtype, np.floating):
        raise ValueError
    places = np.linspace(0, len(samples) - 1, min(len(samples), MAX_SAMPLES)).round().astype(int)
    return np.asarray(samples[places])
