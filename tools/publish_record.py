"""What experiments have recorded, as docs/*.json show it: every command with its figures, and no path of a machine.

    python tools/publish_record.py "second label budget" runs/five runs/lite0 --into docs/approaches.json

Stages that the section has already are replaced by those of the same name.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FIGURES = ("accuracy", "mean_iou", "num_images", "steps", "kl", "agreement")
"""Of a command's result."""
CERTIFIED = ("bytes_per_view", "codec", "kl_mean", "cosine_distance_mean")
"""Of a store's certificate."""


def section(folders: Sequence[Path]) -> dict[str, Any]:
    """Of all finished stages, name -> command, whole seconds and figures. Exits for a folder without a record."""
    found: dict[str, Any] = {}
    for folder in folders:
        if not (folder / "record.json").is_file():
            sys.exit(f"publish_record: {folder} has no record.json: type the --out of a sweep or a job")
        record = json.loads((folder / "record.json").read_text())
        found |= {name: entry(stage, folder) for name, stage in record.items() if "result" in stage}
    return found


def entry(stage: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """One stage, whose paths in `folder` become those in runs/sweep."""
    command = " ".join(stage["argv"]).replace(str(folder), "runs/sweep")
    result = stage["result"]
    figures = {name: result[name] for name in FIGURES if result.get(name) is not None}
    certificate = {name: value for name, value in (result.get("certificate") or {}).items() if name in CERTIFIED}
    return {"command": command, "seconds": round(stage["seconds"]), **figures,
            **({"certificate": certificate} if certificate else {})}  # fmt: skip


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
