"""What a model's provenance says to those who get the model: trainings, stores, teachers, licences. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from reinforce.licences import UNKNOWN, is_unknown
from reinforce.models.info import ModelInfo

LABELLED: Literal["labelled images"] = "labelled images"
UNLABELLED: Literal["images"] = "images"
PAIR_KEYS = ("transfer", "transfer_license", "teacher")
"""What clip-affinity records beside its stores' digests."""


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


@dataclass(frozen=True, kw_only=True)
class LearnedImages:
    """Images that a training looked at itself, not by a store."""

    name: str
    license: str
    kind: Literal["labelled images", "images"]


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


def learned_images(info: ModelInfo) -> list[LearnedImages]:
    """Of all trainings, the last one's first."""
    found = [LearnedImages(name=str(training[key]), license=str(training.get(f"{key}_license") or UNKNOWN), kind=kind)
             for training in trainings(info) if not any(_stores_of(training))
             for key, kind in (("data", LABELLED), ("transfer", UNLABELLED)) if training.get(key)]  # fmt: skip
    return list(dict.fromkeys(found))


def unknown_licences(info: ModelInfo) -> tuple[str, ...]:
    """What nobody recorded a licence of, in words: the weights, teachers, transfer sets and other images."""
    stores = used_stores(info)
    said = {
        "the weights": weights_license(info),
        **{f"teacher {store.teacher}": store.teacher_license for store in stores},
        **{f"transfer set {store.transfer}": store.transfer_license for store in stores},
        **{f"{images.kind} {images.name}": images.license for images in learned_images(info)},
    }
    return tuple(words for words, licence in said.items() if is_unknown(licence))


def with_stated(info: ModelInfo, *, weights: str | None, teacher: str | None, data: str | None) -> ModelInfo:
    """The model with these licences: the weights' whatever was recorded, others where nobody recorded one."""
    if weights is not None:
        info = info.with_provenance(license=weights)
    training = info.provenance.get("training")
    return info if not training else info.with_provenance(training=_stated(training, teacher, data))


def weights_license(info: ModelInfo) -> str:
    """As recorded of the weights that the model started from."""
    return str(info.provenance.get("license") or UNKNOWN)


def input_interpolation(info: ModelInfo) -> Literal["bilinear", "bicubic"]:
    """How an image becomes the input: what is trained here sees views, which are resized bilinearly."""
    return "bilinear" if "training" in info.provenance else info.interpolation


def _stores_of(training: Mapping[str, Any]) -> Iterator[UsedStore]:
    """distill records `store`, of an ensemble `other_stores`, too; clip-affinity digests of images and of texts."""
    recorded = [store for store in (training.get("store"), *training.get("other_stores", ())) if store]
    pairs = [{"manifest_digest": digest, **{key: training.get(key) for key in PAIR_KEYS}}
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


def _stated(training: Mapping[str, Any], teacher: str | None, data: str | None) -> dict[str, Any]:
    """What a training recorded, and those before it."""
    said = _filled({"data": data, "transfer": data}, training)
    if isinstance(said.get("teacher"), Mapping):
        said["teacher"] = _licensed(said["teacher"], "license", teacher)
    if said.get("store"):
        said["store"] = _store_stated(said["store"], teacher, data)
    if said.get("other_stores"):
        said["other_stores"] = [_store_stated(store, teacher, data) for store in said["other_stores"]]
    if said.get("before"):
        said["before"] = _stated(said["before"], teacher, data)
    return said


def _store_stated(store: Mapping[str, Any], teacher: str | None, data: str | None) -> dict[str, Any]:
    return {**_filled({"transfer": data}, store), "teacher": _licensed(store.get("teacher") or {}, "license", teacher)}


def _filled(licences: Mapping[str, str | None], record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the licence of each of these images that it names."""
    said = dict(record)
    for name, licence in licences.items():
        if said.get(name):
            said = _licensed(said, f"{name}_license", licence)
    return said


def _licensed(record: Mapping[str, Any], key: str, licence: str | None) -> dict[str, Any]:
    is_known = licence is None or not is_unknown(str(record.get(key) or UNKNOWN))
    return dict(record) if is_known else {**record, key: licence}
