"""What a card is about: a finished store, seen without its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from reinforce.card_text import plain
from reinforce.licences import UNKNOWN, Licences
from reinforce.store.codecs import TargetCodec
from reinforce.store.manifest import Manifest
from reinforce.store.schema import CARD, Schema
from reinforce.store.shapes import (
    DENSE_LOGITS,
    EMBEDDINGS,
    GLOBAL_FEATURES,
    LOGITS,
    PATCH_FEATURES,
    TEXT_FEATURES,
)

_TAGS = ("knowledge-distillation", "dataset-reinforcement", "zarr")
_WORDS = {
    LOGITS: "Logits",
    DENSE_LOGITS: "Maps of logits",
    GLOBAL_FEATURES: "Global features",
    PATCH_FEATURES: "Patch features",
    TEXT_FEATURES: "Features of captions",
    EMBEDDINGS: "Embeddings",
}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Names in it come from outside: they are made plain where they are written."""

    plan: Mapping[str, Any]
    schema: Schema
    codec: TargetCodec
    manifest: Manifest
    """Without the card."""

    @classmethod
    def of(cls, plan: Mapping[str, Any], codec: TargetCodec, manifest: Manifest) -> Subject:
        others = {path: digest for path, digest in manifest.objects.items() if path not in CARD}
        without = replace(manifest, objects=others)
        return cls(plan=plan, schema=Schema.from_plan(plan), codec=codec, manifest=without)

    @property
    def content_digest(self) -> str:
        """What the store can be cited by inside itself: the digest that its manifest would have without the card."""
        return self.manifest.digest

    @property
    def title(self) -> str:
        """Such as "Logits of dinov2-ft for cc3m". Plain text."""
        return f"{_WORDS[self.schema.target]} of {plain(self.teacher('name'))} for {plain(self.transfer('name'))}"

    @property
    def tags(self) -> tuple[str, ...]:
        architecture = self.teacher("architecture")
        return _TAGS if architecture == UNKNOWN else (*_TAGS, plain(architecture))

    def teacher(self, member: str) -> str:
        return _text(self.plan.get("teacher"), member)

    def transfer(self, member: str) -> str:
        return _text(self.plan.get("transfer"), member)

    def policy(self, member: str) -> str:
        return _text(self.plan.get("policy"), member)

    @property
    def encoders(self) -> list[dict[str, str]]:
        """Of embeddings: name, architecture, weights_sha256 and license of each."""
        members = ("name", "architecture", "weights_sha256", "license")
        listed = _member(self.plan.get("teacher"), "encoders") or ()
        return [{member: _text(encoder, member) for member in members} for encoder in listed]

    @property
    def text_tower(self) -> dict[str, str] | None:
        """Of captions' features: name and weights_sha256."""
        tower = _member(self.plan.get("teacher"), "text")
        return None if tower is None else {member: _text(tower, member) for member in ("tower", "weights_sha256")}

    @property
    def environment(self) -> list[tuple[str, str]]:
        """What the targets were computed with."""
        environment = self.plan.get("environment") or {}
        return [(name, str(environment[name])) for name in sorted(environment) if environment[name] is not None]

    @property
    def licences(self) -> Licences:
        return Licences.of_plan(self.plan)


def _member(document: Any, name: str) -> Any:
    return document.get(name) if isinstance(document, Mapping) else None


def _text(document: Any, name: str) -> str:
    value = _member(document, name)
    return UNKNOWN if value is None else str(value)
