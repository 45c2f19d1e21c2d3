"""A Hugging Face dataset, "hf:NAME[:SPLIT]", through the `datasets` package when it is installed. Key = row number.

The first column of images is used. Labels are not read: a transfer set has none.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from reinforce.data.sources import VIRTUAL_SHARD_ROWS, Shard, read_image_file, virtual_shards
from reinforce.errors import DataError, MissingDataError, MissingExtraError

PREFIX = "hf:"


class HfSource:
    """See ImageSource. Keys are row numbers of 8 digits; the dataset is opened again after pickling."""

    def __init__(self, dataset_name: str, split: str) -> None:
        self.name = dataset_name.rstrip("/").rpartition("/")[2]
        self.dataset_name = dataset_name
        self.split = split
        self._rows: Any = None
        self._column = ""
        keys = [f"{row:08d}" for row in range(len(self._open()))]
        if not keys:
            raise DataError(f"{PREFIX}{dataset_name}:{split} holds no rows")
        self.shards: tuple[Shard, ...] = virtual_shards("hf", keys)

    def read(self, shard: int, row: int) -> bytes:
        if not 0 <= row < len(self.shards[shard].keys):
            raise IndexError(f"shard {shard} has no row {row}")
        image = self._open()[shard * VIRTUAL_SHARD_ROWS + row][self._column]
        if image is None:
            return b""  # a null cell is an image that cannot be decoded, not the end of a build
        data: bytes | None = image["bytes"]
        return read_image_file(Path(image["path"])) if data is None else data

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rows": None}

    def _open(self) -> Any:
        if self._rows is None:
            self._rows, self._column = _load(self.dataset_name, self.split)
        return self._rows


def open_hf(location: str) -> HfSource:
    """Open "hf:NAME[:SPLIT]" (default split: train). Raises MissingExtraError without the `datasets` package."""
    dataset_name, _, split = location.removeprefix(PREFIX).partition(":")
    if importlib.util.find_spec("datasets") is None:
        raise MissingExtraError("datasets", "datasets", f"--transfer {location}")
    return HfSource(dataset_name, split or "train")


def _load(dataset_name: str, split: str) -> tuple[Any, str]:
    """The dataset with its images left encoded, and the name of the column that holds them."""
    import datasets

    try:
        rows = datasets.load_dataset(dataset_name, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise MissingDataError(f"the dataset '{dataset_name}' (split '{split}') cannot be loaded: {reason}") from error
    images = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    if not images:
        raise DataError(f"the dataset '{dataset_name}' has no column of images; it has: {', '.join(rows.features)}")
    return rows.cast_column(images[0], datasets.Image(decode=False)), images[0]
