"""Open Clip Art as a small task: folders that show one kind of thing each, nothing twice, and all the rest unlabelled.

`{train,test}/CLASS/NAME.png` are half of a class each. `gallery/` has every picture of the catalogue that is not of
the test half, nor nearly a copy of one of it. All are of at most 64 px. The catalogue's own folders are no classes
that anybody could learn: "tools" holds starbursts, and 526 files are links into another folder.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from scenes.alike import Thumb, is_new

from assets import openclipart
from reinforce.data import hash64, header_size

SIDE_PX = 64
MAX_PIXELS = 4_000_000
MOST = 160
"""Pictures of a class."""
CLASSES: Mapping[str, str] = {
    "arrows": "shapes/arrows",
    "beverages": "food/beverages",
    "birds": "animals/birds",
    "bugs": "animals/bugs",
    "buttons": "computer/buttons",
    "cards": "recreation/games/cards",
    "clothing": "people/clothing",
    "desserts": "food/desserts",
    "flags": "signs_and_symbols/flags",
    "fruit": "food/fruit",
    "hardware": "computer/hardware",
    "mammals": "animals/mammals",
    "map-symbols": "signs_and_symbols/map_symbols",
    "music": "recreation/music",
    "patterns": "special/patterns",
}
"""Class -> its folder, with those below it. Each has 39 pictures or more that differ."""


@dataclass(frozen=True)
class Drawing:
    """A file of the catalogue, and its picture as it is kept."""

    name: str
    picture: Image.Image
    """RGBA"""


def make(downloads: Path, out: Path) -> None:
    """From the asset `openclipart`, which is fetched where it is not there. Raises as that does."""
    tree = out.with_name("openclipart")
    if not tree.is_dir():
        openclipart.make(downloads, tree)
    shutil.rmtree(out, ignore_errors=True)
    write_task(tree, out)


def write_task(tree: Path, out: Path) -> None:
    """The task's folders, from the catalogue's tree. Every other picture of a class, by its name's hash, is a test."""
    tested: list[Thumb] = []
    for label, folder in CLASSES.items():
        thumbs: list[Thumb] = []
        for number, drawing in enumerate(_differing(drawings(tree, folder), thumbs, MOST)):
            _save(drawing, out / ("train" if number % 2 else "test") / label)
            if number % 2 == 0:
                tested += thumbs[-2:]
    _write_gallery(tree, out / "gallery", tested)


def drawings(tree: Path, folder: str = "") -> Iterator[Drawing]:
    """Those below a folder of the catalogue that are no links and not too large, by the hash of their names."""
    paths = {path.relative_to(tree).as_posix(): path for path in (tree / folder).rglob("*.png")}
    for name in sorted(paths, key=hash64):
        data = b"" if paths[name].is_symlink() else paths[name].read_bytes()
        width, height = header_size(data)
        if 0 < width * height <= MAX_PIXELS:
            yield Drawing(name, _small(data))


def _differing(found: Iterator[Drawing], thumbs: list[Thumb], most: int) -> Iterator[Drawing]:
    """The first `most` of which none is nearly a copy of another; their thumbnails join the list."""
    new = (drawing for drawing in found if is_new(drawing.picture, thumbs))
    for _, drawing in zip(range(most), new, strict=False):
        yield drawing


def _write_gallery(tree: Path, folder: Path, tested: list[Thumb]) -> None:
    for drawing in drawings(tree):
        if is_new(drawing.picture, list(tested)):
            _save(drawing, folder / Path(drawing.name).parent)


def _small(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        picture = image.convert("RGBA")
    picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    return picture


def _save(drawing: Drawing, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    drawing.picture.save(folder / Path(drawing.name).name)
