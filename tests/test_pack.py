"""`reinforce pack`: the same images, under the same names, with what belongs to them; equal bytes over every kill."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import held_elsewhere

from reinforce.data import ImageSource, freeze, num_images, open_captioned, open_labelled, open_source
from reinforce.data.packed_listing import LISTING, parse_listing
from reinforce.errors import DataError, OutputExistsError, UsageError
from reinforce.pack import PackConfig, PackSummary, pack


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def noise(seed: int, side: int = 24, format_name: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_name)
    return file.getvalue()


def write_tree(root: str, files: Mapping[str, bytes]) -> str:
    for name, data in files.items():
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def images(paths: str) -> dict[str, bytes]:
    return {path: noise(seed) for seed, path in enumerate(paths.split())}


def packed(transfer: str, **options: object) -> PackSummary:
    return pack(PackConfig(**{"transfer": transfer, "out": "packed", "quiet": True} | options))


def read_all(source: ImageSource) -> dict[str, bytes]:
    return {key: source.read(shard, row) for shard, own in enumerate(source.shards) for row, key in enumerate(own.keys)}


def digests(folder: str) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).iterdir())}


class TestImages:
    def test_the_same_bytes_under_keys_that_name_folder_and_file(self) -> None:
        files = images("v1.0/a.v2.png v1.0/a.png b/1.JPG é.webp") | {"bad/empty.png": b"", "bad/noise.jpg": b"junk"}
        packed(write_tree("set", files))
        keys = {"v1.0/a.v2.png": "v1.0/a%2Ev2", "v1.0/a.png": "v1.0/a", "b/1.JPG": "b/1", "é.webp": "é",
                "bad/empty.png": "bad/empty", "bad/noise.jpg": "bad/noise"}  # fmt: skip
        assert read_all(open_source("packed")) == {f"00000/{keys[name]}": data for name, data in files.items()}

    def test_other_programs_read_the_tars(self) -> None:
        name = "folder/" + "x" * 150 + ".png"
        files = images(f"a/1.png {name}") | {"a/1.txt": b"one"}
        packed(write_tree("set", files))
        with tarfile.open("packed/00000.tar") as tar:
            members = tar.getmembers()
            assert {info.name: tar.extractfile(info).read() for info in members} == files  # type: ignore[union-attr]
        assert {(info.mtime, info.uid, info.gid, info.uname, info.mode) for info in members} == {(0, 0, 0, "", 0o644)}

    @pytest.mark.parametrize(
        ("options", "sizes"),
        [({"shard_size": 4}, [4, 4, 2]), ({"shard_mb": 1}, [2, 2, 2, 2, 2]), ({"limit": 3}, [3]), ({}, [10])],
        ids=str,
    )
    def test_tars_end_where_they_should(self, options: dict[str, int], sizes: list[int]) -> None:
        write_tree("set", {f"{number}.bmp": noise(number, 380, "BMP") for number in range(10)})
        summary = packed("set", **options)
        assert [len(shard.keys) for shard in open_source("packed").shards] == sizes
        assert (summary.images, summary.tars) == (sum(sizes), len(sizes))
        assert all(
            path.stat().st_size < 1.05 * (1 << 20) for path in Path("packed").glob("*.tar") if "shard_mb" in options
        )

    def test_an_image_larger_than_a_tar_has_one_of_its_own(self) -> None:
        write_tree("set", {"a.bmp": noise(1, 700, "BMP"), "b.bmp": noise(2, 700, "BMP"), "c.png": noise(3)})
        packed("set", shard_mb=1)
        assert [len(shard.keys) for shard in open_source("packed").shards] == [1, 1, 1]

    def test_what_has_no_suffix_gets_that_of_its_format(self) -> None:
        files = {"a": noise(1, format_name="WEBP"), "b": noise(2, format_name="JPEG"), "c": b"junk"}
        write_tree("set", files)
        Path("set/list.csv").write_text("a\nb\nc\n")
        packed("set/list.csv")
        with tarfile.open("packed/00000.tar") as tar:
            assert tar.getnames() == ["a.webp", "b.jpg", "c.jpg"]

    def test_tars_are_packed_again(self) -> None:
        files = images("x/1.png x/2.png y/3.png")
        packed(write_tree("set", files))
        packed("packed", out="again", shard_size=2)
        assert read_all(open_source("again")) == {
            "00000/00000/x/1": files["x/1.png"], "00000/00000/x/2": files["x/2.png"],
            "00001/00000/y/3": files["y/3.png"]
        }  # fmt: skip


class TestCompanions:
    @pytest.mark.parametrize("paths", ["cat/1.png cat/2.png cat/3.png dog/4.png stray.png",
                                       "train/cat/1.png train/dog/2.png val/cat/3.png test/dog/4.png"])  # fmt: skip
    def test_a_packed_image_folder_has_its_classes_and_splits(self, paths: str) -> None:
        write_tree("set", images(paths))
        packed("set", shard_size=2)
        loose, tars = open_labelled("set"), open_labelled("packed")
        assert tars.class_names == loose.class_names
        assert labels(tars) == labels(loose)
        if "val/" in paths:
            assert {name: names(tars, name) for name in tars.splits} == {
                name: names(loose, name) for name in loose.splits
            }

    def test_a_packed_list_has_its_classes_splits_and_captions(self) -> None:
        write_tree("set", images("1.png 2.png 3.png"))
        Path("set/list.csv").write_text("path,label,split,caption\n1.png,dog,train,a dog\n2.png,cat,train,a cat\n"
                                        "2.png,cat,train,one more\n3.png,cat,test,a kitten\n")  # fmt: skip
        assert packed("set/list.csv").classes == 2
        tars = open_labelled("packed")
        assert [shard.name for shard in tars.source.shards] == ["test-00000.tar", "train-00000.tar"]
        assert labels(tars) == {"1": "dog", "2": "cat", "3": "cat"}
        assert names(tars, "test") == {"3"}
        captions = open_captioned("packed")
        assert [captions.captions(1, row) for row in range(2)] == [("a dog",), ("a cat", "one more")]

    def test_members_of_tars_and_files_beside_images_survive(self) -> None:
        write_tree(
            "set", images("1.png 2.png") | {"1.cls": b"1", "2.cls": b"0", "1.txt": b"one", "2.json": b'{"caption":"2"}'}
        )
        packed("set", out="first")
        Path("first/classes.txt").write_text("no\nyes\n")
        assert packed("first").classes == 2
        assert open_labelled("packed", needs_train=False).class_names == ("no", "yes")
        assert [open_captioned("packed").captions(0, row) for row in range(2)] == [("one",), ("2",)]

    def test_one_split_of_labelled_data(self) -> None:
        write_tree("set", images("train/a/1.png train/b/2.png test/a/3.png"))
        packed("set@test")
        assert list(read_all(open_source("packed"))) == ["00000/test/a/3"]

    def test_masks_and_unread_kinds_are_counted(self) -> None:
        write_tree("set", images("images/1.png masks/1.png") | {"images/2.heic": b""})
        summary = packed("set")
        assert (summary.images, summary.left_out) == (1, 2)
        assert "left out: 2" in str(summary)


def labels(dataset: object) -> dict[str, str]:
    """File's stem -> class, of all splits."""
    return {sample.key.rpartition("/")[2].partition(".")[0]: dataset.class_names[sample.label]  # type: ignore[attr-defined]
            for samples in dataset.splits.values() for sample in samples}  # type: ignore[attr-defined]  # fmt: skip


def names(dataset: object, split: str) -> set[str]:
    return {sample.key.rpartition("/")[2].partition(".")[0] for sample in dataset.splits[split]}  # type: ignore[attr-defined]


class TestListing:
    @pytest.fixture
    def listed(self) -> Path:
        write_tree("set", images("a/1.png a/2.png b/3.png") | {"a/1.txt": b"one", "bad.png": b"?"})
        packed("set", shard_size=2)
        return Path("packed", LISTING)

    def test_it_is_what_freezing_finds_and_nothing_is_read_for_it(
        self, listed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = open_source("packed")
        known = freeze(source)
        listed.unlink()
        found = freeze(open_source("packed"))
        assert known.digest == found.digest
        for column in ("sha64", "num_bytes", "width", "height", "keys", "shard_names"):
            assert np.array_equal(getattr(known, column), getattr(found, column)), column
        assert open_source("packed").shards == source.shards
        reads = []
        monkeypatch.setattr(type(source), "read", lambda _, shard, row: reads.append((shard, row)) or b"x")
        with pytest.raises(
            DataError, match=r"listing\.jsonl is of other images than are there, such as '00000/a/2': delete it"
        ):
            freeze(source)
        assert len(reads) == 1

    def test_limit_takes_the_first(self, listed: Path) -> None:
        known = freeze(open_source("packed"), limit=3)
        listed.unlink()
        assert known.digest == freeze(open_source("packed"), limit=3).digest

    def test_a_tar_of_another_size_is_read(self, listed: Path) -> None:
        shutil.copy("packed/00001.tar", "packed/00000.tar")
        Path("packed/00000.tar").write_bytes(Path("packed/00000.tar").read_bytes() + bytes(10240))
        assert list(read_all(open_source("packed"))) == ["00000/b/3", "00000/bad", "00001/b/3", "00001/bad"]
        assert num_images(open_source("packed")) == len(freeze(open_source("packed")))

    def test_it_describes_its_tars_wherever_they_lie(self, listed: Path) -> None:
        keys = list(read_all(open_source("packed")))
        Path("outer").mkdir()
        shutil.move("packed", "outer/inner")
        assert list(read_all(open_source("outer"))) == [f"inner/{key}" for key in keys]
        assert list(read_all(open_source("outer/inner/00001.tar"))) == keys[2:]

    @pytest.mark.parametrize("position", [0, 100, -2])
    def test_a_flipped_bit_is_one_line(self, listed: Path, position: int) -> None:
        data = bytearray(listed.read_bytes())
        data[position] ^= 1
        listed.write_bytes(data)
        with pytest.raises(DataError, match=r"listing\.jsonl is damaged: copy it again, or delete it") as caught:
            open_source("packed")
        assert "\n" not in str(caught.value)

    def test_one_line_a_tar_in_canonical_json(self, listed: Path) -> None:
        header, *tars, digest = listed.read_bytes().splitlines(keepends=True)
        assert header == b'{"format":"reinforce packed listing","version":1}\n'
        assert digest == b'{"sha256":"%s"}\n' % hashlib.sha256(header + b"".join(tars)).hexdigest().encode()
        found = parse_listing(listed.read_bytes(), "x")
        assert [found[name].to_line() for name in ("00000.tar", "00001.tar")] == tars
        assert found["00000.tar"].beside["txt"][1] == [-1, 0]


class TestWays:
    def test_nothing_is_overwritten_silently(self) -> None:
        write_tree("set", images("1.png"))
        write_tree("packed", {"mine.txt": b"mine"})
        for options in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(OutputExistsError, match="packed exists: it is not a packed set; type --out"):
                packed("set", **options)
        packed("set", out="other")
        with pytest.raises(OutputExistsError, match="other exists: it is complete; type --resume"):
            packed("set", out="other")
        assert Path("packed/mine.txt").read_bytes() == b"mine"

    def test_overwrite_replaces_what_was_packed_and_nothing_else(self) -> None:
        write_tree("set", images("1.png 2.png 3.png"))
        packed("set", shard_size=1)
        Path("packed/notes.txt").write_text("mine")
        packed("set", shard_size=2, overwrite=True)
        assert sorted(digests("packed")) == ["00000.tar", "00001.tar", "listing.jsonl", "notes.txt", "pack.json"]

    def test_another_request_is_refused_by_name(self) -> None:
        write_tree("set", images("1.png 2.png"))
        packed("set")
        with pytest.raises(UsageError, match="packed was begun with another shard_size: type what it was begun with"):
            packed("set", shard_size=1, resume=True)
        write_tree("set", images("3.png"))
        with pytest.raises(UsageError, match="begun with another images"):
            packed("set", resume=True)

    def test_a_licence_that_is_said_later_is_told_by_resuming(self) -> None:
        write_tree("set", images("1.png 2.png"))
        assert packed("set").license == "unknown"
        before = digests("packed")
        Path("reinforce.toml").write_text('[data]\nphotos = { path = "set", license = "MIT" }\n')
        assert packed("photos", resume=True).license == "MIT"
        assert packed("set", resume=True).license == "MIT"
        assert [name for name, digest in digests("packed").items() if digest != before[name]] == ["pack.json"]

    def test_dry_run_writes_nothing(self) -> None:
        write_tree("set", images("1.png 2.png"))
        summary = packed("set", dry_run=True)
        assert (summary.images, summary.tars, Path("packed").exists()) == (2, None, False)

    @pytest.mark.parametrize(("option", "value"), [("shard_mb", 0), ("shard_size", -1), ("limit", 0)])
    def test_impossible_sizes(self, option: str, value: int) -> None:
        with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} must be at least 1"):
            packed("set", **{option: value})

    def test_json_has_stable_keys(self) -> None:
        write_tree("set", images("1.png"))
        assert list(packed("set").to_json()) == [
            "path", "images", "left_out", "classes", "license", "tars", "bytes", "digest"]  # fmt: skip


def test_killed_at_any_moment_it_resumes_to_equal_bytes() -> None:
    write_tree("set", {f"{number % 7}/{number:04d}.png": noise(number) for number in range(400)})
    packed("set", out="reference", shard_size=20)
    program = [sys.executable, "-c", "from reinforce.cli import main; main()"]
    argv = [*program, "pack", "--transfer", "set", "--out", "packed",
            "--shard-size", "20", "--resume", "--quiet"]  # fmt: skip
    moments, kills = random.Random(3), 0
    while kills < 3:
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        began_with = set(os.listdir("packed")) if Path("packed").exists() else set()  # noqa: PTH208
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if Path("packed").exists() and set(os.listdir("packed")) - began_with:  # noqa: PTH208 (it has begun to write)
                time.sleep(moments.uniform(0, 0.05))
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
        process.wait()
        if (Path("packed") / LISTING).exists():
            assert tars_of("packed") == tars_of("reference")
            shutil.rmtree("packed")
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    assert digests("packed") == digests("reference")


@pytest.mark.parametrize("transfer", ["photos", "photos@train"])
def test_nothing_is_packed_into_what_is_read(transfer: str) -> None:
    """Which then would hold tars and loose images, and not open any more."""
    write_tree("photos", images("train/a/a.png train/b/b.png"))
    with pytest.raises(UsageError, match=r"photos/packed lies in photos, .*: type --out"):
        packed(transfer, out="photos/packed")
    assert not Path("photos/packed").exists()
    assert packed(transfer, out="photos-packed").images == 2


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_one_command_packs_into_a_folder() -> None:
    write_tree("photos", images("a.png b.png"))
    Path("packed").mkdir()
    with held_elsewhere(Path("packed")), pytest.raises(UsageError, match="another command packs into packed: wait"):
        packed("photos")
    assert not list(Path("packed").iterdir())
    assert packed("photos").images == 2


def tars_of(folder: str) -> dict[str, str]:
    return {name: digest for name, digest in digests_of_files(folder).items() if name.endswith(".tar")}


def digests_of_files(folder: str) -> dict[str, str]:
    files = [path for path in sorted(Path(folder).iterdir()) if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
