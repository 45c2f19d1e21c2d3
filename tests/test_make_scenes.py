"""tools/make_scenes.py: true masks, the same bytes for a seed, nothing shared between train and test."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from reinforce import catalog
from reinforce.data import IGNORE, open_masked, open_source
from reinforce.errors import MissingDataError, OutputExistsError, UnknownNameError, UsageError

TOOLS = Path(__file__).resolve().parents[1] / "tools"
OBJECTS_A_CLASS = 5


@pytest.fixture(autouse=True)
def tools_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))


def disc(colour: tuple[int, int, int], alpha: int = 255, size: int = 60) -> Image.Image:
    picture = Image.new("RGBA", (size, size))
    ImageDraw.Draw(picture).ellipse((2, 2, size - 3, size - 3), fill=(*colour, alpha))
    return picture


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with drawn objects for every class and a few photographs."""
    from scenes.groups import GROUPS

    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    root, random = tmp_path / "assets", np.random.default_rng(0)
    for group in GROUPS:
        folder = root / "clipart" / group.clipart[0]
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(OBJECTS_A_CLASS):
            red, green, blue = (int(level) for level in random.integers(0, 256, 3))
            disc((red, green, blue)).save(folder / f"{number}.png")
    (root / "scenes").mkdir(parents=True)
    (root / "objects").mkdir()
    for name in ("Sea", "Wood", "Sky-at-night"):
        for column in range(2):
            pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((512, 512)).save(root / "scenes" / f"{name}-0-{column}.jpg")
    for name, part in (
        ("openclipart", "clipart"),
        ("photographed-objects", "objects"),
        ("photographed-scenes", "scenes"),
    ):
        catalog.register("data", name, root / part)
    return root


def make(out: Path, **options: Any) -> dict[str, Any]:
    from make_scenes import Scenes, make_scenes

    return make_scenes(Scenes(out=out, **({"num_train": 12, "num_test": 5, "size": 48, "quiet": True} | options)))


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.usefixtures("assets")
class TestFolder:
    def test_is_a_masked_dataset(self, tmp_path: Path) -> None:
        make(tmp_path / "scenes")
        dataset = open_masked(str(tmp_path / "scenes"))
        assert len(dataset.class_names) == 9
        assert dataset.class_names[0] == "background"
        assert {name: len(samples) for name, samples in dataset.splits.items()} == {"train": 11, "val": 1, "test": 5}
        masks = [dataset.read_mask(sample) for samples in dataset.splits.values() for sample in samples]
        assert all(mask_HW.shape == (48, 48) for mask_HW in masks)
        assert set(np.unique(masks)) == {*range(9), IGNORE}
        source = open_source(str(tmp_path / "scenes"))
        assert not [key for shard in source.shards for key in shard.keys if "masks" in key]

    def test_the_same_seed_gives_the_same_bytes(self, tmp_path: Path) -> None:
        for name, seed in (("a", 3), ("b", 3), ("c", 4)):
            make(tmp_path / name, seed=seed)
        a, b, c = (digests(tmp_path / name) for name in "abc")
        assert a == b
        assert not {a[name] for name in a if "images" in name} & {c[name] for name in c if "images" in name}

    def test_more_scenes_begin_with_the_fewer(self, tmp_path: Path) -> None:
        make(tmp_path / "few", num_train=4)
        make(tmp_path / "many", num_train=9)
        few, many = digests(tmp_path / "few" / "train"), digests(tmp_path / "many" / "train")
        assert few.items() < many.items()

    def test_the_record_counts_and_names_no_place(self, tmp_path: Path) -> None:
        record = make(tmp_path / "scenes")
        text = (tmp_path / "scenes" / "scenes.json").read_text()
        assert json.loads(text) == record
        assert str(tmp_path) not in text
        assert set(record["objects"]["fruit"].values()) == {1, OBJECTS_A_CLASS - 1}
        assert not set(record["photographs"]["train"]) & set(record["photographs"]["test"])
        assert set(record["photographs"]["train"] + record["photographs"]["test"]) == {"Sea", "Wood", "Sky-at-night"}
        shares = record["pixel_share"]["train"]
        masks = [np.asarray(Image.open(path)) for path in (tmp_path / "scenes" / "train" / "masks").iterdir()]
        assert shares["flags"] == round(float((np.stack(masks) == 3).mean()), 5)
        assert sum(shares.values()) == pytest.approx(1, abs=1e-3)

    def test_some_classes_in_their_order(self, tmp_path: Path) -> None:
        make(tmp_path / "scenes", classes=["music", "fruit"])
        assert (tmp_path / "scenes" / "classes.txt").read_text().split() == ["background", "music", "fruit"]

    def test_nothing_is_overwritten_unasked(self, tmp_path: Path) -> None:
        make(tmp_path / "scenes")
        before = digests(tmp_path / "scenes")
        with pytest.raises(OutputExistsError, match="type --overwrite"):
            make(tmp_path / "scenes", seed=1)
        assert digests(tmp_path / "scenes") == before
        make(tmp_path / "scenes", seed=1, overwrite=True)
        assert digests(tmp_path / "scenes") != before
        (tmp_path / "mine").mkdir()
        with pytest.raises(OutputExistsError, match=r"has no scenes\.json, so it is not replaced"):
            make(tmp_path / "mine", overwrite=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["assets", "home", "mine", "scenes"]

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"num_train": 0}, UsageError, "--num-train 0 leaves no scenes"),
            ({"num_test": 0}, UsageError, "--num-test 0 leaves no scenes"),
            ({"size": 8}, UsageError, r"--size 8 is not within 32\.\.512 px"),
            ({"classes": ["fruits"]}, UnknownNameError, "unknown class 'fruits', did you mean 'fruit'"),
            ({"classes": ["fruit", "fruit"]}, UsageError, "names a class twice"),
            ({"classes": ["fine", "fruit"]}, UsageError, "--classes fine is a set of classes of its own"),
            ({"classes": ["fine", "emoji"]}, UsageError, "--classes fine is a set of classes of its own"),
        ],
    )
    def test_wrong_options(self, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            make(tmp_path / "scenes", **options)

    def test_the_command_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from make_scenes import main

        argv = ["--out", str(tmp_path / "x"), "--num-train", "2", "--num-test", "1", "--size", "32", "--seed", "5"]
        assert main([*argv, "--classes", "fruit", "cards", "--json", "--quiet"]) == 0
        assert json.loads(capsys.readouterr().out)["num_scenes"] == {"train": 2, "test": 1}
        assert main(argv) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("classes", "packages"), [(None, "openclipart photographs"), (["emoji"], "emoji-1000 photographs")]
)
def test_missing_assets_say_what_to_type(classes: list[str] | None, packages: str, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingDataError, match=rf"python tools/fetch_assets\.py {packages}$"):
        make(tmp_path / "scenes", classes=classes)


class TestObjects:
    @pytest.mark.parametrize(
        ("picture", "is_kept"),
        [
            pytest.param(disc((200, 0, 0)), True, id="object"),
            pytest.param(disc((200, 0, 0)).convert("RGB"), False, id="no alpha fills its box"),
            pytest.param(disc((200, 0, 0), alpha=120), False, id="glass"),
            pytest.param(disc((200, 0, 0), size=20), False, id="small"),
            pytest.param(Image.new("RGBA", (60, 60)), False, id="empty"),
            pytest.param(disc((200, 0, 0)).resize((300, 40)), False, id="long"),
            pytest.param(disc((0, 0, 90)), False, id="near-duplicate of another"),
            pytest.param(Image.new("RGBA", (2000, 2000)), False, id="4 megapixels"),
        ],
    )
    def test_which_are_kept(self, tmp_path: Path, picture: Image.Image, is_kept: bool) -> None:
        from scenes.group import Group
        from scenes.objects import load_cutouts

        (tmp_path / "a").mkdir()
        disc((0, 0, 92)).save(tmp_path / "a" / "0.png")
        picture.save(tmp_path / "a" / "1.png")
        (tmp_path / "a" / "2.png").symlink_to("1.png")
        picture.save(tmp_path / "a" / "3-left.png")
        group = Group(name="things", clipart=("a",), left_out=("left",))
        cutouts = load_cutouts([group], {"openclipart": tmp_path}, 40)
        assert [cutout.name for cutout in cutouts] == ["openclipart/a/0.png", "openclipart/a/1.png"][: 1 + is_kept]
        assert all(max(cutout.picture.size) <= 40 for cutout in cutouts)

    def test_mirror_images_are_duplicates(self, tmp_path: Path) -> None:
        from scenes.group import Group
        from scenes.objects import load_cutouts

        picture = disc((200, 0, 0))
        picture.paste((0, 200, 0, 255), (5, 25, 30, 35))
        picture.save(tmp_path / "0.png")
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "1.png")
        picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "2.png")
        cutouts = load_cutouts([Group(name="things", clipart=(".",))], {"openclipart": tmp_path}, 40)
        assert [cutout.name for cutout in cutouts] == ["openclipart/0.png", "openclipart/2.png"]


class TestPlaces:
    @pytest.mark.parametrize(
        ("place", "found"),
        [
            pytest.param("a", ["cup", "mug"], id="a folder"),
            pytest.param("a/", ["b/cup", "cup", "mug"], id="and those below it"),
            pytest.param("a/*u[gp].png", ["cup", "mug"], id="a pattern"),
            pytest.param("*/*/c*.png", ["b/cup"], id="a pattern of folders"),
            pytest.param("a/mug.png", ["mug"], id="a file"),
            pytest.param("*/cup*", ["cup"], id="a pattern of all files"),
            pytest.param("nowhere", [], id="nothing"),
        ],
    )
    def test_of_a_group(self, tmp_path: Path, place: str, found: list[str]) -> None:
        from scenes.group import Group
        from scenes.objects import load_cutouts

        (tmp_path / "a" / "b").mkdir(parents=True)
        for number, name in enumerate(("cup", "mug", "b/cup")):
            disc((100 * number, 0, 200)).save(tmp_path / "a" / f"{name}.png")
        cutouts = load_cutouts([Group(name="things", clipart=(place,))], {"openclipart": tmp_path}, 40)
        assert [cutout.name for cutout in cutouts] == [f"openclipart/a/{name}.png" for name in found]

    def test_a_file_belongs_to_the_first_of_two_groups(self, tmp_path: Path) -> None:
        from scenes.group import Group
        from scenes.objects import load_cutouts

        for number, name in enumerate(("cup", "mug")):
            disc((100 * number, 0, 200)).save(tmp_path / f"{name}.png")
        groups = [Group(name="cups", clipart=("c*.png",)), Group(name="others", clipart=(".",))]
        cutouts = load_cutouts(groups, {"openclipart": tmp_path}, 40)
        assert [(cutout.name, cutout.class_id) for cutout in cutouts] == [("openclipart/cup.png", 1),
                                                                          ("openclipart/mug.png", 2)]  # fmt: skip


class TestCompose:
    @pytest.mark.parametrize("count", [1, 2, 3, 4])
    def test_a_mask_is_the_alpha(self, count: int) -> None:
        """Oracle: a pixel has its class's colour, but for what up to `count` objects cover of it by 5 %."""
        from scenes.compose import compose
        from scenes.objects import Cutout

        colours = ((0, 255, 0), (255, 0, 0), (0, 0, 255))
        red, blue = (Cutout(f"{class_id}", class_id, "", disc(colours[class_id], size=120)) for class_id in (1, 2))
        seen = set()
        for number in range(20):
            background = Image.new("RGB", (96, 96), colours[0])
            scene, mask_HW = compose(background, [red, blue, red, blue][:count], Random(f"{number}"))
            for class_id, colour in enumerate(colours):
                difference_HW = np.abs(np.asarray(scene).astype(int) - colour).max(axis=2)
                assert (difference_HW[mask_HW == class_id] <= 13 * count).all()
            assert 0 < (mask_HW == IGNORE).mean() < 0.2
            seen |= set(np.unique(mask_HW).tolist())
        assert seen == {0, 1, 2, IGNORE} - ({2} if count == 1 else set())

    def test_every_class_and_object_is_cast_equally_often(self) -> None:
        from scenes.compose import draw_casts
        from scenes.objects import Cutout

        blank = Image.new("RGBA", (1, 1))
        cutouts = [Cutout(f"{class_id}/{n}", class_id, "", blank) for class_id in (1, 2, 3) for n in range(class_id)]
        cast = [cutout for scene in draw_casts(cutouts, 400, Random(0)) for cutout in scene]
        for class_id in (1, 2, 3):
            shown = [cutout.name for cutout in cast if cutout.class_id == class_id]
            assert abs(len(shown) - len(cast) / 3) <= 1
            counts = [shown.count(name) for name in set(shown)]
            assert len(counts) == class_id
            assert max(counts) - min(counts) <= 1

    def test_colours_are_split_too(self) -> None:
        from scenes.backgrounds import belongs_to, draw_background

        for split, other in (("train", "test"), ("test", "train")):
            tile_less = [draw_background([], split, 4, random) for random in _randoms_without_photographs(60)]
            corners = [image.getpixel((0, 0)) for image in tile_less if len(image.getcolors()) == 1]
            assert corners
            assert all(belongs_to(split, colour) and not belongs_to(other, colour) for colour in corners)


def _randoms_without_photographs(count: int) -> list[Random]:
    from scenes.backgrounds import PHOTOGRAPH_SHARE

    seeds = [seed for seed in range(10 * count) if Random(seed).random() >= PHOTOGRAPH_SHARE]
    return [Random(seed) for seed in seeds[:count]]


def need_real_assets() -> None:
    names = ("openclipart", "photographed-objects", "photographed-scenes")
    known = {entry.name: entry.path for entry in catalog.entries("data")}
    if not all(name in known and Path(str(known[name])).is_dir() for name in names):
        pytest.skip("needs python tools/fetch_assets.py openclipart photographs")


@pytest.mark.slow
def test_real_assets_give_eight_classes_with_objects_to_spare(tmp_path: Path) -> None:
    need_real_assets()
    record = make(tmp_path / "scenes", num_train=60, num_test=20, size=64)
    assert len(record["objects"]) == 8
    assert all(counts["train"] >= 30 and counts["test"] >= 8 for counts in record["objects"].values())
    assert record["objects_sha256"] == {
        "train": "f5a5ad18883c059caef0dd406971425e221ebeb08291f8d4a38d5f3d9facc3a3",
        "test": "e310c71bc546177235e273d2b25da2b524a2eea43b0374cc8f8061f2888b6439",
    }, "figures that were measured on these scenes no longer hold"
    assert all(0.01 < record["pixel_share"]["train"][name] < 0.12 for name in record["objects"])


@pytest.mark.slow
def test_real_assets_give_many_fine_classes(tmp_path: Path) -> None:
    need_real_assets()
    record = make(tmp_path / "scenes", num_train=120, num_test=40, size=64, classes=["fine"])
    assert len(record["objects"]) == 73
    assert all(counts["train"] >= 6 and counts["test"] >= 2 for counts in record["objects"].values())
    assert record["objects_sha256"]["train"] != record["objects_sha256"]["test"]
    masks = [np.asarray(Image.open(path)) for path in (tmp_path / "scenes" / "train" / "masks").iterdir()]
    assert set(np.unique(masks)) == {*range(74), IGNORE}
