"""The frozen listing of a store: reading every image again would cost as much as the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reinforce.errors import CorruptStoreError
from reinforce.store import UnfinishedStore

if TYPE_CHECKING:
    from reinforce.data import Listing


def stored_listing(store: UnfinishedStore) -> Listing:
    """Its `num_bytes` are not kept, and 0. Raises CorruptStoreError where the samples are not those that the plan
    names by their digest."""
    from reinforce.data import Listing

    samples, transfer = store.samples(), store.plan["transfer"]
    listing = Listing.from_columns(
        shard_names=[shard["name"] for shard in transfer["shards"]],
        shard_sizes=[shard["samples"] for shard in transfer["shards"]],
        keys=samples.keys,
        sha64=samples.sha64,
        num_bytes=[0] * len(samples.keys),
        width=samples.width,
        height=samples.height,
    )
    if listing.digest != transfer["digest"]:
        name = store.objects.name
        raise CorruptStoreError(f"the samples of {name} are not those of its plan: type --overwrite to build it again")
    return listing
