"""A model on the Hugging Face Hub: the folder that `train export --format timm` has written, as it lies there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reinforce.copying import CopyOptions, resumable
from reinforce.counting import counted
from reinforce.errors import UsageError
from reinforce.remote import HubPlace
from reinforce.remote.hub import DATASETS, SCHEME
from reinforce.remote.hub_upload import Uploaded, upload_files
from reinforce.store import PLAN

MODEL, CONFIG = "model.json", "config.json"
FILES = ("README.md", CONFIG, MODEL, "model.safetensors", "extra.safetensors")
"""What such a folder holds; whatever else lies there is left alone."""
NEEDED = ("README.md", "model.safetensors")


@dataclass(frozen=True, kw_only=True)
class PushedModel:
    """What `push` prints of a model."""

    folder: str
    destination: str
    uploaded: Uploaded

    def to_json(self) -> dict[str, Any]:
        done = self.uploaded
        return {"model": self.folder, "destination": self.destination, "status": "complete", "copied": done.num_sent,
                "copied_bytes": done.sent_bytes, "there_before": done.num_there}  # fmt: skip

    def __str__(self) -> str:
        there = f", {self.uploaded.num_there} were there" if self.uploaded.num_there else ""
        name = self.destination.removeprefix("hf://")
        return (f"{self.destination}: {counted(self.uploaded.num_sent, 'file')} sent{there}, all compared\n"
                f'next: timm.create_model("hf-hub:{name}", pretrained=True)')  # fmt: skip


def is_model(location: str) -> bool:
    """Whether a folder here is a model's, in whatever layout."""
    folder = Path(location)
    return (folder / MODEL).is_file() and not (folder / PLAN).exists()


def push_model(location: str, destination: str, options: CopyOptions, *, is_public: bool) -> PushedModel:
    """Put a model's folder into a repository; one that is not there yet becomes a private one, or a public one.

    Raises UsageError for a folder that timm would not load from the Hub, for another destination, and for an unknown
    licence where it is to be public; CorruptStoreError where other files of these names are there (`options.repair`
    replaces them), RemoteAccessError.
    """
    place = _place(location, destination)
    info, config = (_read_json(Path(location, name)) for name in (MODEL, CONFIG))
    if "pretrained_cfg" not in config or not _is_whole(Path(location), info):
        raise UsageError(f"{location} is no whole folder for the Hub: type train export --model {location} --format "
                         f"timm --out FOLDER, then reinforce push FOLDER {destination}")  # fmt: skip
    if is_public:
        _check_licences(location)
    contents = {name: Path(location, name) for name in FILES if _is_plain(Path(location, name))}
    with resumable(lambda: "what arrived stays"):
        uploaded = upload_files(contents, place, f"Model {info['architecture']}", is_public=is_public,
                                repair=options.repair, quiet=options.quiet)  # fmt: skip
    return PushedModel(folder=location, destination=place.url, uploaded=uploaded)


def _check_licences(location: str) -> None:
    """Raises UsageError where nobody recorded one of the weights, of a teacher or of images."""
    from reinforce.models.directory import read_info
    from reinforce.models.origin import unknown_licences

    if unlicensed := unknown_licences(read_info(Path(location))):
        raise UsageError(f"no licence is known of {', '.join(unlicensed)}, so {location} cannot be public: leave out "
                         "--public, or export it with --license, --teacher-license and --data-license")  # fmt: skip


def _place(location: str, destination: str) -> HubPlace:
    """Raises UsageError for what is no repository of a model."""
    place = HubPlace(destination) if destination.startswith("hf://") else None
    if place is None or place.address.kind != "model" or place.address.prefix:
        wanted = "hf://OWNER/NAME" if place is None else place.url.replace(SCHEME + DATASETS, SCHEME).removesuffix(
            f"/{place.address.prefix}")  # fmt: skip
        raise UsageError(f"{location} is a model, which goes to a repository of a model: type {wanted}, or copy its "
                         "folder")  # fmt: skip
    return place


def _is_whole(folder: Path, info: Mapping[str, Any]) -> bool:
    described = isinstance(info.get("architecture"), str) and isinstance(info.get("provenance", {}), dict)
    return described and all(_is_plain(folder / name) for name in NEEDED)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _read_json(path: Path) -> Mapping[str, Any]:
    """Empty where there is none, or no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
