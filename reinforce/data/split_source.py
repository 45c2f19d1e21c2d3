"""One split of a dataset as a source of images: `eurosat@train`, the paper's task-related transfer set (A.2).

Keys are those of the whole dataset. Its other splits are left out, so a transfer set shows no image that is tested on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reinforce.data.folder import scan_folder
from reinforce.data.labelled import LabelledDataset, open_labelled
from reinforce.data.mask_layouts import without_masks
from reinforce.data.masked import MaskedDataset, MaskedSample, open_masked
from reinforce.data.sources import ImageSource, Places, Shard, remote_source
from reinforce.data.splits import LabelledSample
from reinforce.errors import DataError


@dataclass(frozen=True)
class SplitSource:
    """See ImageSource. Shards are those of the whole, with fewer rows; one that would have none is left out."""

    name: str
    whole: ImageSource
    shards: tuple[Shard, ...]
    positions: tuple[tuple[int, tuple[int, ...]], ...]
    """For each shard: its number in the whole, and the rows that are kept."""

    def read(self, shard: int, row: int) -> bytes:
        return self.whole.read(*self.place(shard, row))

    @property
    def is_remote(self) -> bool:
        return remote_source(self.whole) is not None

    def prefetch(self, places: Places) -> None:
        if remote := remote_source(self.whole):
            remote.prefetch([self.place(shard, row) for shard, row in places])

    def place(self, shard: int, row: int) -> tuple[int, int]:
        """(shard, row) in the whole."""
        number, rows = self.positions[shard]
        return number, rows[row]


def open_split(location: str, split: str) -> SplitSource:
    """The images of one split of labelled images, or of images with masks.

    Raises what `open_labelled` and `open_masked` raise, and UnknownNameError for a split that is not there.
    """
    dataset = _open_dataset(location)
    samples = dataset.split(split)
    if not samples:
        raise DataError(f"{location} has no images in its split {split}: type another")
    return _restricted(dataset.source, samples, f"{dataset.name}-{split}")


def _open_dataset(location: str) -> LabelledDataset | MaskedDataset:
    path = Path(location).expanduser()
    if path.is_dir() and without_masks(scan_folder(path)).masks:
        return open_masked(location, needs_train=False)
    return open_labelled(location, needs_train=False)


def _restricted(whole: ImageSource, samples: Iterable[LabelledSample | MaskedSample], name: str) -> SplitSource:
    rows_of: dict[int, list[int]] = defaultdict(list)
    for sample in samples:
        rows_of[sample.shard].append(sample.row)
    positions = tuple((number, tuple(sorted(rows))) for number, rows in sorted(rows_of.items()))
    shards = tuple(
        Shard(whole.shards[number].name, tuple(whole.shards[number].keys[row] for row in rows))
        for number, rows in positions
    )
    return SplitSource(name, whole, shards, positions)
