"""Create-only, durable, inside the folder: what every place for objects promises."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import pickle

import pytest
from faulty_proxy import DROP, FAIL, FORBID

from reinforce.errors import CorruptStoreError, RemoteAccessError, StoreError, UsageError
from reinforce.remote import PartCache, RemotePlace
from reinforce.store.objects import LocalObjects, ObjectExistsError, check_path, is_hidden, publish
from reinforce.store.places import open_objects
from reinforce.store.remote_objects import CachedObjects, RemoteObjects


class ObjectsContract:
    @pytest.fixture
    def objects(self, tmp_path):
        raise NotImplementedError

    def test_put_and_read(self, objects):
        objects.put_new("a/b/c.json", b"0123456789")
        assert objects.get("a/b/c.json") == b"0123456789"
        assert objects.get_range("a/b/c.json", 3, 4) == b"3456"
        assert objects.get_range("a/b/c.json", 8, 100) == b"89"
        assert objects.get_range("a/b/c.json", 50, 1) == b""
        assert objects.size("a/b/c.json") == 10
        assert objects.exists("a/b/c.json")

    def test_put_is_create_only(self, objects):
        objects.put_new("a", b"first")
        with pytest.raises(ObjectExistsError):
            objects.put_new("a", b"second")
        assert objects.get("a") == b"first"
        assert list(objects.list()) == [("a", 5)]

    def test_empty_objects_are_objects(self, objects):
        objects.put_new("empty", b"")
        assert objects.get("empty") == b""

    @pytest.mark.parametrize("call", ["get", "size"])
    @pytest.mark.parametrize("path", ["none", "no/such", "taken/below"])
    def test_what_is_not_there(self, objects, call, path):
        objects.put_new("taken", b"")
        with pytest.raises(FileNotFoundError):
            getattr(objects, call)(path)
        assert not objects.exists(path)

    def test_list_names_everything_with_its_size(self, objects):
        for path in ("z", "a/1", "a/2/3"):
            objects.put_new(path, path.encode())
        assert sorted(objects.list()) == [("a/1", 3), ("a/2/3", 5), ("z", 1)]

    def test_delete_may_be_repeated(self, objects):
        objects.put_new("a/b", b"x")
        objects.delete("a/b")
        objects.delete("a/b")
        assert list(objects.list()) == []
        objects.put_new("a/b", b"y")
        assert objects.get("a/b") == b"y"

    def test_publish_keeps_equal_and_replaces_different(self, objects):
        objects.put_new("same", b"1")
        objects.put_new("other", b"2")
        publish(objects, {"same": b"1", "other": b"3", "new": b"4"})
        assert [objects.get(path) for path in ("same", "other", "new")] == [b"1", b"3", b"4"]

    def test_pickles(self, objects):
        objects.put_new("a", b"x")
        assert pickle.loads(pickle.dumps(objects)).get("a") == b"x"

    @pytest.mark.parametrize("call", [lambda o, p: o.get(p), lambda o, p: o.put_new(p, b""), lambda o, p: o.size(p)])
    def test_refuses_names_outside(self, objects, call):
        with pytest.raises(CorruptStoreError, match="not a name"):
            call(objects, "../outside")


class TestLocalObjects(ObjectsContract):
    @pytest.fixture
    def objects(self, tmp_path):
        return LocalObjects(tmp_path / "x.zarr")

    def test_leaves_no_temporary_and_no_empty_folder(self, objects):
        objects.put_new("a/b/c", b"x")
        assert [path.name for path in (objects.root / "a" / "b").iterdir()] == ["c"]
        objects.delete("a/b/c")
        assert list(objects.root.iterdir()) == []

    def test_without_hard_links_it_renames(self, objects, monkeypatch):
        def refuse(*_):
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refuse)
        objects.put_new("a", b"first")
        with pytest.raises(ObjectExistsError):
            objects.put_new("a", b"second")
        assert contents(objects) == {"a": b"first"}

    def test_a_full_disk_is_one_line_and_leaves_nothing(self, objects, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"cannot write a/b in .*: No space left on device"):
            objects.put_new("a/b", b"x")
        assert contents(objects) == {}

    def test_links_are_not_followed(self, objects, tmp_path):
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "secret").write_bytes(b"secret")
        objects.put_new("real", b"")
        (objects.root / "folder").symlink_to(tmp_path / "outside")
        (objects.root / "file").symlink_to(tmp_path / "outside" / "secret")
        for path in ("folder/secret", "file"):
            with pytest.raises(CorruptStoreError, match=r"link|plain"):
                objects.get(path)
        with pytest.raises(CorruptStoreError, match="link"):
            objects.put_new("folder/new", b"x")
        with pytest.raises(CorruptStoreError, match="link"):
            objects.delete("folder/secret")
        assert sorted(objects.list()) == [("file", -1), ("folder", -1), ("real", 0)]
        objects.delete("folder")
        assert (tmp_path / "outside" / "secret").exists()

    def test_a_pipe_does_not_block(self, objects):
        objects.put_new("real", b"")
        os.mkfifo(objects.root / "pipe")
        with pytest.raises(CorruptStoreError, match="plain"):
            objects.get("pipe")
        assert ("pipe", -1) in list(objects.list())


class RemoteContract(ObjectsContract):
    """On a real S3 server, whose requests also fail now and then."""

    @pytest.fixture(params=["", FAIL, DROP])
    def place(self, bucket, request):
        faults = itertools.cycle(["", request.param])
        bucket.proxy.choose = lambda: next(faults)
        return RemotePlace(f"{bucket.url}/team/x.zarr")

    def test_neighbours_are_not_of_the_store(self, objects, bucket):
        objects.put_new("a", b"x")
        bucket.upload({"beside": b"1", "x.zarr2/a": b"2"}, "team/")
        assert list(objects.list()) == [("a", 1)]

    def test_marks_of_folders_are_no_objects(self, objects, bucket):
        objects.put_new("a/b", b"x")
        objects.put_new("empty", b"")
        bucket.upload({"x.zarr/": b"", "x.zarr/a/": b""}, "team/")
        assert sorted(objects.list()) == [("a/b", 1), ("empty", 0)]

    def test_nothing_is_asked_twice_of_what_was_listed(self, objects, bucket):
        objects.put_new("a", b"xyz")
        list(objects.list())
        bucket.proxy.choose = lambda: ""
        bucket.proxy.requests.clear()
        assert (objects.size("a"), objects.exists("a")) == (3, True)
        assert bucket.proxy.requests == []

    def test_the_service_says_the_md5(self, objects):
        objects.put_new("a", b"xyz")
        assert objects.md5("a") == hashlib.md5(b"xyz").hexdigest()

    def test_a_refusal_is_one_line(self, objects, bucket):
        bucket.proxy.choose = lambda: FORBID
        with pytest.raises(RemoteAccessError, match=r"cannot write s3://.*/team/x.zarr/a: access is denied"):
            objects.put_new("a", b"x")


class TestRemoteObjects(RemoteContract):
    @pytest.fixture
    def objects(self, place):
        return RemoteObjects(place)


class TestCachedObjects(RemoteContract):
    @pytest.fixture
    def objects(self, place, tmp_path, monkeypatch):
        monkeypatch.setattr("reinforce.store.remote_objects.BLOCK_BYTES", 4)
        return CachedObjects(place, PartCache(tmp_path / "parts", 1 << 20))

    def test_bytes_come_once(self, objects, bucket):
        objects.put_new("a", b"0123456789")
        bucket.proxy.choose = lambda: ""
        bucket.proxy.requests.clear()
        assert objects.get_range("a", 5, 2) == b"56"
        assert objects.get("a") == b"0123456789"
        again = pickle.loads(pickle.dumps(objects))
        assert [again.get_range("a", start, 3) for start in range(0, 12, 3)] == [b"012", b"345", b"678", b"9"]
        assert [part for _, part in bucket.requests()] == ["bytes=4-7", ""]

    def test_a_replaced_object_is_another(self, objects, bucket):
        objects.put_new("a", b"first")
        assert objects.get("a") == b"first"
        objects.delete("a")
        objects.put_new("a", b"other")
        assert objects.get("a") == b"other"

    def test_damage_in_the_cache_is_asked_for_again(self, objects, tmp_path):
        objects.put_new("a", b"0123456789")
        objects.get("a")
        for entry in (tmp_path / "parts").rglob("*"):
            if entry.is_file():
                entry.write_bytes(entry.read_bytes()[:-1] + b"?")
        assert objects.get("a") == b"0123456789"


class TestLocations:
    @pytest.mark.parametrize("url", ["file://{}", "file://localhost{}"])
    def test_file_urls_are_folders(self, tmp_path, url):
        objects = open_objects(url.format(str(tmp_path / "with%20space.zarr")))
        assert isinstance(objects, LocalObjects)
        assert objects.root == tmp_path / "with space.zarr"

    @pytest.mark.parametrize("url", ["file://host/x", "file://", "ftp://host/x"])
    def test_what_is_no_place(self, url):
        with pytest.raises(UsageError, match=url):
            open_objects(url)

    def test_urls_are_cached_unless_told_otherwise(self, monkeypatch):
        assert type(open_objects("s3://b/x")) is CachedObjects
        assert type(open_objects("s3://b/x", cached=False)) is RemoteObjects
        monkeypatch.setenv("REINFORCE_CACHE_MB", "0")
        assert type(open_objects("s3://b/x")) is RemoteObjects


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "a/../b",
        "a//b",
        "a/",
        "./a",
        ".hidden",
        "a/.tmp-1",
        "a\\b",
        "C:/x",
        "a\nb",
        "a\0",
        "ü",
        "-rf",
        "x" * 600,
        None,
        7,
        ["a"],
    ],
    ids=repr,
)
def test_only_plain_relative_names_are_objects(path):
    with pytest.raises(CorruptStoreError, match="not a name of an object") as caught:
        check_path(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "hidden"), [("a/b", False), (".DS_Store", True), ("a/.tmp-0", True), ("a.b/c", False)]
)
def test_hidden_names(path, hidden):
    assert is_hidden(path) is hidden


def contents(objects):
    return {path: objects.get(path) for path, _ in objects.list()}
