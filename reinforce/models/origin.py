"""What a model's provenance says to those who get the model: trainings, stores, teachers, licences. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from reinforce.models.info import ModelInfo

UNKNOWN = "unknown"
"""A licence that nobody recorded."""


@dataclass(frozen=True, kw_only=True)
class UsedStore:
    """A store that a model, or one that it started from, was trained from."""

    digest: str
    """Of the store's manifest."""
    transfer: str
    """The transfer set's name."""
    transfer_license: str
    teacher: str
    teacher_sha256: str
    teacher_license: str


def trainings(info: ModelInfo) -> Iterator[Mapping[str, Any]]:
    """What each training of these weights recorded, the last one first."""
    training = info.provenance.get("training")
    while isinstance(training, Mapping) and training:  # others may write anything there
        yield training
        training = training.get("before")


def used_stores(info: ModelInfo) -> list[UsedStore]:
    """The stores of all trainings, the last one's first."""
    found = [store for training in trainings(info) for store in _stores_of(training)]
    return list(dict.fromkeys(found))


def weights_license(info: ModelInfo) -> str:
    """As recorded of the weights that the model started from."""
    return str(info.provenance.get("license") or UNKNOWN)


def input_interpolation(info: ModelInfo) -> Literal["bilinear", "bicubic"]:
    """How an image becomes the input: what is trained here sees views, which are resized bilinearly."""
    return "bilinear" if "training" in info.provenance else info.interpolation


def _stores_of(training: Mapping[str, Any]) -> Iterator[UsedStore]:
    """distill records `store`, of an ensemble `other_stores`, too; clip-affinity digests of images and of texts."""
    recorded = [store for store in (training.get("store"), *training.get("other_stores", ())) if store]
    pairs = [{"manifest_digest": digest, "transfer": training.get("transfer"), "teacher": training.get("teacher")}
             for digest in (training.get("stores") or {}).values() if digest]  # fmt: skip
    for store in (*recorded, *pairs):
        teacher = store.get("teacher") or {}
        yield UsedStore(
            digest=str(store.get("manifest_digest") or UNKNOWN),
            transfer=str(store.get("transfer") or UNKNOWN),
            transfer_license=str(store.get("transfer_license") or UNKNOWN),
            teacher=str(teacher.get("name", UNKNOWN)),
            teacher_sha256=str(teacher.get("weights_sha256", UNKNOWN)),
            teacher_license=str(teacher.get("license", UNKNOWN)),
        )
