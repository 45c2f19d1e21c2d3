"""Under which licences a store's origins stand: as its plan records them, and as the Hugging Face Hub calls them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNKNOWN = "unknown"
OTHER = "other"
HUB_LICENSES = frozenset({
    "afl-3.0", "agpl-3.0", "apache-2.0", "apple-amlr", "apple-ascl", "artistic-2.0", "bigcode-openrail-m",
    "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear",
    "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0",
    "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0",
    "cdla-sharing-1.0", "creativeml-openrail-m", "deepfloyd-if-license", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0",
    "eupl-1.1", "gemma", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr",
    "llama2", "llama3", "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa", "odbl", "odc-by", "ofl-1.1", "openrail",
    "openrail++", "osl-3.0", "pddl", "postgresql", "unlicense", "wtfpl", "zlib",
})  # fmt: skip
"""Identifiers that a card on the Hub may name (its page "Licenses")."""


@dataclass(frozen=True, kw_only=True)
class Licences:
    """Of a store's two origins; each may be several with commas between them, or "unknown"."""

    weights: str
    """Of the teacher's weights."""
    images: str
    """Of the transfer set's images."""

    @classmethod
    def of_plan(cls, plan: Mapping[str, Any]) -> Licences:
        weights, images = (str(plan.get(origin, {}).get("license") or UNKNOWN) for origin in ("teacher", "transfer"))
        return cls(weights=weights, images=images)

    def in_plan(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """The plan with these; the inverse of `of_plan`."""
        said = {"teacher": self.weights, "transfer": self.images}
        return {**plan, **{origin: {**plan.get(origin, {}), "license": licence} for origin, licence in said.items()}}

    @property
    def all(self) -> tuple[str, ...]:
        """Every single one, once."""
        return single_licences(self.weights, self.images)

    @property
    def unknown(self) -> tuple[str, ...]:
        """What is missing, in words."""
        origins = {"the teacher's weights": self.weights, "the transfer set's images": self.images}
        return tuple(words for words, licence in origins.items() if is_unknown(licence))

    @property
    def hub(self) -> tuple[str, ...]:
        """All as identifiers of the Hub: ("unknown",) where one is missing, ("other",) where it does not know one."""
        found = tuple(dict.fromkeys(_hub_name(licence) for licence in self.all))
        return next(((word,) for word in (UNKNOWN, OTHER) if word in found), found)

    @property
    def name(self) -> str:
        """One word for all of them, as the Hub wants where it knows them not."""
        return re.sub(r"[^a-z0-9.+]+", "-", " and ".join(self.all).lower()).strip("-")[:96]


def is_unknown(licence: str) -> bool:
    """Whether nobody said one of them."""
    return UNKNOWN in single_licences(licence.lower())


def single_licences(*licences: str) -> tuple[str, ...]:
    """What is said with commas between, each once."""
    parts = (part.strip() for licence in licences for part in licence.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def _hub_name(licence: str) -> str:
    name = re.sub(r"-(only|or-later)$", "", licence.lower())
    return name if name in HUB_LICENSES or name == UNKNOWN else OTHER
