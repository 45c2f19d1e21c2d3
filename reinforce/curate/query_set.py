"""What a gallery is searched for: query images, or the class names of their dataset, as unit vectors.

Q = queries, D = dimensions of all encoders together
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reinforce.curate.embeddings import Vectors
from reinforce.curate.queries import QueryImages, class_names, embed_queries
from reinforce.curate.stored import EmbeddingStore
from reinforce.curate.text_queries import published_templates, text_queries
from reinforce.encoders import reopen_encoders
from reinforce.errors import UsageError
from reinforce.models.open_clip_encoder import PREFIX as OPEN_CLIP
from reinforce.views import policy_from_json


@dataclass(frozen=True)
class Queries:
    """Names and vectors, row by row."""

    names: tuple[str, ...]
    """Keys of images, or class names."""
    vectors: Vectors
    """(Q, D)"""


def image_queries(images: QueryImages, gallery: EmbeddingStore, names: Sequence[str], device: str
                  ) -> tuple[QueryImages, Queries]:  # fmt: skip
    """The images that can be decoded, encoded as the gallery was. Raises as `reopen_encoders` and `embed_queries`."""
    plan = gallery.store.plan
    encoders = reopen_encoders(gallery.encoders, names, device=device, threads=plan["threads"],
                               batch_size=plan["batch_size"])  # fmt: skip
    kept, vectors = embed_queries(images, encoders, policy_from_json(gallery.store.policy_json).size_px)
    return kept, Queries(kept.keys, vectors)


def class_queries(data: str, task: str, gallery: EmbeddingStore, names: Sequence[str], templates: str,
                  device: str) -> Queries:  # fmt: skip
    """A query for every class, in the joint space of each encoder. Raises UsageError where one has no text half."""
    classes = class_names(data, task)
    models = list(names) or [record["name"] for record in gallery.encoders]
    check_pairs(gallery.encoders)
    parts = [text_queries(model, classes, device=device, templates=published_templates(templates)) for model in models]
    return Queries(parts[0][0], np.concatenate([vectors for _, vectors in parts], axis=1))


def check_pairs(encoders: Sequence[Mapping[str, Any]]) -> None:
    """Raises UsageError naming the first encoder that is no open_clip pair."""
    for record in encoders:
        if not str(record["architecture"]).startswith(OPEN_CLIP):
            raise UsageError(f"the encoder '{record['name']}' has no text half, which --strategy text asks: embed the "
                             "gallery by open_clip pairs alone, or type another --strategy")  # fmt: skip


def queries_digest(queries: Queries | None) -> str | None:
    """SHA-256 over names and vectors."""
    if queries is None:
        return None
    names = "\0".join(queries.names).encode("utf-8", "surrogateescape")
    return hashlib.sha256(names + b"\0" + queries.vectors.tobytes()).hexdigest()
