"""Comparing what lies in a store with what its manifest lists, by names and sizes alone: one listing, no read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from shlex import quote
from typing import Literal

from reinforce.remote import is_url
from reinforce.store.canonical import one_line
from reinforce.store.manifest import Manifest
from reinforce.store.marker import CLAIMS, MARKERS
from reinforce.store.objects import Objects, is_hidden
from reinforce.store.schema import CARD, MANIFEST


@dataclass(frozen=True)
class Difference:
    """One object that is not as the manifest says."""

    path: str
    kind: Literal["missing", "size", "extra"]
    reason: str

    @property
    def harmless(self) -> bool:
        """What no reader of targets looks at: the card, hidden files, and what a build leaves until its end."""
        if self.kind == "extra":
            return is_hidden(self.path) or self.path.startswith((MARKERS, CLAIMS))
        return self.path in CARD

    def __str__(self) -> str:
        return f"{one_line(self.path)}: {self.reason}"


def advice_on(difference: Difference, name: str) -> str:
    """What to do about one of the store of this name."""
    if difference.kind == "extra" and not is_url(name):
        return f"move it elsewhere, or type reinforce verify {name} --repair to delete it"
    return mending_advice(name)


def mending_advice(name: str) -> str:
    """What to type where the store of this name is not as its manifest says."""
    if is_url(name):
        return f"push a whole copy of it there again: reinforce push STORE {quote(name)} --repair"
    return f"type reinforce verify {quote(name)} --level full --repair"


def is_of_units(path: str) -> bool:
    """Whether the end of a build computes the object from its units; all else comes before them."""
    return (path.startswith("targets/") and "/c/" in path) or path.startswith("samples/state/c/")


def differences(objects: Objects, manifest: Manifest) -> Iterator[Difference]:
    """Extra and wrongly sized objects as they are met, then the missing ones, sorted."""
    missing = set(manifest.objects)
    for path, num_bytes in objects.list():
        expected = manifest.objects.get(path)
        if expected is not None:
            missing.discard(path)
            if num_bytes < 0:
                yield Difference(path, "size", "is no plain file")
            elif num_bytes != expected.num_bytes:
                yield Difference(path, "size", f"has {num_bytes} bytes, not {expected.num_bytes}")
        elif path != MANIFEST:
            yield Difference(path, "extra", "not in the manifest")
    for path in sorted(missing):
        yield Difference(path, "missing", "missing")
