"""How a set was made, as tables; whatever its summary lacks is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SETTINGS = {"strategy": "strategy", "size": "items asked for", "depth": "k, neighbours of each query",
            "num_queries": "queries", "seed": "seed"}  # fmt: skip
GALLERY = {"name": "gallery", "items": "items searched", "crops": "crops an image", "digest": "digest of its images",
           "manifest_digest": "digest of its embeddings"}  # fmt: skip
APPROXIMATE = {"index": "index of faiss", "probes": "cells that a query visits",
               "recall": "part of the exact neighbours found",
               "sampled_queries": "queries that were asked exactly, too"}  # fmt: skip
DUPLICATES = {"threshold": "more alike than (mean cosine)", "clusters": "clusters", "removed": "items removed"}
LEAKS = {"data": "target data", "threshold": "more alike than (largest cosine)", "possible": "possible leaks",
         "removed": "removed", "kept": "kept by decision"}  # fmt: skip
ENCODER = {"weights_sha256": "weights", "dimensions": "dimensions"}


@dataclass(frozen=True)
class Table:
    title: str
    rows: Sequence[tuple[str, str]]


def settings_tables(summary: Mapping[str, Any]) -> list[Table]:
    query = _inner(summary, "query")
    tables = [
        Table("Retrieval", _rows(summary, SETTINGS) + _rows(query, {"name": "query data"})),
        Table("Approximate search", _rows(_inner(summary, "approximate"), APPROXIMATE)),
        Table("Gallery", _rows(_inner(summary, "gallery"), GALLERY)),
        *_encoders(summary.get("encoders")),
        Table("Duplicates", _rows(_inner(summary, "duplicates"), DUPLICATES)),
        Table("Decontamination", _rows(_inner(summary, "decontamination"), LEAKS)),
        Table("Set", _rows(summary, {"digest": "digest"})),
    ]
    return [table for table in tables if table.rows]


def _encoders(records: object) -> list[Table]:
    """One each."""
    found = [record for record in records if isinstance(record, Mapping)] if isinstance(records, list) else []
    return [Table(f"Encoder {record.get('name', '')}", _rows(record, ENCODER)) for record in found]


def _rows(record: Mapping[str, Any], labels: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(label, _text(record[name])) for name, label in labels.items() if record.get(name) not in (None, "")]


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _inner(summary: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = summary.get(name)
    return value if isinstance(value, Mapping) else {}
