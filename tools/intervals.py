"""Half widths of 95 % intervals: of a mean over seeds, and of an accuracy on so many images."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

Z95 = 1.96
T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Student's t by how many values."""


def over_seeds(values: Sequence[float]) -> float:
    """Of their mean; NaN for a single one."""
    if len(values) < 2:
        return math.nan
    return T95.get(len(values), Z95) * statistics.stdev(values) / math.sqrt(len(values))


def of_accuracy(values: Sequence[float], num_images: int) -> float:
    """Of a mean accuracy: over seeds, or over test images for one seed."""
    if len(values) > 1:
        return over_seeds(values)
    return Z95 * math.sqrt(values[0] * (1 - values[0]) / num_images)
