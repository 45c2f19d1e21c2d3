"""What curated.json says of a curation."""

from __future__ import annotations

from typing import Any

from reinforce import catalog
from reinforce.curate.curate import CurateConfig
from reinforce.curate.curated import data_licence
from reinforce.curate.filters import DuplicateFilter, LeakFilter
from reinforce.curate.select import Selection
from reinforce.curate.stored import EmbeddingStore
from reinforce.licences import Licences, single_licences


def summary_of(config: CurateConfig, gallery: EmbeddingStore, selection: Selection, num_queries: int,
               approximate: dict[str, Any] | None, duplicates: DuplicateFilter | None, leaks: LeakFilter | None
               ) -> dict[str, Any]:  # fmt: skip
    """Everything but the digest and the files' hashes, which are told when they are written."""
    transfer = gallery.store.plan["transfer"]
    return {
        "strategy": config.strategy,
        "size": config.size,
        "seed": config.seed,
        "depth": selection.depth,
        "num_queries": num_queries,
        "approximate": approximate,
        "encoders": [{name: record[name] for name in ("name", "weights_sha256", "dimensions")}
                     for record in gallery.encoders],
        "gallery": {"name": transfer["name"], "digest": transfer["digest"],
                    "manifest_digest": gallery.store.manifest.digest, "crops": gallery.num_crops,
                    "items": gallery.searched.num_embedded},
        "query": None if config.query is None else {"name": catalog.resolve_data(config.query).name},
        "license": ", ".join(_licences(config, gallery)),
        "duplicates": None if duplicates is None else _of_duplicates(duplicates),
        "decontamination": None if leaks is None else _of_leaks(leaks),
    }  # fmt: skip


def _licences(config: CurateConfig, gallery: EmbeddingStore) -> tuple[str, ...]:
    """Of all images that the set holds: "unknown" is one of them where nobody said one."""
    found = [Licences.of_plan(gallery.store.plan).images]
    if config.query is not None and config.has_query_images:
        found.append(data_licence(catalog.resolve_data(config.query)))
    return single_licences(*found)


def _of_duplicates(duplicates: DuplicateFilter) -> dict[str, Any]:
    clusters = duplicates.clusters
    return {"threshold": duplicates.threshold, "clusters": len(clusters),
            "removed": sum(len(cluster.members) - 1 for cluster in clusters),
            "weakest": min((cluster.weakest.similarity for cluster in clusters), default=None)}  # fmt: skip


def _of_leaks(leaks: LeakFilter) -> dict[str, Any]:
    removed = sum(map(leaks.is_removed, leaks.found))
    return {"data": leaks.targets.name, "threshold": leaks.threshold, "possible": len(leaks.found),
            "removed": removed, "kept": len(leaks.found) - removed}  # fmt: skip
