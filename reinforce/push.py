"""`reinforce push`: a finished store to a folder, an object store or the Hub, for others to train from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

from reinforce.command import POSITIONAL
from reinforce.copying import Copied, CopyOptions, check_apart, copy_store
from reinforce.errors import UsageError
from reinforce.hub_push import push_to_hub
from reinforce.inspect_store import next_command_elsewhere
from reinforce.model_push import PushedModel, is_model, push_model
from reinforce.remote import HubPlace
from reinforce.remote.hub import DATASETS, SCHEME
from reinforce.stated_licences import with_licences
from reinforce.store import PLAN, Licences, open_objects, read_manifest
from reinforce.store.canonical import parse_object
from reinforce.store.remote_objects import RemoteObjects
from reinforce.store.verified import read_object


@dataclass(frozen=True, kw_only=True)
class PushConfig(CopyOptions):
    store: str = field(metadata=POSITIONAL)
    """The store: a folder, or a URL; or a model's folder, as train export --format timm writes it, for the Hub."""
    destination: str = field(metadata=POSITIONAL)
    """Where to: a folder, file://, s3://, gs:// or az://, or hf://datasets/OWNER/NAME (or a folder in it); of a model
    hf://OWNER/NAME. Other stores there are never touched."""
    public: bool = False
    """Refuse what is of unknown licences; a repository that is new on the Hub becomes a public one instead of a private
    one."""
    teacher_license: str | None = None
    """Licence of the teacher's weights, such as Apache-2.0, which the copy states where the store says "unknown"."""
    data_license: str | None = None
    """Licence of the transfer set's images, such as CC-BY-4.0, which the copy states where the store says "unknown"."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What `push` prints."""

    store: str
    destination: str
    copied: Copied
    transfer: str
    """Name of the transfer set that the store is of."""

    def to_json(self) -> dict[str, Any]:
        return {"store": self.store, "destination": self.destination, "status": "complete", **self.copied.to_json()}

    def __str__(self) -> str:
        target = str(self.copied.manifest.summary.get("target"))
        return (f"{self.destination}: {self.copied}\n"
                f"next, elsewhere: reinforce pull {quote(self.destination)} --out STORE, or without a copy "
                f"{next_command_elsewhere(target, self.destination, self.transfer)}")  # fmt: skip


def push(config: PushConfig) -> Pushed | PushedModel:
    """Copy a finished store to a folder, an object store or the Hugging Face Hub, compared at both ends; or a model to
    the Hub.

    Stopped or killed at any moment, the same command goes on. Credentials come from the environment alone.
    """
    if is_model(config.store):
        if config.teacher_license or config.data_license:
            raise UsageError("a model's licence is stated when it is exported: type train export --license")
        return push_model(config.store, config.destination, config, is_public=config.public)
    source, destination = (open_objects(place, cached=False) for place in (config.store, config.destination))
    check_apart(source, destination)
    source = with_licences(source, teacher=config.teacher_license, data=config.data_license)
    plan = parse_object(read_object(source, read_manifest(source), PLAN), PLAN)
    if config.public:
        _check_licences(plan, source.name)
    if isinstance(destination, RemoteObjects) and isinstance(destination.place, HubPlace):
        _check_kind(destination.place, source.name)
        copied = push_to_hub(source, destination.place, config, is_public=config.public)
    else:
        copied = copy_store(source, destination, label="push", jobs=config.jobs, repair=config.repair,
                            quiet=config.quiet)  # fmt: skip
    return Pushed(store=source.name, destination=destination.name, copied=copied,
                  transfer=str(plan.get("transfer", {}).get("name")))  # fmt: skip


def _check_licences(plan: Mapping[str, Any], name: str) -> None:
    """Raises UsageError where nobody said under which licence an origin stands."""
    if unknown := Licences.of_plan(plan).unknown:
        raise UsageError(f"the licence of {' and of '.join(unknown)} is unknown, so {name} cannot be public: "
                         "leave out --public, or state it with --teacher-license and --data-license")  # fmt: skip


def _check_kind(place: HubPlace, name: str) -> None:
    """Raises UsageError for a repository of a model."""
    if place.address.kind == "model":
        raise UsageError(f"{name} is a store, and {place.url} a repository of a model: "
                         f"type {SCHEME}{DATASETS}{place.url.removeprefix(SCHEME)}")  # fmt: skip
