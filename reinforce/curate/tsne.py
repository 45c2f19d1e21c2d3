"""Vectors as points of a plane in which near ones stay together, for the map of section B.6 (figure 10).

N = samples, D = dimensions of all encoders together
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import MissingExtraError

MOST_NEIGHBOURS = 30.0
"""Perplexity: about how many neighbours of a sample are kept near it."""
FEWEST_SAMPLES = 4
"""Below it there are no neighbourhoods to keep."""
INITIAL_SPREAD = 1e-4
"""Standard deviation of the first axis at the start (Kobak & Berens, 2019)."""


def project(vectors_ND: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """(N, 2) coordinates by t-SNE (Van der Maaten & Hinton, 2008) on cosine distances, begun at the principal axes.

    Made for N up to some thousands. Runs in one thread: equal vectors give equal coordinates on a machine. Fewer than
    four samples are placed by their principal axes alone, and samples that are all equal at the origin. Raises
    MissingExtraError without scikit-learn.
    """
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "curate", "a map of embeddings") from error
    vectors_ND = np.asarray(vectors_ND, np.float32)
    start_N2 = np.zeros((len(vectors_ND), 2), np.float32)
    if (vectors_ND == vectors_ND[:1]).all():
        return start_N2.astype(np.float64)
    with threadpool_limits(1):
        axes = PCA(min(2, *vectors_ND.shape), random_state=seed).fit_transform(vectors_ND)
        start_N2[:, : axes.shape[1]] = axes
        if len(vectors_ND) < FEWEST_SAMPLES:
            return start_N2.astype(np.float64)
        start_N2 *= INITIAL_SPREAD / start_N2[:, 0].std()
        perplexity = min(MOST_NEIGHBOURS, (len(vectors_ND) - 1) / 3)
        tsne = TSNE(metric="cosine", init=start_N2, perplexity=perplexity, random_state=seed)
        return np.asarray(tsne.fit_transform(vectors_ND), np.float64)
