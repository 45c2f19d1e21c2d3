"""What experiments have recorded, as docs/*.json show it: every command with its figures, and no path of a machine.

    python tools/publish_record.py "second label budget" runs/five runs/lite0 --into docs/approaches.json

Stages that the section has already are replaced by those of the same name; folders must agree where they share one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FIGURES = ("lr", "val_accuracy", "val_mean_iou", "accuracy", "mean_iou", "num_images", "steps", "kl", "agreement",
           "contrastive", "retrieval", "cosine_distance")  # fmt: skip
"""Of a command's result."""
CERTIFIED = ("bytes_per_view", "codec", "kl_mean", "cosine_distance_mean")
"""Of a store's certificate."""


def section(folders: Sequence[Path]) -> dict[str, Any]:
    """Of all finished stages, name -> command, whole seconds and figures. Exits for a folder without a record, and for
    two stages of one name that are not the same."""
    found: dict[str, Any] = {}
    for folder in folders:
        if not (folder / "record.json").is_file():
            sys.exit(f"publish_record: {folder} has no record.json: type the --out of a sweep or a job")
        record = json.loads((folder / "record.json").read_text())
        own = {name: entry(stage, folder) for name, stage in record.items() if "result" in stage}
        if twice := next((name for name in own if found.get(name, own[name]) != own[name]), None):
            sys.exit(f"publish_record: '{twice}' is another stage in {folder}: give it a section of its own")
        found |= own
    return found


def entry(stage: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """One stage, whose paths in `folder` become those in runs/sweep. Exits where it has others of this machine."""
    words = [_portable(word, folder) for word in stage["argv"]]
    if strange := next((word for word in words if word.startswith("/")), None):
        sys.exit(f"publish_record: {strange} is a path of this machine: run the experiment with a catalog name for it")
    command, result = " ".join(words), stage["result"]
    figures = {name: result[name] for name in FIGURES if result.get(name) is not None}
    certificate = {name: value for name, value in (result.get("certificate") or {}).items() if name in CERTIFIED}
    return {"command": command, "seconds": round(stage["seconds"]), **figures,
            **({"certificate": certificate} if certificate else {})}  # fmt: skip


def _portable(word: str, folder: Path) -> str:
    path = Path(word)
    return str("runs/sweep" / path.relative_to(folder)) if path.is_relative_to(folder) else word


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section")
    parser.add_argument("folders", type=Path, nargs="+", help="what --out of a sweep or a job was, as it was typed")
    parser.add_argument("--into", type=Path, default=Path("docs/approaches.json"))
    args = parser.parse_args()
    published = json.loads(args.into.read_text()) if args.into.exists() else {}
    stages = section(args.folders)
    published[args.section] = published.get(args.section, {}) | stages
    args.into.write_text(json.dumps(published, indent=1) + "\n")
    print(f"{len(stages)} stages in '{args.section}' of {args.into}")


if __name__ == "__main__":
    main()
