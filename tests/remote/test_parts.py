"""What is read ahead, what is kept on disk, and that both stay within their limits."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import pytest
from faulty_proxy import FORBID
from s3_server import Bucket

from reinforce.errors import RemoteAccessError, UsageError
from reinforce.remote import Part, PartCache, PartReader, RemotePlace, default_cache, parts

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def reader(bucket: Bucket, tmp_path: Path) -> PartReader:
    url = bucket.upload({"a": CONTENT, "b": CONTENT[::-1]})
    return PartReader(RemotePlace(url), PartCache(tmp_path / "cache", 1 << 20))


def part(path: str, start: int, length: int) -> Part:
    return Part(path, "v1", start, length)


class TestReader:
    def test_neighbours_are_one_request(self, reader: PartReader, bucket: Bucket) -> None:
        wanted = [part("a", 0, 100), part("a", 100, 50), part("a", 200, 10), part("b", 5, 5), part("a", 10, 20)]
        reader.prefetch(wanted)
        assert [reader.read(each) for each in wanted] == [
            CONTENT[0:100], CONTENT[100:150], CONTENT[200:210], CONTENT[::-1][5:10], CONTENT[10:30]
        ]  # fmt: skip
        ranges = sorted(part for _, part in bucket.requests())
        assert ranges == ["bytes=0-209", "bytes=10-29", "bytes=5-9"]

    def test_what_was_read_is_cached_by_content(self, reader: PartReader, bucket: Bucket) -> None:
        for _ in range(2):
            reader.prefetch([part("a", 0, 9)])
            assert reader.read(part("a", 0, 9)) == CONTENT[:9]
            assert reader.read(part("b", 0, 9)) == CONTENT[::-1][:9]
        assert len(bucket.requests()) == 2
        reader.read(Part("a", "v2", 0, 9))
        assert len(bucket.requests()) == 3

    def test_what_is_asked_for_ahead_is_bounded(self, reader: PartReader, bucket: Bucket,
                                                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
        monkeypatch.setattr(parts, "AHEAD_BYTES", 1000)
        monkeypatch.setattr(parts, "JOINED_BYTES", 100)
        wanted = [part("a", start, 100) for start in range(0, 10_000, 100)]
        reader.prefetch(wanted)
        assert reader._ahead_bytes == 1000
        assert b"".join(map(reader.read, wanted)) == CONTENT[:10_000]
        assert (reader._ahead_bytes, len(bucket.requests())) == (0, 100)

    def test_a_new_word_takes_the_place_of_the_old(self, reader: PartReader) -> None:
        reader.prefetch([part("a", 0, 100), part("a", 5000, 100)])
        reader.prefetch([part("a", 0, 100), part("b", 0, 10)])
        assert reader._ahead_bytes == 110
        assert (reader.read(part("a", 0, 100)), reader.read(part("b", 0, 10))) == (CONTENT[:100], CONTENT[::-1][:10])
        assert reader._ahead_bytes == 0

    def test_what_fails_ahead_fails_when_it_is_used(self, reader: PartReader, bucket: Bucket) -> None:
        bucket.proxy.faults.append(FORBID)
        reader.prefetch([part("a", 0, 100)])
        with pytest.raises(RemoteAccessError, match="access is denied"):
            reader.read(part("a", 0, 100))
        assert reader.read(part("a", 0, 100)) == CONTENT[:100]

    def test_pickles_while_it_waits(self, reader: PartReader) -> None:
        reader.prefetch([part("a", 0, 100)])
        assert pickle.loads(pickle.dumps(reader)).read(part("a", 0, 100)) == CONTENT[:100]


class TestCache:
    @pytest.mark.parametrize("damage", [b"", b"short", b"x" * 200])
    def test_damaged_entries_count_as_absent(self, tmp_path: Path, damage: bytes) -> None:
        cache = PartCache(tmp_path, 1 << 20)
        cache.put("name", b"data" * 20)
        assert cache.get("name") == b"data" * 20
        (entry,) = (path for path in tmp_path.rglob("*") if path.is_file())
        entry.write_bytes(damage)
        assert cache.get("name") is None

    def test_it_stays_within_its_limit_and_keeps_what_is_used(self, tmp_path: Path) -> None:
        cache = PartCache(tmp_path, 160_000)
        for number in range(1200):
            cache.put(f"{number}", bytes(300))
            assert cache.get("0") is not None
        assert 100_000 < size_of(tmp_path) <= 1.06 * 160_000
        assert cache.get("1199") is not None

    def test_several_processes_stay_within_it_together(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        with context.Pool(2) as pool:
            pool.starmap(fill, [(tmp_path, worker) for worker in range(2)])
        assert 50_000 < size_of(tmp_path) <= 1.15 * 160_000

    def test_too_large_or_nowhere_to_put_is_no_error(self, tmp_path: Path) -> None:
        cache = PartCache(tmp_path / "file" / "x", 160_000)
        (tmp_path / "file").write_bytes(b"")
        cache.put("name", b"data")
        assert cache.get("name") is None
        cache = PartCache(tmp_path / "y", 160_000)
        cache.put("large", bytes(9000))
        assert cache.get("large") is None

    def test_its_size_comes_from_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert default_cache(tmp_path).limit_bytes == 8 << 30
        monkeypatch.setenv("REINFORCE_CACHE_MB", "0")
        cache = default_cache(tmp_path)
        cache.put("name", b"data")
        assert cache.get("name") is None
        assert not list(tmp_path.iterdir())
        monkeypatch.setenv("REINFORCE_CACHE_MB", "8 GB")
        with pytest.raises(UsageError, match="REINFORCE_CACHE_MB is '8 GB': set it to a number of MiB"):
            default_cache(tmp_path)


def fill(folder: Path, worker: int) -> None:
    cache = PartCache(folder, 160_000)
    for number in range(600):
        cache.put(f"{worker}-{number}", bytes(300))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
