"""What lies beside the images of a source and goes into a tar with them: classes, captions and splits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reinforce.data.beside import in_whole, read_beside
from reinforce.data.csv_list import CsvSource
from reinforce.data.labelled import class_names, sorted_names, tar_split
from reinforce.data.sources import VIRTUAL_SHARD_ROWS, ImageSource
from reinforce.data.split_source import SplitSource
from reinforce.data.splits import SPLIT_WORDS
from reinforce.data.tar_source import BESIDE, TarSource
from reinforce.errors import DataError


@dataclass(frozen=True)
class Companions:
    """Of the images of one source. Picklable, as its source is."""

    source: ImageSource
    class_names: tuple[str, ...] | None = None
    """What a `.cls` counts in: the classes of a labelled list, or those beside labelled tars."""
    label_of: Mapping[str, int] = field(default_factory=dict)
    """Of a labelled list."""

    def split(self, shard: int, row: int) -> str | None:
        """What the source says of the image elsewhere than in its name: "train", "val", "test" or nothing."""
        whole, shard, row = in_whole(self.source, shard, row)
        if isinstance(whole, TarSource):
            return tar_split(whole.shards[shard].name)
        if isinstance(whole, CsvSource):
            return SPLIT_WORDS.get(whole.splits[shard * VIRTUAL_SHARD_ROWS + row].lower())
        return None

    def read(self, shard: int, row: int) -> dict[str, bytes]:
        """Suffix -> content of an image's other members: "cls", "txt", "json"."""
        whole, shard, row = in_whole(self.source, shard, row)
        if isinstance(whole, CsvSource):
            return self._of_list(whole, shard * VIRTUAL_SHARD_ROWS + row)
        found = {suffix: read_beside(whole, shard, row, suffix) for suffix in BESIDE}
        return {suffix: data for suffix, data in found.items() if data is not None}

    def _of_list(self, source: CsvSource, position: int) -> dict[str, bytes]:
        members = {}
        if self.label_of:
            members["cls"] = str(self.label_of[source.labels[position]]).encode()
        captions = source.captions[position] if source.captions else ()
        if len(captions) == 1:
            members["txt"] = captions[0].encode()
        elif captions:
            members["json"] = json.dumps({"caption": list(captions)}, ensure_ascii=False).encode()
        return members


def companions_of(source: ImageSource) -> Companions:
    """Raises DataError for a list with labels or splits on some of its lines only."""
    whole = source.whole if isinstance(source, SplitSource) else source
    if isinstance(whole, TarSource):
        return Companions(source, class_names(whole))
    if not isinstance(whole, CsvSource):
        return Companions(source)
    _check_all_or_none(whole.labels, whole.name, "label")
    _check_all_or_none(whole.splits, whole.name, "split")
    if not any(whole.labels):
        return Companions(source)
    names = tuple(sorted_names(set(whole.labels)))
    return Companions(source, names, {name: label for label, name in enumerate(names)})


def _check_all_or_none(column: Sequence[str], name: str, what: str) -> None:
    if any(column) and not all(column):
        raise DataError(f"{name}.csv: some rows have a {what} and some have none: fill the column or leave it out")
