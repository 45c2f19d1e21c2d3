"""What curated.json says of a curation."""

from __future__ import annotations

from typing import Any

from reinforce import catalog
from reinforce.curate.curate import CurateConfig
from reinforce.curate.filters import DuplicateFilter, LeakFilter
from reinforce.curate.originals import Originals
from reinforce.curate.queries import QueryImages
from reinforce.curate.select import Selection
from reinforce.data.licence import data_licence
from reinforce.licences import single_licences


def summary_of(config: CurateConfig, originals: Originals, images: QueryImages | None, selection: Selection,
               num_queries: int, approximate: dict[str, Any] | None, duplicates: DuplicateFilter | None,
               leaks: LeakFilter | None) -> dict[str, Any]:  # fmt: skip
    """Everything but the digest and the files' hashes, which are told when they are written."""
    gallery = originals.embeddings
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
        "license": ", ".join(_licences(config, originals, images)),
        "duplicates": None if duplicates is None else _of_duplicates(duplicates),
        "decontamination": None if leaks is None else _of_leaks(leaks),
    }  # fmt: skip


def _licences(config: CurateConfig, originals: Originals, images: QueryImages | None) -> tuple[str, ...]:
    """Of all images that the set holds: "unknown" is one of them where nobody said one."""
    found = [originals.licence]
    if config.query is not None and images is not None:
        found.append(data_licence(catalog.resolve_data(config.query), images.source))
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
