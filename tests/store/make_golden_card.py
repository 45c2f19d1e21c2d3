"""Writes golden-card/ anew: the card of a fixed store, to be read by people. Only after a change of wording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reinforce.store.card import card_objects
from reinforce.store.reader import Store

HERE = Path(__file__).parent
FOLDER = HERE / "golden-card"
ORIGIN: dict[str, Any] = {
    "teacher": {
        "name": "dinov2-ft",
        "architecture": "vit_small_patch14_dinov2",
        "weights_sha256": "2" * 64,
        "license": "Apache-2.0",
    },
    "transfer": {"name": "cc3m", "digest": "1" * 64, "license": "CC-BY-SA-4.0, GPL-2.0-only", "shards": []},
    "policy": {"name": "classification", "version": 1, "size_px": 8},
    "environment": {"device": "cpu", "cudnn": None, "torch": "2.14.1"},
}


def golden_card(store: str = "klt", **changes: Any) -> dict[str, bytes]:
    """Of a golden store's bytes and certificate, with an origin as real builds tell it; `changes` replace members."""
    found = Store.open(HERE / "golden-format-1" / store)
    return card_objects(found.plan | ORIGIN | changes, found.codec, found.manifest)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for path, data in golden_card().items():
        (FOLDER / path).write_bytes(data)


if __name__ == "__main__":
    main()
