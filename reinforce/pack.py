"""`reinforce pack`: loose images as WebDataset tars with a frozen listing, which read and open much faster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from reinforce import catalog
from reinforce.command import TalkOptions
from reinforce.counting import counted
from reinforce.data import FolderSource, ImageSource, check_outside, freeze, open_source
from reinforce.data.licence import data_licence
from reinforce.data.packed_listing import LISTING
from reinforce.data.remote_files import ObjectSource
from reinforce.data.tar_source import TarSource
from reinforce.errors import StoreAccessError, UsageError
from reinforce.packing import Packing, TarSize, sweep
from reinforce.progress import Progress, human_bytes


@dataclass(frozen=True, kw_only=True)
class PackConfig(TalkOptions):
    transfer: str
    """A folder, a CSV, tars, hf:NAME or a URL such as s3://bucket/images."""
    out: str
    """Folder for the tars and listing.jsonl."""
    shard_mb: int = 256
    """MiB that a tar holds at most; a larger image has one of its own."""
    shard_size: int | None = None
    """Images that a tar holds at most."""
    limit: int | None = None
    """Only the first N images, for tries."""
    overwrite: bool = False
    """Replace a packed set."""
    resume: bool = False
    """Continue exactly where an earlier run stopped; start where there is none."""
    dry_run: bool = False
    """Say what would be packed, and stop."""

    def __post_init__(self) -> None:
        for name in ("shard_mb", "shard_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
        if self.overwrite and self.resume:
            raise UsageError("--overwrite and --resume contradict each other: type one of them")
        if "://" in self.out:
            raise UsageError(f"--out {self.out}: pack into a folder, then copy it there")


@dataclass(frozen=True, kw_only=True)
class PackSummary:
    """What `pack` prints; before it has run (--dry-run), without what is not known yet."""

    path: str
    images: int
    left_out: int
    """Images of kinds that are not read, and masks."""
    classes: int | None
    """Those of .cls members; None where the set has none."""
    license: str
    """Of the images, as the catalog says, or the set that is packed."""
    tars: int | None = None
    bytes: int | None = None
    digest: str | None = None
    """Of the frozen listing: what a store of this set is bound to."""

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __str__(self) -> str:
        others = counted(self.left_out, "mask or image of a kind that is not read",
                         "masks or images of kinds that are not read")  # fmt: skip
        left_out = f"\n  left out: {others}" if self.left_out else ""
        if self.tars is None or self.bytes is None:
            return f"{self.path}: would pack {counted(self.images, 'image')}{left_out}"
        images, tars = counted(self.images, "image"), counted(self.tars, "tar")
        return (f"{self.path}: {images} in {tars}, {human_bytes(self.bytes)}{left_out}\n"
                f"  licence: {self.license}\n"
                f"next: reinforce build --teacher NAME --transfer {quote(self.path)}")  # fmt: skip


def pack(config: PackConfig) -> PackSummary:
    """Write the images of a transfer set into tars, with a frozen listing beside them.

    Killed at any moment it continues with --resume, and the tars have the same bytes as if it had not been.
    """
    entry = catalog.resolve_data(config.transfer)
    check_outside(Path(config.out), str(entry.path))
    source = open_source(str(entry.path))
    size = TarSize(shard_mb=config.shard_mb, shard_size=config.shard_size)
    packing = Packing(source, Path(config.out), size, config.limit, data_licence(entry, source))
    if config.dry_run:
        return _summary(config, packing, None)
    try:
        with packing.begin(overwrite=config.overwrite, resume=config.resume):
            if not (packing.folder / LISTING).exists():
                with Progress("pack", packing.num_images, quiet=config.quiet) as progress:
                    packing.run(progress.update)
            sweep(packing.folder)
    except StoreAccessError as error:
        raise StoreAccessError(f"{error}; mend that, then type the same command with --resume") from error
    packed = open_source(config.out)
    assert isinstance(packed, TarSource)
    return _summary(config, packing, packed)


def _summary(config: PackConfig, packing: Packing, packed: TarSource | None) -> PackSummary:
    names = packing.companions.class_names
    summary = PackSummary(path=config.out, images=packing.num_images, left_out=_num_left_out(packing.source),
                          classes=None if names is None else len(names), license=packing.licence)  # fmt: skip
    if packed is None:
        return summary
    sizes = [packed.files.size(shard.name) for shard in packed.shards]
    return PackSummary(**summary.__dict__ | {"tars": len(sizes), "bytes": sum(sizes), "digest": freeze(packed).digest})


def _num_left_out(source: ImageSource) -> int:
    return len(source.unread) + len(source.masks) if isinstance(source, FolderSource | ObjectSource) else 0
