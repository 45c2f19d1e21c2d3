"""A finished store with the licences that its build did not know: what `push --data-license` copies.

Plan, card and manifest are those of a build that had been told; everything else is the store's own, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reinforce.errors import StoreAccessError, UsageError
from reinforce.licences import Licences, is_unknown
from reinforce.store import MANIFEST, PLAN, Objects, Store, canonical_json
from reinforce.store.canonical import sha256_hex
from reinforce.store.card import card_objects


def with_licences(objects: Objects, *, teacher: str | None, data: str | None) -> Objects:
    """The store that states these licences, too. Raises UsageError where it states others, and as `Store.open`."""
    if teacher is None and data is None:
        return objects
    store = Store.open(objects)
    known = Licences.of_plan(store.plan)
    stated = Licences(weights=_stated("--teacher-license", teacher, known.weights),
                      images=_stated("--data-license", data, known.images))  # fmt: skip
    return objects if stated == known else LicensedObjects(store, stated)


def _stated(option: str, said: str | None, known: str) -> str:
    if said is not None and said != known and not is_unknown(known):
        raise UsageError(f"{option} {said}: the store was built under {known}: leave it out, or build it anew with it")
    return said or known


class LicensedObjects:
    """See Objects; the medium is only read."""

    def __init__(self, store: Store, licences: Licences) -> None:
        self.objects = store.objects.objects
        plan = licences.in_plan(store.plan)
        self.contents = {PLAN: canonical_json(plan)}
        manifest = replace(store.manifest, plan_digest=sha256_hex(self.contents[PLAN])).listing_also(self.contents)
        card = card_objects(plan, store.codec, manifest)
        self.contents |= card
        self.contents[MANIFEST] = manifest.listing_also(card).to_bytes()

    @property
    def name(self) -> str:
        return self.objects.name

    def get(self, path: str) -> bytes:
        return self.contents[path] if path in self.contents else self.objects.get(path)

    def get_range(self, path: str, start: int, length: int) -> bytes:
        data = self.contents.get(path)
        return self.objects.get_range(path, start, length) if data is None else data[start : start + length]

    def size(self, path: str) -> int:
        return len(self.contents[path]) if path in self.contents else self.objects.size(path)

    def exists(self, path: str) -> bool:
        return path in self.contents or self.objects.exists(path)

    def list(self) -> Iterator[tuple[str, int]]:
        yield from ((path, size) for path, size in self.objects.list() if path not in self.contents)
        yield from ((path, len(data)) for path, data in self.contents.items())

    def put_new(self, path: str, data: bytes) -> None:
        raise self._refusal()

    def delete(self, path: str) -> None:
        raise self._refusal()

    def _refusal(self) -> StoreAccessError:
        return StoreAccessError(f"{self.name} with stated licences can only be read: type the store itself")
