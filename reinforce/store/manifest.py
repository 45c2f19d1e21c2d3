"""`manifest.json`: every object with its hash. It exists = the store is finished; its digest names the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from reinforce.errors import CorruptStoreError, MissingStoreError, StoreError, UnfinishedStoreError, suggestion
from reinforce.remote import is_url
from reinforce.store.canonical import MAX_JSON_BYTES, Fields, canonical_json, parse_object, sha256_hex
from reinforce.store.interrupted import finishing_command, growing_path
from reinforce.store.marker import ObjectDigest
from reinforce.store.objects import Objects, check_path
from reinforce.store.schema import FORMAT, MANIFEST, PLAN

_FIGURES = ("mean", "p50", "p99", "max")
_CERTIFIED = (*(f"kl_{name}" for name in _FIGURES), "top1_agreement", "temperature")
_CERTIFIED_FEATURES = tuple(f"cosine_distance_{name}" for name in _FIGURES)
_MEMBERS = {"format", "status", "digest", "plan_digest", "objects", "summary", "skipped", "certificate"}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`objects` lists everything but the manifest itself; `summary`, `skipped` and `certificate` are for people.

    `certificate`: bytes_per_view, codec; of logits kl_mean, kl_p50, kl_p99, kl_max (nats, at `temperature`),
    top1_agreement (0..1), temperature; of features cosine_distance_mean, _p50, _p99, _max.
    """

    plan_digest: str
    objects: Mapping[str, ObjectDigest]
    summary: Mapping[str, Any]
    skipped: tuple[Mapping[str, Any], ...]
    certificate: Mapping[str, Any]
    later: Mapping[str, Any] = field(default_factory=dict)
    """Members that a later version added: kept, since the digest is over them too."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON without the member `digest`."""
        return sha256_hex(canonical_json(self._members()))

    def to_bytes(self) -> bytes:
        return canonical_json({**self._members(), "digest": self.digest})

    @property
    def num_bytes(self) -> int:
        """Bytes of all objects together, without the manifest."""
        return sum(digest.num_bytes for digest in self.objects.values())

    def listing_also(self, contents: Mapping[str, bytes]) -> Manifest:
        """A copy that lists these objects, too."""
        digests = {path: ObjectDigest.of(data) for path, data in contents.items()}
        return replace(self, objects={**self.objects, **digests})

    def _members(self) -> dict[str, Any]:
        return {
            **self.later,
            "format": FORMAT,
            "status": "complete",
            "plan_digest": self.plan_digest,
            "objects": {path: digest.to_json() for path, digest in self.objects.items()},
            "summary": dict(self.summary),
            "skipped": [dict(row) for row in self.skipped],
            "certificate": dict(self.certificate),
        }

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Raises CorruptStoreError where the digest differs or a member is none of ours, StoreError if it is newer."""
        document = parse_object(data, MANIFEST)
        fields = Fields(document, MANIFEST)
        if fields.integer("format", 1, 1 << 31) > FORMAT:
            raise StoreError(f"store format {document['format']} is newer than {FORMAT}: upgrade reinforce-vision")
        stated = fields.digest("digest")
        if sha256_hex(canonical_json({name: value for name, value in document.items() if name != "digest"})) != stated:
            raise CorruptStoreError(f"{MANIFEST} differs from its own digest: it was edited after it was written")
        listed = fields.inner("objects")
        rows = fields.items("skipped")
        if fields.text("status") != "complete":
            raise CorruptStoreError(f"{MANIFEST} is not that of a complete store")
        _check_words(fields.inner("certificate"), rows)
        manifest = cls(
            plan_digest=fields.digest("plan_digest"),
            objects={
                check_path(path): ObjectDigest.from_json(listed.members[path], f"{MANIFEST}: {path}")
                for path in listed.members
            },
            summary=fields.inner("summary").members,
            skipped=tuple(rows),
            certificate=fields.inner("certificate").members,
            later={name: value for name, value in document.items() if name not in _MEMBERS},
        )
        if manifest.objects.get(PLAN, ObjectDigest(0, "")).sha256 != manifest.plan_digest:
            raise CorruptStoreError(f"{MANIFEST} belongs to another plan")
        return manifest


def _check_words(certificate: Fields, skipped: Sequence[object]) -> None:
    """What people are shown must be there. Raises CorruptStoreError."""
    is_features = _CERTIFIED_FEATURES[0] in certificate.members
    for name in ("bytes_per_view", *(_CERTIFIED_FEATURES if is_features else _CERTIFIED)):
        certificate.number(name)
    certificate.text("codec")
    for row in skipped:
        fields = Fields(row, f"{MANIFEST}: 'skipped'")
        fields.text("key")
        fields.text("reason")


def read_manifest(objects: Objects) -> Manifest:
    """The manifest of a finished store.

    Raises MissingStoreError where there is no store, UnfinishedStoreError where its build has not ended,
    CorruptStoreError where the manifest is damaged.
    """
    try:
        if objects.size(MANIFEST) > MAX_JSON_BYTES:
            raise CorruptStoreError(f"{MANIFEST} is over the limit of {MAX_JSON_BYTES} bytes")
        return Manifest.parse(objects.get(MANIFEST))
    except FileNotFoundError:
        pass
    if objects.exists(PLAN):
        raise UnfinishedStoreError(f"{objects.name} is not finished: type the command that began it again, "
                                   f"{finishing_command(objects)}")  # fmt: skip
    raise missing_store(objects)


def missing_store(objects: Objects) -> MissingStoreError:
    """Names the stores that lie beside the place, which may have been mistyped."""
    if is_url(objects.name):
        return MissingStoreError(f"{objects.name} is no store: put one there with reinforce push STORE {objects.name}")
    place = Path(objects.name)
    grown = growing_path(place)
    if (grown / MANIFEST).is_file() and not place.exists():
        return MissingStoreError(f"{place} was moved away by the store that grew from it, which was stopped before it "
                                 "took its place: type the 'reinforce build' of more views again, or "
                                 f"mv {grown} {place}")  # fmt: skip
    beside = [path.parent.name for path in place.parent.glob(f"*/{PLAN}")]
    hint = suggestion(place.name, beside) or f": make one with reinforce build --out {place}"
    return MissingStoreError(f"{place} is no store{hint}")
