"""`--like STORE`: another teacher answers the very views of a store, so that both can be averaged or compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from reinforce.data import Listing
from reinforce.errors import TransferMismatchError, UsageError
from reinforce.store import UnfinishedStore, open_objects
from reinforce.target_options import TargetOptions
from reinforce.units import check_memory
from reinforce.views import Policy, policy_from_json


@dataclass(frozen=True)
class SharedViews:
    """What a store's plan says of its pixels; the store need not be finished."""

    store: str
    plan: Mapping[str, Any]

    @classmethod
    def of(cls, store: str) -> SharedViews:
        """Raises MissingStoreError, CorruptStoreError, UsageError for a part of a store."""
        found = UnfinishedStore(open_objects(store))
        if found.schema.is_part:
            raise UsageError(f"--like {store}: it is a part of another store: type that one")
        return cls(store, found.plan)

    @property
    def policy(self) -> Policy:
        return policy_from_json(self.plan["policy"])

    @property
    def temperature(self) -> float | None:
        """At which its logits are certified; None for features."""
        temperature: float | None = self.plan["promise"].get("temperature")
        return temperature

    def applied(self, options: TargetOptions) -> TargetOptions:
        """The options with the store's number of views and of images. Raises UsageError where others were typed."""
        seed = self.plan["policy"].get("seed", options.seed)
        planned = {"views": self.plan["views"], "limit": self.plan["limit"], "seed": seed}
        for name, value in planned.items():
            typed = getattr(options, name)
            if typed not in (value, getattr(TargetOptions, name)):
                raise UsageError(f"--{name} {typed} contradicts --like {self.store}, which has {value}: leave it out")
        return replace(options, **planned)

    def unit_rows(self, listing: Listing, num_values: int, budget_mb: int) -> int:
        """Rows a unit, as the store is cut: mixed views have partners of their unit.

        Raises TransferMismatchError for another listing than the store's, UsageError where the memory for a unit's
        targets (of `num_values` float32 each) is exceeded.
        """
        if listing.digest != self.plan["transfer"]["digest"]:
            raise TransferMismatchError(f"the transfer set is not that of {self.store}, by keys and hashes: "
                                        "type --transfer PATH of the set that it was built from")  # fmt: skip
        rows: int = self.plan["unit_rows"]
        check_memory(self.store, rows, self.plan["views"], num_values, budget_mb)
        return rows
