"""Every ImageSource passes ImageSourceContract; below it, what each kind of source adds."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from reinforce.data import ImageSource, check_keys, num_images, open_source
from reinforce.data.folder import FolderSource
from reinforce.data.sources import VIRTUAL_SHARD_ROWS, read_ahead, virtual_shards
from reinforce.data.tar_source import TarSource
from reinforce.errors import DataError, MissingDataError, MissingExtraError, UsageError

Tree = Callable[[Mapping[str, bytes]], str]
Encode = Callable[..., bytes]

NAMES = ("b/2.png", "a.JPG", "b/10.webp", "é.png", "Z.gif")


def all_keys(source: ImageSource) -> list[str]:
    return [key for shard in source.shards for key in shard.keys]


def read_all(source: ImageSource) -> dict[str, bytes]:
    return {
        key: source.read(number, row)
        for number, shard in enumerate(source.shards)
        for row, key in enumerate(shard.keys)
    }


class ImageSourceContract:
    """Subclasses give `location`: where five images lie, and `expected`: key -> bytes in listing order."""

    @pytest.fixture
    def files(self, image: Encode) -> dict[str, bytes]:
        return {name: image(color) for color, name in enumerate(NAMES)}

    @pytest.fixture
    def source(self, location: str) -> ImageSource:
        return open_source(location)

    def test_fits_the_protocol(self, source: ImageSource) -> None:
        assert isinstance(source, ImageSource)

    def test_name_is_short_and_no_path(self, source: ImageSource) -> None:
        assert source.name
        assert "/" not in source.name

    def test_reads_the_bytes_of_the_files_in_listing_order(
        self, source: ImageSource, expected: dict[str, bytes]
    ) -> None:
        assert list(read_all(source).items()) == list(expected.items())

    @pytest.mark.parametrize("start", [0, 2, 5])
    def test_is_read_ahead_from_any_place(self, start: int, source: ImageSource, expected: dict[str, bytes]) -> None:
        places = [(number, row) for number, shard in enumerate(source.shards) for row in range(len(shard.keys))]
        assert list(read_ahead(source, places, start)) == list(expected.values())[start:]

    def test_keys_are_unique_and_usable(self, source: ImageSource) -> None:
        check_keys(all_keys(source), "source")

    def test_shards_are_named_uniquely_and_hold_something(self, source: ImageSource) -> None:
        names = [shard.name for shard in source.shards]
        assert len(set(names)) == len(names)
        assert all(shard.keys for shard in source.shards)
        assert num_images(source) == len(all_keys(source))

    def test_order_is_the_same_when_opened_again(self, source: ImageSource, location: str) -> None:
        assert open_source(location).shards == source.shards

    @pytest.mark.parametrize("after_reading", [False, True])
    def test_survives_pickling(self, source: ImageSource, expected: dict[str, bytes], after_reading: bool) -> None:
        if after_reading:
            read_all(source)
        copy: ImageSource = pickle.loads(pickle.dumps(source))
        assert (copy.name, copy.shards) == (source.name, source.shards)
        assert read_all(copy) == read_all(source) == expected

    def test_keys_do_not_depend_on_where_the_set_lies(self, source: ImageSource, location: str, tmp_path: Path) -> None:
        shards = source.shards
        moved = tmp_path.with_name(tmp_path.name + "-moved")
        tmp_path.rename(moved)
        assert open_source(location.replace(str(tmp_path), str(moved))).shards == shards

    def test_files_that_have_gone_are_missing_data(self, source: ImageSource, tmp_path: Path) -> None:
        tmp_path.rename(tmp_path.with_name(tmp_path.name + "-gone"))
        with pytest.raises(MissingDataError, match="not there"):
            source.read(0, 0)

    def test_rows_and_shards_out_of_range_are_index_errors(self, source: ImageSource) -> None:
        with pytest.raises(IndexError):
            source.read(0, len(source.shards[0].keys))
        with pytest.raises(IndexError):
            source.read(len(source.shards), 0)


class TestFolder(ImageSourceContract):
    @pytest.fixture
    def location(self, tree: Tree, files: dict[str, bytes]) -> str:
        return tree(
            files
            | {"photo.HEIC": b"", "notes.txt": b"", ".hidden.png": b"", ".git/x.png": b"", "b/._2.png": b"", "png": b""}
        )

    @pytest.fixture
    def expected(self, files: dict[str, bytes]) -> dict[str, bytes]:
        return dict(sorted(files.items()))

    def test_links_to_files_and_folders_are_followed_but_not_in_circles(self, tmp_path: Path, image: Encode) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "x.png").write_bytes(image(1))
        root = tmp_path / "set"
        root.mkdir()
        (root / "file.png").symlink_to(tmp_path / "elsewhere" / "x.png")
        (root / "folder").symlink_to(tmp_path / "elsewhere")
        (root / "self").symlink_to(root)
        (root / "nowhere").symlink_to(root / "nowhere")
        assert all_keys(open_source(str(root))) == ["file.png", "folder/x.png"]

    @pytest.mark.parametrize("target", ["gone.png", "x.png"], ids=["gone", "itself"])
    def test_a_link_to_nothing_is_named(self, target: str, tmp_path: Path) -> None:
        (tmp_path / "x.png").symlink_to(tmp_path / target)
        with pytest.raises(MissingDataError, match=r"x\.png is a link to a file that is not there"):
            open_source(str(tmp_path))

    @pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
    def test_a_name_that_is_not_utf8_is_named(self, tmp_path: Path) -> None:
        Path(str(tmp_path), b"\xff.png".decode("utf-8", "surrogateescape")).write_bytes(b"")
        with pytest.raises(DataError, match=r"udcff\.png' is empty, holds a NUL or is not UTF-8"):
            open_source(str(tmp_path))

    def test_images_of_kinds_that_are_not_read_are_known(self, tree: Tree, image: Encode) -> None:
        source = open_source(tree({"a.JFIF": image(), "b/c.HEIC": b"", "d.avif": b"", "e.txt": b""}))
        assert isinstance(source, FolderSource)
        assert all_keys(source) == ["a.JFIF"]
        assert source.unread == ("b/c.HEIC", "d.avif")

    def test_tars_beside_images_are_ambiguous(self, tree: Tree, image: Encode, tar: Encode) -> None:
        with pytest.raises(DataError, match=r"tars and loose images, such as a\.png"):
            open_source(tree({"a.png": image(), "b.tar": tar({"c.png": image()})}))


class TestCsv(ImageSourceContract):
    @pytest.fixture
    def location(self, tree: Tree, files: dict[str, bytes]) -> str:
        return tree(files | {"list.csv": "\n".join(files).encode()}) + "/list.csv"

    @pytest.fixture
    def expected(self, files: dict[str, bytes]) -> dict[str, bytes]:
        return files

    @pytest.mark.parametrize(
        ("text", "keys"),
        [
            pytest.param("path\nb.png\na.png\n", ["b.png", "a.png"], id="header, order of the file"),
            pytest.param("\npath\na.png\n", ["a.png"], id="header below a blank line"),
            pytest.param("Label,Path\n1,a.png\n", ["a.png"], id="header in another order"),
            pytest.param("\ufeffa.png\r\n\r\nb.png\r\n", ["a.png", "b.png"], id="byte order mark, CRLF, blank lines"),
            pytest.param('"a,1.png",x\n', ["a,1.png"], id="quoted comma"),
            pytest.param(" a.png , 1 \n", ["a.png"], id="spaces around cells"),
            pytest.param("/data/x/a.png\n/data/y/a.png\nz.png\n", ["x/a.png", "y/a.png", "z.png"], id="absolute paths"),
            pytest.param("/data/x/a.png\n", ["a.png"], id="one absolute path"),
        ],
    )
    def test_keys(self, tree: Tree, text: str, keys: list[str]) -> None:
        assert all_keys(open_source(tree({"list.csv": text.encode()}) + "/list.csv")) == keys

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param("", "lists no images", id="empty"),
            pytest.param("path,label\n", "lists no images", id="only a header"),
            pytest.param("a.png,1\na.png,2\n", "'a.png' is there twice", id="duplicate"),
            pytest.param("a.png\n,1\n", "line 2 has no path", id="no path"),
            pytest.param("a.png,1,train,x\n", "line 1 has 4 cells", id="too many cells"),
            pytest.param("path,depth\na.png,3\n", "has the columns path, depth", id="unknown column"),
            pytest.param("path;caption\na.png;x\n", "divides its cells by semicolons: save it with", id="semicolons"),
            pytest.param("label\tpath\n1\ta.png\n", "divides its cells by tabs: save it with commas", id="tabs"),
            pytest.param(
                'path,caption\na.png,"x\nb.png,y\nc.png,z\n',
                r"line 4 is no CSV \(unexpected end of data\): close what a quotation mark opens",
                id="a mark that swallows lines",
            ),
        ],
    )
    def test_bad_lists(self, tree: Tree, text: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            open_source(tree({"list.csv": text.encode()}) + "/list.csv")

    def test_bytes_that_are_not_utf8(self, tree: Tree) -> None:
        with pytest.raises(DataError, match="cannot be read as UTF-8 CSV: save it as CSV UTF-8"):
            open_source(tree({"list.csv": b"\xff\xfe.png\n"}) + "/list.csv")


class TarContract(ImageSourceContract):
    @pytest.fixture
    def tars(self, tree: Tree, files: dict[str, bytes], tar: Encode) -> str:
        first = {name: files[name] for name in NAMES[:3]} | {"b/2.cls": b"1", "b/2.json": b"{}", "._a.png": b""}
        second = {f"./{name}": files[name] for name in NAMES[3:]}
        return tree({"x/00.tar": tar(first), "x/01.tar": tar({"readme.txt": b""}), "x/02.tar": tar(second)})

    @pytest.fixture
    def expected(self, files: dict[str, bytes]) -> dict[str, bytes]:
        keys = ["00/b/2", "00/a", "00/b/10", "02/é", "02/Z"]
        return dict(zip(keys, files.values(), strict=True))


class TestTarPattern(TarContract):
    @pytest.fixture
    def location(self, tars: str) -> str:
        return tars + "/x/{00..02}.tar"

    def test_one_shard_a_tar_that_holds_images(self, source: ImageSource) -> None:
        assert [shard.name for shard in source.shards] == ["00.tar", "02.tar"]
        assert source.name == "x"


class TestTarFolder(TarContract):
    @pytest.fixture
    def location(self, tars: str) -> str:
        return tars + "/x"

    def test_other_files_beside_the_tars_do_not_matter(self, location: str, expected: dict[str, bytes]) -> None:
        Path(location, "00_stats.json").write_bytes(b"{}")
        assert all_keys(open_source(location)) == list(expected)


class TestNestedTarFolder(TarContract):
    @pytest.fixture
    def location(self, tars: str) -> str:
        return tars

    @pytest.fixture
    def expected(self, files: dict[str, bytes]) -> dict[str, bytes]:
        keys = ["x/00/b/2", "x/00/a", "x/00/b/10", "x/02/é", "x/02/Z"]
        return dict(zip(keys, files.values(), strict=True))


class TestSingleTar(ImageSourceContract):
    @pytest.fixture
    def location(self, tree: Tree, files: dict[str, bytes], tar: Encode) -> str:
        return tree({"0001.tar": tar(files, tarfile.PAX_FORMAT)}) + "/0001.tar"

    @pytest.fixture
    def expected(self, files: dict[str, bytes]) -> dict[str, bytes]:
        return dict(zip(["0001/b/2", "0001/a", "0001/b/10", "0001/é", "0001/Z"], files.values(), strict=True))


class TestTarErrors:
    @pytest.mark.parametrize(
        ("members", "message"),
        [
            pytest.param(["a.png", "a.jpg"], "key '0/a' is there twice", id="two suffixes"),
            pytest.param(["v1.5.png", "v1.7.png"], "key '0/v1' is there twice", id="first dot ends the key"),
            pytest.param(["a.txt"], "no image in", id="no image"),
        ],
    )
    def test_members(self, tree: Tree, tar: Encode, members: list[str], message: str) -> None:
        location = tree({"0.tar": tar(dict.fromkeys(members, b"x"))}) + "/0.tar"
        with pytest.raises(DataError, match=message):
            open_source(location)

    def test_an_image_that_is_a_link_in_the_tar_is_not_dropped(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "0.tar", "w") as archive:
            link = tarfile.TarInfo("a.png")
            link.type, link.linkname = tarfile.LNKTYPE, "b.png"
            archive.addfile(link)
        with pytest.raises(DataError, match=r"'a\.png' is a link"):
            open_source(str(tmp_path / "0.tar"))

    def test_a_tar_cut_after_opening_is_noticed(self, tree: Tree, image: Encode, tar: Encode) -> None:
        location = tree({"0.tar": tar({"a.png": image()})}) + "/0.tar"
        source = open_source(location)
        Path(location).write_bytes(Path(location).read_bytes()[:520])
        with pytest.raises(DataError, match="cut short after it was opened: '0/a'"):
            source.read(0, 0)

    def test_many_tars_stay_below_the_limit_of_open_files(self, tree: Tree, image: Encode, tar: Encode) -> None:
        data = tar({"a.png": image()})
        source = open_source(tree({f"{number:03d}.tar": data for number in range(80)}))
        assert isinstance(source, TarSource)
        for _ in range(2):
            read_all(source)
            assert len(source.files._open) == 64
        source.close()
        assert read_all(source)["079/a"] == image()


class TestLocations:
    @pytest.mark.parametrize(
        ("location", "error", "message"),
        [
            pytest.param("gone", MissingDataError, "gone is not there: expected a folder", id="nothing there"),
            pytest.param("empty", DataError, "holds no images", id="empty folder"),
            pytest.param("a.png", DataError, "neither a folder nor a list", id="one image"),
            pytest.param("gone.tar", MissingDataError, "1 of 1 tar not there", id="no such tar"),
            pytest.param("{a,b}.tar", MissingDataError, "2 of 2 tars not there, the first is", id="no such tars"),
            pytest.param("{a,b.tar", UsageError, "braces in .* do not match", id="unbalanced braces"),
            pytest.param("ftp://host/x", UsageError, "cannot read ftp://host/x: type s3://", id="url"),
        ],
    )
    def test_what_cannot_be_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, error: type[Exception], message: str
    ) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "a.png").write_bytes(b"")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(error, match=message):
            open_source(location)

    def test_braces_in_a_real_name_are_taken_literally(self, tree: Tree, image: Encode, tar: Encode) -> None:
        location = tree({"{1..2}.tar": tar({"a.png": image()})}) + "/{1..2}.tar"
        assert all_keys(open_source(location)) == ["{1..2}/a"]

    @pytest.mark.skipif(importlib.util.find_spec("datasets") is not None, reason="the package is installed")
    def test_hugging_face_names_need_an_extra(self) -> None:
        with pytest.raises(MissingExtraError, match=r"pip install 'reinforce-vision\[datasets\]'"):
            open_source("hf:cifar10:test")


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="needs the package datasets")
@pytest.mark.filterwarnings("default")
class TestHuggingFace(ImageSourceContract):
    """A local folder of images, which the package reads like a dataset of its hub."""

    @pytest.fixture
    def location(
        self,
        tree: Tree,
        files: dict[str, bytes],
        tmp_path_factory: pytest.TempPathFactory,
        monkeypatch: pytest.MonkeyPatch,
    ) -> str:
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        return "hf:" + tree({f"{row}.png": data for row, data in enumerate(files.values())})

    @pytest.fixture
    def expected(self, files: dict[str, bytes]) -> dict[str, bytes]:
        return {f"{row:08d}": data for row, data in enumerate(files.values())}

    def test_files_that_have_gone_are_missing_data(self, source: ImageSource, tmp_path: Path) -> None:
        with pytest.raises(MissingDataError, match="cannot be loaded"):
            open_source(f"hf:{tmp_path}/gone")


def test_virtual_shards_are_blocks_of_8192_in_order() -> None:
    keys = [str(number) for number in range(2 * VIRTUAL_SHARD_ROWS + 1)]
    shards = virtual_shards("folder", keys)
    assert [(shard.name, len(shard.keys)) for shard in shards] == [
        ("folder-00000", 8192),
        ("folder-00001", 8192),
        ("folder-00002", 1),
    ]
    assert [key for shard in shards for key in shard.keys] == keys
