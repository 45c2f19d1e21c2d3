"""The card of a finished store: `README.md` for people and the Hub, `croissant.json` for machines.

Both are functions of the plan and of what the manifest lists and certifies without them: no time, no place, no host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reinforce.store.card.croissant import croissant
from reinforce.store.card.readme import readme
from reinforce.store.card.subject import Subject
from reinforce.store.codecs import TargetCodec
from reinforce.store.manifest import Manifest
from reinforce.store.schema import CROISSANT, README


def card_objects(plan: Mapping[str, Any], codec: TargetCodec, manifest: Manifest) -> dict[str, bytes]:
    """Path -> bytes of the card; whether `manifest` lists one already makes no difference."""
    subject = Subject.of(plan, codec, manifest)
    return {README: readme(subject), CROISSANT: croissant(subject)}
