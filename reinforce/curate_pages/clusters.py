"""Clusters of duplicates (section B.3): who is in them, which one stayed, and how weak their weakest link is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reinforce.curate.curated import ClusterRecord, CuratedSet
from reinforce.curate_pages.pictures import Picture
from reinforce.curate_pages.retrieved import Albums

CLUSTERS_SHOWN, MEMBERS_SHOWN = 40, 8


@dataclass(frozen=True, kw_only=True)
class ShownMember:
    key: str
    is_kept: bool
    is_weakest: bool
    """Of the two least similar ones."""
    num_items: int
    """Items with this key: crops of one image are duplicates of each other."""
    picture: Picture | None
    """Of the original."""


@dataclass(frozen=True, kw_only=True)
class ShownCluster:
    members: Sequence[ShownMember]
    """The kept one first, then the least similar two."""
    num_items: int
    num_keys: int
    similarity: float
    """Of the least similar two."""


def shown_clusters(curated: CuratedSet, albums: Albums) -> list[ShownCluster]:
    """The largest ones; of equal size those of the weakest link first."""
    ordered = sorted(curated.clusters, key=lambda cluster: (-len(cluster.members), cluster.similarity, cluster.kept))
    return [_shown(cluster, albums) for cluster in ordered[:CLUSTERS_SHOWN]]


def _shown(cluster: ClusterRecord, albums: Albums) -> ShownCluster:
    keys = list(dict.fromkeys([cluster.kept, *cluster.weakest, *cluster.members]))
    members = [
        ShownMember(key=key, is_kept=key == cluster.kept, is_weakest=key in cluster.weakest,
                    num_items=cluster.members.count(key), picture=albums.original(key))
        for key in keys[:MEMBERS_SHOWN]
    ]  # fmt: skip
    return ShownCluster(members=members, num_items=len(cluster.members), num_keys=len(keys),
                        similarity=cluster.similarity)  # fmt: skip
