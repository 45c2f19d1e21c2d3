"""The target dataset as embeddings: every image of every split, by the gallery's encoders (B.4).

M = images, D = dimensions of all encoders together
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reinforce import catalog
from reinforce.command import OutputOptions
from reinforce.curate.embeddings import Vectors
from reinforce.curate.stored import EmbeddingStore
from reinforce.embed import EmbedConfig, embed
from reinforce.errors import UsageError
from reinforce.views import policy_from_json

EMBEDDED = "target-emb.zarr"


@dataclass(frozen=True)
class Targets:
    """All images of a target dataset that can be decoded."""

    name: str
    keys: Sequence[str]
    """(M,)"""
    vectors: Vectors
    """(M, D)"""


def open_targets(data: str, gallery: EmbeddingStore, encoders: Sequence[str], folder: Path,
                 options: OutputOptions) -> Targets:  # fmt: skip
    """A store of embeddings, or data that are embedded into one inside of `folder` (which resumes).

    Raises UsageError for a store by other encoders than the gallery's, and as `embed`.
    """
    store = EmbeddingStore(data if is_store(data) else _embedded(data, gallery, encoders, folder, options))
    check_same_encoders(store, gallery)
    vectors = store.wholes.vectors(store.embedded_samples * store.store.num_views)
    keys = [store.keys[sample] for sample in store.embedded_samples.tolist()]
    return Targets(store.store.plan["transfer"]["name"], keys, vectors)


def target_identity(data: str) -> str:
    """What a request says of the target data: the digest of a store, or the name of data."""
    return EmbeddingStore(data).store.manifest.digest if is_store(data) else catalog.resolve_data(data).name


def is_store(location: str) -> bool:
    """Whether it is a store and no images."""
    return Path(location, "plan.json").exists() or Path(location, "manifest.json").exists()


def check_same_encoders(store: EmbeddingStore, gallery: EmbeddingStore) -> None:
    """Raises UsageError where two stores' vectors cannot be compared."""
    if [_identity(record) for record in store.encoders] != [_identity(record) for record in gallery.encoders]:
        names = " ".join(f"--encoder {record['name']}" for record in gallery.encoders)
        raise UsageError(f"{store.name} and {gallery.name} are by other encoders: type reinforce embed ... {names} "
                         "with the same --image-size")  # fmt: skip


def _identity(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return record["weights_sha256"], record["preprocess"], record["dimensions"]


def _embedded(data: str, gallery: EmbeddingStore, encoders: Sequence[str], folder: Path,
              options: OutputOptions) -> Path:  # fmt: skip
    plan, out = gallery.store.plan, folder / EMBEDDED
    names = tuple(encoders) or tuple(record["name"] for record in gallery.encoders)
    size_px = policy_from_json(gallery.store.policy_json).size_px
    embed(EmbedConfig(gallery=str(catalog.resolve_data(data).path), encoder=names, image_size=size_px,
                      batch_size=plan["batch_size"], out=str(out), resume=True, device=options.device,
                      workers=options.workers, quiet=options.quiet))  # fmt: skip
    return out
