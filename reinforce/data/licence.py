"""Under which licence images stand: as the catalog says, or what `curate` and `pack` have written beside them."""

from __future__ import annotations

import json
from typing import Any

from reinforce.catalog import Entry
from reinforce.data.files import Files, LocalFiles
from reinforce.data.folder import FolderSource
from reinforce.data.remote_files import ObjectSource
from reinforce.data.sources import ImageSource
from reinforce.data.split_source import SplitSource
from reinforce.data.tar_source import TarSource
from reinforce.errors import DataError, MissingDataError
from reinforce.licences import UNKNOWN

STATED_IN = ("curated.json", "pack.json")
"""Files whose member `license` says it, in the folder of a curated or packed set."""


def data_licence(entry: Entry, source: ImageSource) -> str:
    """Of the images behind a name, which are opened as `source`; "unknown" where nobody says it."""
    return str(entry.table.get("license") or _stated_beside(source) or UNKNOWN)


def _stated_beside(source: ImageSource) -> object:
    files = _files(source.whole if isinstance(source, SplitSource) else source)
    stated = (_document(files, name).get("license") for name in STATED_IN) if files is not None else ()
    return next((licence for licence in stated if licence), None)


def _files(source: ImageSource) -> Files | None:
    if isinstance(source, FolderSource):
        return LocalFiles(source.root)
    return source.files if isinstance(source, TarSource | ObjectSource) else None


def _document(files: Files, name: str) -> dict[str, Any]:
    """Empty where it is not there, or is damaged."""
    try:
        document = json.loads(files.read(name))
    except (MissingDataError, DataError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
