"""Photographs from Debian packages: cut-out objects in category folders, and landscapes and close-ups cut into tiles.

`objects/CATEGORY/*.png` are Tux Paint's stamps as they are (their alpha is a true mask), without symbols and cartoons;
`scenes/NAME-ROW-COLUMN.jpg` are tiles of desktop backgrounds that are photographs.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from assets.download import debian_package
from reinforce.errors import DataError, MissingDataError

TILE_PX = 512
OBJECTS = ("tuxpaint-stamps-default", "usr/share/tuxpaint/stamps")
LEFT_OUT = {"symbols", "cartoon", "hanukkah", "newyears"}
MATE = ("Aqua", "Dune", "FreshFlower", "Garden", "GreenMeadow", "LadyBird", "RainDrops", "Storm", "TwoWings", "Wood",
        "YellowFlower")  # fmt: skip
PLASMA = ("BytheWater", "ColdRipple", "ColorfulCups", "DarkestHour", "EveningGlow", "FallenLeaf", "Kite",
          "OneStandsOut", "Path", "summer_1am")  # fmt: skip
SCENES = {
    "mate-backgrounds": [f"usr/share/backgrounds/mate/nature/{name}.jpg" for name in MATE],
    "plasma-workspace-wallpapers": [f"usr/share/wallpapers/{name}/contents/images/2560x1600.jpg" for name in PLASMA],
}
SOURCES_SHA256 = "7d794db3d2db9590c042f679097cec4df638b17de55ae17a77afb71b1ca68766"


def make(downloads: Path, out: Path) -> None:
    """Raises DataError or MissingDataError when a package cannot be had or holds other files."""
    shutil.rmtree(out, ignore_errors=True)
    packages = out / "packages"
    stamps = debian_package(OBJECTS[0], downloads, packages / OBJECTS[0]) / OBJECTS[1]
    objects = [path for path in sorted(stamps.rglob("*.png")) if not LEFT_OUT & set(path.parts)]
    scenes = [_found(debian_package(name, downloads, packages / name) / path, name)
              for name, paths in SCENES.items() for path in paths]  # fmt: skip
    if (actual := sources_sha256([*objects, *scenes])) != SOURCES_SHA256:
        raise DataError(f"the packages hold other photographs than expected (sources {actual[:16]}...): remove them "
                        f"from {downloads} and start again")  # fmt: skip
    for path in objects:
        _copy(path, out / "objects" / path.relative_to(stamps))
    for path in scenes:
        _write_tiles(path, out / "scenes")
    shutil.rmtree(packages)


def sources_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 over the lines "file name TAB sha256 of the bytes", in order."""
    lines = (f"{path.name}\t{hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in paths)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _found(path: Path, package: str) -> Path:
    if not path.is_file():
        raise MissingDataError(f"{package} has no {path.name}: the package has changed")
    return path


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _write_tiles(scene: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = scene.parents[2].name if scene.stem.startswith("2560") else scene.stem
    with Image.open(scene) as image:
        for row, column, tile in _tiles(image.convert("RGB")):
            tile.save(folder / f"{name}-{row}-{column}.jpg", quality=95)


def _tiles(image: Image.Image) -> Iterator[tuple[int, int, Image.Image]]:
    """Whole tiles only; what is left at the right and at the bottom is dropped."""
    for row in range(image.height // TILE_PX):
        for column in range(image.width // TILE_PX):
            left, top = column * TILE_PX, row * TILE_PX
            yield row, column, image.crop((left, top, left + TILE_PX, top + TILE_PX))
