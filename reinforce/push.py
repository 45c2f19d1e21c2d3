"""`reinforce push`: a finished store to a folder or an object store, for others to train from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reinforce.command import POSITIONAL
from reinforce.copying import Copied, CopyOptions, check_apart, copy_store
from reinforce.inspect_store import next_command
from reinforce.store import open_objects


@dataclass(frozen=True, kw_only=True)
class PushConfig(CopyOptions):
    store: str = field(metadata=POSITIONAL)
    """The store: a folder, or a URL."""
    destination: str = field(metadata=POSITIONAL)
    """Where to: a folder, file://, s3://, gs:// or az://. Other stores there are never touched."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What `push` prints."""

    store: str
    destination: str
    copied: Copied

    def to_json(self) -> dict[str, Any]:
        return {"store": self.store, "destination": self.destination, "status": "complete", **self.copied.to_json()}

    def __str__(self) -> str:
        command = next_command(str(self.copied.manifest.summary.get("target")), self.destination)
        return (f"{self.destination}: {self.copied}\n"
                f"next, elsewhere: {command} --transfer PLACE, or reinforce pull {self.destination} --out STORE")


def push(config: PushConfig) -> Pushed:
    """Copy a finished store to a folder or an object store, compared at both ends.

    Stopped or killed at any moment, the same command goes on. Credentials come from the environment alone.
    """
    source, destination = (open_objects(place, cached=False) for place in (config.store, config.destination))
    check_apart(source, destination)
    copied = copy_store(source, destination, label="push", jobs=config.jobs, repair=config.repair, quiet=config.quiet)
    return Pushed(store=source.name, destination=destination.name, copied=copied)
