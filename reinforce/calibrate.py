"""Some views through the teacher before a build: what its targets look like, and what a view costs here.

V = views an image, R = images; a target is (C,) channels, or (N, C) of a map's cells
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import BuildError, NonFiniteTargetError, UndecodableImageError
from reinforce.store import TargetShape
from reinforce.unit_captions import UnitViews

if TYPE_CHECKING:
    from reinforce.target_source import TargetSource

VIEWS_PER_CLASS = 4
LEAST_VIEWS, MOST_VIEWS = 1024, 8192
"""A covariance of many classes needs more rows than there are classes, ..."""
MOST_VALUES = 1 << 26
"""Of maps: each holds many rows, so that few of them do."""
SHARE = 0.05
"""... but no more than this share of a build is spent on calibration."""
VIEWS_PER_IMAGE = 4
MIN_IMAGES = 32
"""So many are tried even of a small set, since some may be bad."""
Pair = tuple[int, int, int]
"""Unit, row in it, view."""


@dataclass(frozen=True)
class Calibration:
    targets: NDArray[np.float32]
    """(V, R, *item_shape): a few views each of images spread over the transfer set."""
    teacher_seconds_per_view: float
    replay_seconds_per_view: float

    @property
    def num_views(self) -> int:
        """Of all its images together."""
        return int(np.prod(self.targets.shape[:2]))


def calibration_targets(teacher: TargetSource, units: Sequence[UnitViews], views: int,
                        shape: TargetShape) -> Calibration:  # fmt: skip
    """Targets of views evenly spread over units and rows, and what they cost here.

    Raises BuildError where no image can be decoded, NonFiniteTargetError naming the sample.
    """
    per_image = min(views, VIEWS_PER_IMAGE)
    pairs = _spread_pairs(units, views, shape)
    parts, replay_seconds, teacher_seconds, num_batches = [], 0.0, 0.0, 0
    for start in range(0, len(pairs), teacher.batch_size):
        began = time.perf_counter()
        rendered, images = _render(units, pairs[start : start + teacher.batch_size])
        replayed = time.perf_counter()
        if not rendered:
            continue
        targets = teacher.targets(images)
        _check_finite(units, rendered, targets)
        parts.append(targets)
        replay_seconds += replayed - began
        teacher_seconds += time.perf_counter() - replayed
        num_batches += 1
    if not parts:
        raise BuildError("none of the images that were tried can be decoded: look at the transfer set")
    targets = np.concatenate(parts)  # image by image: a bad one lacks all of its views
    by_image = targets.reshape(-1, per_image, *targets.shape[1:])
    views_first = np.ascontiguousarray(np.moveaxis(by_image, 1, 0))
    return Calibration(views_first, teacher_seconds / (num_batches * teacher.batch_size), replay_seconds / len(targets))


def _spread_pairs(units: Sequence[UnitViews], views: int, shape: TargetShape) -> list[Pair]:
    """(unit, row, view) triples, a few views of each image."""
    total = sum(len(unit.keys) for unit in units)
    per_image = min(views, VIEWS_PER_IMAGE)
    wanted = min(MOST_VIEWS, max(LEAST_VIEWS, VIEWS_PER_CLASS * shape.item_shape[-1]))
    wanted = min(wanted, MOST_VALUES // math.prod(shape.item_shape))
    num_images = max(MIN_IMAGES, min(wanted, int(SHARE * total * views)) // per_image)
    starts = np.cumsum([0, *(len(unit.keys) for unit in units)])
    samples = np.unique(np.linspace(0, total - 1, num_images).round().astype(int))  # all of a set that is smaller
    pairs = []
    for i, sample in enumerate(samples.tolist()):
        unit = int(np.searchsorted(starts, sample, side="right")) - 1
        pairs += [(unit, sample - int(starts[unit]), (i + j) % views) for j in range(per_image)]
    return pairs


def _render(units: Sequence[UnitViews], pairs: Sequence[Pair]) -> tuple[list[Pair], NDArray[Any]]:
    """The pairs whose image can be decoded, and their views."""
    rendered, images = [], []
    for unit, row, view in pairs:
        try:
            images.append(units[unit].view(row, view))
            rendered.append((unit, row, view))
        except UndecodableImageError:
            continue
    return rendered, np.stack(images) if images else np.empty((0,), np.uint8)


def _check_finite(units: Sequence[UnitViews], pairs: Sequence[Pair], targets: NDArray[np.float32]) -> None:
    bad = np.flatnonzero(~np.isfinite(targets.reshape(len(targets), -1)).all(1))
    if len(bad):
        unit, row, view = pairs[bad[0]]
        raise NonFiniteTargetError.of(units[unit].keys[row], view)
