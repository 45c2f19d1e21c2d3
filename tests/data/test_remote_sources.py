"""Transfer sets on a real S3 server: what a folder gives, with few requests, in spite of a bad network."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from faulty_proxy import CUT, DROP, FAIL, FORBID
from s3_server import Bucket
from test_image_sources import ImageSourceContract, all_keys, read_all

from reinforce import catalog
from reinforce.data import ImageSource, freeze, open_captioned, open_labelled, open_source
from reinforce.data.sources import remote_source
from reinforce.errors import DataError, MissingDataError, RemoteAccessError, UsageError
from reinforce.pack import PackConfig, pack

Encode = Callable[..., bytes]


class RemoteContract(ImageSourceContract):
    @pytest.fixture(autouse=True)
    def no_cache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REINFORCE_CACHE_MB", "0")

    @pytest.fixture
    def uploaded(self) -> dict[str, bytes]:
        raise NotImplementedError

    @pytest.fixture
    def location(self, bucket: Bucket, uploaded: dict[str, bytes]) -> str:
        return bucket.upload(uploaded, "some/set/")

    def test_keys_do_not_depend_on_where_the_set_lies(  # type: ignore[override]
        self, source: ImageSource, bucket: Bucket, uploaded: dict[str, bytes], location: str
    ) -> None:
        elsewhere = bucket.upload(uploaded, "elsewhere/set/") + location.removeprefix(f"{bucket.url}/some/set")
        assert open_source(elsewhere).shards == source.shards

    def test_files_that_have_gone_are_missing_data(  # type: ignore[override]
        self, source: ImageSource, bucket: Bucket, uploaded: dict[str, bytes]
    ) -> None:
        for name in uploaded:
            bucket.request("DELETE", f"some/set/{name}")
        with pytest.raises(MissingDataError, match=rf"s3://{bucket.name}/some/set/.* is not there: put it back"):
            source.read(0, 0)

    @pytest.mark.parametrize("fault", [DROP, FAIL, CUT])
    def test_a_bad_network_changes_nothing(
        self, bucket: Bucket, fault: str, location: str, expected: dict[str, bytes]
    ) -> None:
        bucket.proxy.faults.extend([fault, "", fault, "", "", fault])
        source = open_source(location)
        assert list(read_all(source).items()) == list(expected.items())

    def test_ahead_or_not_the_bytes_are_the_same(self, source: ImageSource, expected: dict[str, bytes]) -> None:
        remote = remote_source(source)
        assert remote is not None
        places = [(shard, row) for shard, own in enumerate(source.shards) for row in range(len(own.keys))]
        remote.prefetch(places[::-1])
        assert [source.read(*place) for place in places] == list(expected.values())

    def test_denied_access_is_one_line(self, bucket: Bucket, location: str) -> None:
        bucket.proxy.faults.append(FORBID)
        with pytest.raises(RemoteAccessError, match=r"access is denied \(403") as caught:
            open_source(location)
        assert "\n" not in str(caught.value)
        assert "not-to-be-seen" not in str(caught.value)


class TestLooseImages(RemoteContract):
    @pytest.fixture
    def uploaded(self, files: dict[str, bytes]) -> dict[str, bytes]:
        return files | {"photo.HEIC": b"", "notes.txt": b"", ".hidden.png": b"", ".git/x.png": b"", "folder/": b""}

    @pytest.fixture
    def expected(self, files: dict[str, bytes]) -> dict[str, bytes]:
        return dict(sorted(files.items()))

    def test_it_is_the_transfer_set_that_was_uploaded(
        self, bucket: Bucket, image: Encode, tree: Callable[[Mapping[str, bytes]], str]
    ) -> None:
        files = {"images/1.png": image(1), "images/2.png": image(2), "masks/1.png": image(3), "x.heic": b""}
        remote, local = open_source(bucket.upload(files, "set/")), open_source(tree(files))
        assert freeze(remote).digest == freeze(local).digest
        assert remote.name == local.name == "set"
        assert (remote.unread, remote.masks) == (local.unread, local.masks)  # type: ignore[attr-defined]

    def test_freezing_reads_each_image_once_and_then_from_disk(
        self, bucket: Bucket, location: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REINFORCE_CACHE_MB", "16")
        bucket.proxy.requests.clear()
        first = freeze(open_source(location))
        assert len([part for _, part in bucket.requests() if part]) == 5
        bucket.proxy.requests.clear()
        assert freeze(open_source(location)).digest == first.digest
        assert not [part for _, part in bucket.requests() if part]

    def test_a_replaced_image_is_not_taken_from_the_cache(
        self, bucket: Bucket, location: str, image: Encode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REINFORCE_CACHE_MB", "16")
        read_all(open_source(location))
        assert len(image(9)) == len(image(1))
        bucket.upload({"some/set/a.JPG": image(9)})
        assert read_all(open_source(location))["a.JPG"] == image(9)

    def test_labels_splits_and_captions(self, bucket: Bucket, image: Encode) -> None:
        files = {f"{split}/{name}/{number}.png": image(number) for number, (split, name) in enumerate(
            [("train", "cat"), ("train", "dog"), ("test", "cat")])}  # fmt: skip
        captions = {name.replace(".png", ".txt"): name.encode() for name in files}
        location = bucket.upload(files | captions, "labelled/")
        dataset = open_labelled(location)
        assert dataset.class_names == ("cat", "dog")
        assert [sample.key for sample in dataset.split("test")] == ["test/cat/2.png"]
        assert all_keys(open_source(f"{location}@train")) == ["train/cat/0.png", "train/dog/1.png"]
        assert open_captioned(location).captions(0, 0) == ("test/cat/2.png",)

    @pytest.mark.parametrize("prefix", ["none", "some/se"])
    def test_where_nothing_is(self, bucket: Bucket, location: str, prefix: str) -> None:
        with pytest.raises(MissingDataError, match=f"{bucket.url}/{prefix} holds no images"):
            open_source(f"{bucket.url}/{prefix}")

    def test_by_name(self, bucket: Bucket, location: str, expected: dict[str, bytes]) -> None:
        Path("reinforce.toml").write_text(f'[data]\nphotos = "{location}"\n')
        assert catalog.resolve_data("photos").path == location
        assert catalog.resolve_data(location).name == "set"


class TestTars(RemoteContract):
    @pytest.fixture
    def uploaded(self, files: dict[str, bytes], tar: Encode) -> dict[str, bytes]:
        members = [
            {name: files[name] for name in part} for part in (["b/2.png", "a.JPG", "b/10.webp"], ["é.png"], ["Z.gif"])
        ]
        members[0]["a.txt"] = b"a caption"
        return {f"x/{number}.tar": tar(part) for number, part in enumerate(members)}

    @pytest.fixture
    def expected(self, files: dict[str, bytes]) -> dict[str, bytes]:
        keys = ("x/0/b/2", "x/0/a", "x/0/b/10", "x/1/é", "x/2/Z")
        return {
            key: files[name]
            for key, name in zip(keys, ("b/2.png", "a.JPG", "b/10.webp", "é.png", "Z.gif"), strict=True)
        }

    def test_a_small_tar_is_indexed_by_one_request_and_read_by_one(self, bucket: Bucket, location: str) -> None:
        bucket.proxy.requests.clear()
        source = open_source(location)
        ranged = [(path, part) for path, part in bucket.requests() if part]
        assert sorted(path.rpartition("/")[2] for path, _ in ranged) == ["0.tar", "1.tar", "2.tar"]
        bucket.proxy.requests.clear()
        freeze(source)
        assert len(bucket.requests()) == 3

    def test_captions(self, location: str) -> None:
        assert open_source(location).read_beside(0, 1, "txt") == b"a caption"  # type: ignore[attr-defined]


class TestTarPattern(TestTars):
    @pytest.fixture
    def location(self, bucket: Bucket, uploaded: dict[str, bytes]) -> str:
        return bucket.upload(uploaded, "some/set/") + "/x/{0..2}.tar"

    @pytest.fixture
    def expected(self, files: dict[str, bytes]) -> dict[str, bytes]:
        keys = ("0/b/2", "0/a", "0/b/10", "1/é", "2/Z")
        return {
            key: files[name]
            for key, name in zip(keys, ("b/2.png", "a.JPG", "b/10.webp", "é.png", "Z.gif"), strict=True)
        }

    @pytest.mark.parametrize("pattern", ["{0..3}.tar", "9.tar"])
    def test_a_tar_that_is_not_there(self, bucket: Bucket, uploaded: dict[str, bytes], pattern: str) -> None:
        location = bucket.upload(uploaded, "some/set/")
        with pytest.raises(MissingDataError, match=r"\d\.tar is not there"):
            open_source(f"{location}/x/{pattern}")

    def test_braces_and_buckets(self) -> None:
        with pytest.raises(UsageError, match="braces in"):
            open_source("s3://bucket/{0..2.tar")
        with pytest.raises(UsageError, match="are of different buckets"):
            open_source("s3://bucket{1,2}/0.tar")


class TestPacked:
    @pytest.fixture
    def location(self, bucket: Bucket, tree: Callable[[Mapping[str, bytes]], str], image: Encode) -> str:
        folder = tree({f"{'ab'[number % 2]}/{number}.png": image(number) for number in range(9)})
        pack(PackConfig(transfer=folder, out="packed", shard_size=4, quiet=True))
        return bucket.upload({path.name: path.read_bytes() for path in Path("packed").iterdir()}, "packed/")

    def test_it_opens_by_its_listing_and_freezes_without_reading_all(self, location: str, bucket: Bucket) -> None:
        bucket.proxy.requests.clear()
        source = open_source(location)
        assert [path.rpartition("/")[2] for path, part in bucket.requests() if not part][1:] == ["listing.jsonl"]
        assert freeze(source).digest == freeze(open_source("packed")).digest
        assert len([part for _, part in bucket.requests() if part]) == 3  # an image of each tar
        assert read_all(source) == read_all(open_source("packed"))
        assert open_labelled(location).class_names == ("a", "b")

    def test_an_object_store_is_packed_as_the_folder_is(self, location: str, bucket: Bucket, image: Encode) -> None:
        loose = bucket.upload({f"{'ab'[number % 2]}/{number}.png": image(number) for number in range(9)}, "loose/")
        bucket.proxy.faults.extend(["", "", CUT, "", FAIL, DROP])
        pack(PackConfig(transfer=loose, out="again", shard_size=4, quiet=True))
        assert [path.read_bytes() for path in sorted(Path("again").iterdir())] == [
            path.read_bytes() for path in sorted(Path("packed").iterdir())
        ]

    def test_a_replaced_tar_is_not_believed(self, location: str, bucket: Bucket) -> None:
        bucket.upload({"packed/00000.tar": Path("packed/00001.tar").read_bytes()})
        with pytest.raises(DataError, match=r"(listing\.jsonl is of other images|there twice)"):
            freeze(open_source(location))


def test_pickling_keeps_no_secret(bucket: Bucket, image: Encode) -> None:
    source = open_source(bucket.upload({"a.png": image(1)}, "x/"))
    source.read(0, 0)
    data = pickle.dumps(source)
    assert b"not-to-be-seen" not in data
    assert pickle.loads(data).read(0, 0) == image(1)
