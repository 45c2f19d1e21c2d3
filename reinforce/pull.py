"""`reinforce pull`: a finished store, or a part of one, from an object store, the Hub, a web server or a folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reinforce import run_log
from reinforce.command import POSITIONAL
from reinforce.copying import Copied, CopyOptions, check_apart, copy_store
from reinforce.errors import MissingDataError, StoreAccessError
from reinforce.inspect_store import next_command, next_command_elsewhere
from reinforce.partial import Part, PartCopied, Selection, copy_part
from reinforce.progress import human_bytes
from reinforce.store import LocalObjects, Objects, Store, local_folder, open_objects, read_manifest


@dataclass(frozen=True, kw_only=True)
class PullConfig(CopyOptions):
    source: str = field(metadata=POSITIONAL)
    """The store: a URL (s3://, gs://, az://, https://, hf://datasets/OWNER/NAME), or a folder."""
    out: str
    """Folder to write."""
    views: str | None = None
    """Only these views of every sample, such as 0:2 (the end is not included)."""
    shards: str | None = None
    """Only the samples of these shards of the transfer set, such as 0:3."""


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What `pull` prints."""

    source: str
    out: str
    copied: Copied | PartCopied
    transfer: str
    """Name of the transfer set that the store is of."""
    is_known: bool
    """Whether the catalog knows where that lies here."""

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "out": self.out, "status": "complete", "transfer": self.transfer,
                "transfer_is_known": self.is_known, **self.copied.to_json()}  # fmt: skip

    def __str__(self) -> str:
        target = str(self.copied.manifest.summary.get("target"))
        if self.is_known:
            command = next_command(target, self.out)
        else:
            command = next_command_elsewhere(target, self.out, self.transfer)
        return f"{self.out}: {self.copied}\nnext: {command}"


def pull(config: PullConfig) -> Pulled:
    """Copy a finished store, or a part of one, to this machine, every object compared with its manifest.

    Stopped or killed at any moment, the same command goes on. Credentials come from the environment alone.
    """
    source = open_objects(config.source, cached=False)
    folder = local_folder(config.out, "type --out with a folder, or reinforce push to copy a store there")
    destination = LocalObjects(folder)
    check_apart(source, destination)
    part = _part(config)
    copied: Copied | PartCopied
    if part is None or part.is_whole:
        _check_room(source, folder)
        copied = copy_store(source, destination, label="pull", jobs=config.jobs, repair=config.repair,
                            quiet=config.quiet)  # fmt: skip
    else:
        copied = copy_part(part, source, destination, jobs=config.jobs, repair=config.repair, quiet=config.quiet)
    store = Store.open(destination)
    run_log.inherit(folder, store.plan, source, store.plan if part is None else part.store.plan)
    return Pulled(source=source.name, out=str(folder), copied=copied, transfer=store.plan["transfer"]["name"],
                  is_known=_is_known(store))  # fmt: skip


def _part(config: PullConfig) -> Part | None:
    """What --views and --shards ask for; None where neither is typed."""
    selection = Selection.parse(config.views, config.shards)
    return None if selection == Selection() else Part(Store.open(config.source), selection)


def _check_room(source: Objects, folder: Path) -> None:
    """Raises StoreAccessError where the disk has less left than what is still to come."""
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    needed = read_manifest(source).num_bytes - there
    existing = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise StoreAccessError(f"{folder} needs {human_bytes(needed)} more and {human_bytes(free)} are free: "
                               "free some, or pull a part with --views or --shards")  # fmt: skip


def _is_known(store: Store) -> bool:
    from reinforce.dataset import transfer_location

    try:
        transfer_location(store)
    except MissingDataError:
        return False
    return True
