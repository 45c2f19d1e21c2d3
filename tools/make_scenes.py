#!/usr/bin/env python3
"""Write scenes with true masks: clip art and cut-out photographs pasted onto backgrounds.

    python tools/make_scenes.py --out runs/scenes --num-train 4000 --num-test 500 --size 96 --seed 0
    train adapt --task segmentation --data runs/scenes ...

OUT gets {train,test}/images/N.png, {train,test}/masks/N.png (class ids; 0 = background, 255 = ignored: soft edges),
classes.txt and scenes.json, the record. The same seed gives the same bytes with the same Pillow and NumPy; more scenes
of a seed begin with the fewer. Objects and backgrounds of test are others than those of train, for any seed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import PIL
from PIL import Image
from scenes.backgrounds import Tile, draw_background, load_tiles, split_tiles
from scenes.compose import Mask, compose, draw_casts
from scenes.group import Group
from scenes.groups import BACKGROUND, GROUPS, SETS, choose_groups
from scenes.objects import Cutout, files_sha256, load_cutouts, split_cutouts

from reinforce import catalog
from reinforce.data import IGNORE
from reinforce.errors import MissingDataError, OutputExistsError, ReinforceError, UnknownNameError, UsageError
from reinforce.pages.palette import palette as class_palette
from reinforce.progress import Progress

OBJECTS = {
    "openclipart": ("openclipart", "openclipart"),
    "photographs": ("photographed-objects", "photographs"),
    "emoji": ("emoji-1000", "emoji-1000"),
}
"""What a group calls an asset -> its catalog name, and what fetches it."""
BACKGROUNDS = "photographed-scenes"
RECORD = "scenes.json"
MIN_SIZE_PX, MAX_SIZE_PX = 32, 512
COLOURS = ((0, 0, 0), (230, 25, 75), (150, 75, 0), (0, 130, 200), (255, 225, 25), (245, 130, 48), (60, 180, 75),
           (145, 30, 180), (70, 240, 240), (240, 50, 230))  # fmt: skip
"""Of the first classes in the masks' palette, for people; programs read the indices."""


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """What is asked for."""

    out: Path
    num_train: int = 1000
    num_test: int = 200
    size: int = 96
    """Side of a scene in px."""
    seed: int = 0
    classes: Sequence[str] | None = None
    """Some of the classes, in this order; or a set of others, ("fine",) or ("emoji",)."""
    overwrite: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        for option, number in (("--num-train", self.num_train), ("--num-test", self.num_test)):
            if number < 1:
                raise UsageError(f"{option} {number} leaves no scenes: give 1 or more")
        if not MIN_SIZE_PX <= self.size <= MAX_SIZE_PX:
            raise UsageError(f"--size {self.size} is not within {MIN_SIZE_PX}..{MAX_SIZE_PX} px")


def make_scenes(config: Scenes) -> dict[str, Any]:
    """Write all scenes and return the record. A rename makes the folder appear whole.

    Raises MissingDataError without the assets, OutputExistsError for a folder that is there.
    """
    groups = choose_groups(config.classes)
    roots, tiles_folder = _assets(groups)
    _check_free(config)
    cutouts = split_cutouts(load_cutouts(groups, roots, 2 * config.size))
    tiles = split_tiles(load_tiles(tiles_folder))
    partial = config.out.absolute().with_name(f".tmp-{config.out.name}")
    shutil.rmtree(partial, ignore_errors=True)
    names = [BACKGROUND, *(group.name for group in groups)]
    shares = {
        split: _write_split(partial / split, split, count, config, cutouts[split], tiles[split], len(names))
        for split, count in (("train", config.num_train), ("test", config.num_test))
    }
    record = _record(config, groups, cutouts, tiles) | {"pixel_share": _named(shares, names)}
    (partial / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    (partial / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if config.out.exists():
        shutil.rmtree(config.out)
    partial.rename(config.out)
    return record


def _write_split(folder: Path, split: str, count: int, config: Scenes, cutouts: Sequence[Cutout], tiles: list[Tile],
                 num_classes: int) -> list[float]:  # fmt: skip
    """Returns the share of the pixels of every class, and last of those that are ignored."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    pixels = np.zeros(IGNORE + 1, dtype=np.int64)
    palette = _palette(num_classes)
    casts = draw_casts(cutouts, count, Random(f"{config.seed} {split}"))
    with Progress(split, count, unit="scenes", quiet=config.quiet) as progress:
        for number, cast in enumerate(casts):
            random = Random(f"{config.seed} {split} {number}")
            scene, mask_HW = compose(draw_background(tiles, split, config.size, random), cast, random)
            scene.save(folder / "images" / f"{number:06d}.png")
            _save_mask(mask_HW, palette, folder / "masks" / f"{number:06d}.png")
            pixels += np.bincount(mask_HW.ravel(), minlength=IGNORE + 1)
            progress.update(1)
    shares = pixels / pixels.sum()
    return [round(float(share), 5) for share in (*shares[:num_classes], shares[IGNORE])]


def _palette(num_classes: int) -> list[int]:
    """Channels of the colours of all 256 ids; those that are ignored are white."""
    colours = [*COLOURS, *class_palette()[len(COLOURS) : num_classes].tolist()]
    channels = [channel for colour in colours for channel in colour]
    return channels + [0] * (3 * IGNORE - len(channels)) + [255, 255, 255]


def _save_mask(mask_HW: Mask, palette: list[int], path: Path) -> None:
    picture = Image.fromarray(mask_HW)
    picture.putpalette(palette)
    picture.save(path)


def _record(config: Scenes, groups: Sequence[Group], cutouts: Mapping[str, Sequence[Cutout]],
            tiles: Mapping[str, Sequence[Tile]]) -> dict[str, Any]:  # fmt: skip
    """What went into the scenes; no time and no path of this machine."""
    numbers = {split: [cutout.class_id for cutout in members] for split, members in cutouts.items()}
    return {
        "seed": config.seed,
        "size_px": config.size,
        "num_scenes": {"train": config.num_train, "test": config.num_test},
        "objects": {
            group.name: {split: ids.count(class_id) for split, ids in numbers.items()}
            for class_id, group in enumerate(groups, 1)
        },
        "objects_sha256": {split: files_sha256(members) for split, members in cutouts.items()},
        "photographs": {split: sorted({tile.photograph for tile in members}) for split, members in tiles.items()},
        "photographs_sha256": {split: files_sha256(members) for split, members in tiles.items()},
        "libraries": {"pillow": PIL.__version__, "numpy": np.__version__},
    }


def _named(shares: Mapping[str, Sequence[float]], names: Sequence[str]) -> dict[str, dict[str, float]]:
    return {split: dict(zip([*names, "ignored"], values, strict=True)) for split, values in shares.items()}


def _assets(groups: Sequence[Group]) -> tuple[dict[str, Path], Path]:
    """Where the assets are that the groups have places in, and the backgrounds'. Raises MissingDataError."""
    needed = {asset for group in groups for asset, _ in group.places()}
    chosen = {asset: names for asset, names in OBJECTS.items() if asset in needed}
    try:
        roots = {asset: Path(str(catalog.resolve_data(name).path)) for asset, (name, _) in chosen.items()}
        return roots, Path(str(catalog.resolve_data(BACKGROUNDS).path))
    except (MissingDataError, UnknownNameError) as error:
        packages = " ".join(dict.fromkeys([*(package for _, package in chosen.values()), "photographs"]))
        raise MissingDataError(f"images are not here: type python tools/fetch_assets.py {packages}") from error


def _check_free(config: Scenes) -> None:
    if not config.out.exists():
        return
    if not config.overwrite:
        raise OutputExistsError(config.out)
    if not (config.out / RECORD).is_file():
        raise OutputExistsError(
            config.out, f"it has no {RECORD}, so it is not replaced: remove it or type another --out"
        )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--num-train", type=int, default=Scenes.num_train)
    parser.add_argument("--num-test", type=int, default=Scenes.num_test)
    parser.add_argument("--size", type=int, default=Scenes.size, help="side of a scene in px")
    parser.add_argument("--seed", type=int, default=Scenes.seed)
    parser.add_argument("--classes", nargs="+", metavar="NAME",
                        help=f"some of {', '.join(group.name for group in GROUPS)}; or a set of other classes: "
                             + ", ".join(f"{name} ({len(groups)})" for name, groups in SETS.items()))  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace earlier scenes")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print the record as one JSON object")
    options = vars(parser.parse_args(argv))
    as_json = options.pop("json")
    started = time.monotonic()
    try:
        record = make_scenes(Scenes(**options))
    except (ReinforceError, OSError) as error:
        print(f"make_scenes: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, ReinforceError) else 1
    if as_json:
        print(json.dumps(record))
    else:
        out, seconds = options["out"], time.monotonic() - started
        print(f"{out}: {options['num_train']} + {options['num_test']} scenes in {seconds:.0f} s")
        print(f"next: train adapt --task segmentation --model dinov2-vits14 --data {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
