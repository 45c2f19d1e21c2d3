"""How alike a teacher's features are: of views of one image, which should be near, and of different images.

V = views shown, D = dimensions, N = cells of a map
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(kw_only=True)
class Likeness:
    """Unit features of the views that the gallery shows, sample by sample; of a map the mean over its cells."""

    features: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    """key -> (D,) of each view"""

    def add(self, key: str, target: NDArray[np.float32]) -> float:
        """Of a view's (D,) or (N, D) target: its cosine with the sample's first view."""
        own = self.features.setdefault(key, [])
        own.append(_unit(target.reshape(-1, target.shape[-1]).astype(np.float64).mean(axis=0)))
        return float(own[0] @ own[-1])

    @property
    def within(self) -> NDArray[np.float64]:
        """Cosines of all pairs of views of one image."""
        return np.concatenate([np.zeros(0), *(_pairs(np.stack(views)) for views in self.features.values())])

    @property
    def between(self) -> NDArray[np.float64]:
        """Cosines of all pairs of different images, their first views."""
        firsts = [views[0] for views in self.features.values()]
        return _pairs(np.stack(firsts)) if firsts else np.zeros(0)


def _unit(vector_D: NDArray[np.float64]) -> NDArray[np.float64]:
    length = float(np.sqrt(vector_D @ vector_D))
    return vector_D / length if length > 0 else vector_D


def _pairs(units_VD: NDArray[np.float64]) -> NDArray[np.float64]:
    first, second = np.triu_indices(len(units_VD), 1)
    return np.asarray((units_VD[first] * units_VD[second]).sum(axis=1))
