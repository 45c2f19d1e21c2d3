"""A search in spans: killed, divided or whole, it gives the same bits; damage and other requests are refused."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from galleries import unit_rows

from reinforce.curate import kernel
from reinforce.curate.embeddings import ArrayEmbeddings, Block
from reinforce.curate.search import best_matches, nearest
from reinforce.curate.search_job import SearchRequest, cut_spans, run_search
from reinforce.errors import CorruptStoreError, UsageError
from reinforce.job import Share
from reinforce.store import LocalObjects, marker_path

WIDTHS = (5, 3)
WHOLE = {"query-balanced": nearest, "best-matches": best_matches}


def request(strategy: str = "query-balanced", count: int = 17, **options: object) -> SearchRequest:
    """Of 600 items in 20 units, of which many are equal, under keys in random order."""
    rng = np.random.default_rng(0)
    vectors = unit_rows(rng, 300, WIDTHS)[rng.integers(0, 300, 600)]
    gallery = ArrayEmbeddings(vectors, WIDTHS, keys=[str(key) for key in rng.permutation(600)], unit_rows=30)
    return SearchRequest(strategy=strategy, queries_QD=unit_rows(rng, 9, WIDTHS), gallery=gallery,  # type: ignore[arg-type]
                         gallery_digest="a gallery", count=count, excluded=np.arange(5), **options)  # type: ignore[arg-type]  # fmt: skip


def whole(asked: SearchRequest) -> object:
    return WHOLE[asked.strategy](asked.queries_QD, asked.gallery, asked.count, excluded=asked.excluded)


def assert_equal(found: object, expected: object) -> None:
    assert type(found) is type(expected)
    for name, array in vars(expected).items():
        assert np.array_equal(getattr(found, name), array), name


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "search")


class Interrupted(ArrayEmbeddings):
    """Reading stops for good before a unit."""

    stop_at = 13

    def unit(self, unit: int) -> Block:
        if unit == self.stop_at:
            raise KeyboardInterrupt
        return super().unit(unit)


@pytest.mark.parametrize("strategy", WHOLE)
@pytest.mark.parametrize("count", [1, 17, 595])
class TestEqualToOneSearch:
    def test_in_spans(self, objects: LocalObjects, strategy: str, count: int) -> None:
        asked = request(strategy, count)
        assert_equal(run_search(objects, asked), whole(asked))
        assert_equal(run_search(objects, asked), whole(asked))  # what lies there alone gives the result, too

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
    def test_in_shards(self, objects: LocalObjects, strategy: str, count: int, order: tuple[int, ...]) -> None:
        asked = request(strategy, count)
        results = [run_search(objects, asked, Share(index, 3)) for index in order]
        assert results[:2] == [None, None]
        assert_equal(results[2], whole(asked))

    def test_after_an_interruption(self, objects: LocalObjects, strategy: str, count: int) -> None:
        asked = request(strategy, count)
        broken = Interrupted(asked.gallery._vectors, WIDTHS, unit_rows=30)  # type: ignore[attr-defined]
        broken._tie_order = asked.gallery._tie_order  # type: ignore[attr-defined]
        with pytest.raises(KeyboardInterrupt):
            run_search(objects, dataclasses.replace(asked, gallery=broken))
        assert [objects.exists(marker_path(span)) for span in (0, 12, 13)] == [True, True, False]
        searched: list[int] = []
        assert_equal(run_search(objects, asked, progress=searched.append), whole(asked))


SLOW = """
import sys, time
sys.path.insert(0, sys.argv[2])
from test_search_job import request, run_search, Share, LocalObjects
asked = request()
read = asked.gallery.unit
def slowly(unit):
    time.sleep(0.1)
    return read(unit)
asked.gallery.unit = slowly
run_search(LocalObjects(sys.argv[1]), asked)
"""


def test_a_killed_process_is_continued(objects: LocalObjects) -> None:
    process = subprocess.Popen([sys.executable, "-c", SLOW, objects.name, str(Path(__file__).parent)])
    deadline = time.monotonic() + 60
    while not objects.exists(marker_path(3)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not objects.exists(marker_path(19))
    asked = request()
    read: list[int] = []
    unit = asked.gallery.unit
    asked.gallery.unit = lambda number: read.append(number) or unit(number)  # type: ignore[method-assign, func-returns-value]
    assert_equal(run_search(objects, asked), whole(request()))
    assert 0 not in read
    assert 19 in read


def test_a_part_holds_only_what_beats_the_spans_before(objects: LocalObjects) -> None:
    run_search(objects, request(count=17))
    sizes = []
    for span in range(20):
        parts = json.loads(objects.get(marker_path(span)))["parts"]
        sizes.append(sum(objects.size(f"parts/{digest}.npy") for digest in parts))
    assert sum(sizes[10:]) < sum(sizes[:5])


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"count": 18}, "count"),
        ({"strategy": "best-matches"}, "strategy"),
        ({"gallery_digest": "another"}, "gallery"),
        ({"excluded": np.arange(6)}, "excluded"),
        ({"queries_QD": request().queries_QD[:4]}, "num_queries, queries"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_folder_is_bound_to_its_search(objects: LocalObjects, change: dict[str, object], names: str) -> None:
    run_search(objects, request(), Share(0, 4))
    with pytest.raises(UsageError, match=rf"its {names}\): remove it"):
        run_search(objects, dataclasses.replace(request(), **change))  # type: ignore[arg-type]


def test_an_excluded_mask_is_the_same_search(objects: LocalObjects) -> None:
    run_search(objects, request(), Share(0, 4))
    assert run_search(objects, dataclasses.replace(request(), excluded=np.arange(600) < 5)) is not None


def damaged(objects: LocalObjects, path: str, how: str) -> str:
    data = bytearray(objects.get(path))
    objects.delete(path)
    data[-1] ^= 1
    if how != "remove":
        objects.put_new(path, bytes(data if how == "flip" else data[: len(data) // 2]))
    return path


@pytest.mark.parametrize("strategy", WHOLE)
class TestDamage:
    """Of what was found costs searching its span again, and nothing else."""

    @pytest.mark.parametrize("how", ["flip", "cut", "remove"])
    def test_of_a_part(
        self, objects: LocalObjects, strategy: str, how: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = request(strategy)
        run_search(objects, asked)
        parts = json.loads(objects.get(marker_path(3)))["parts"]
        path = damaged(objects, f"parts/{parts[-1]}.npy", how)
        assert_equal(run_search(objects, asked), whole(asked))
        assert f"warning: {objects.name}: {path} is missing or damaged: its span is searched again\n" in (
            capsys.readouterr().err)  # fmt: skip
        assert_equal(run_search(objects, asked), whole(asked))
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("how", ["flip", "cut"])
    def test_of_a_marker(self, objects: LocalObjects, strategy: str, how: str) -> None:
        asked = request(strategy)
        run_search(objects, asked)
        damaged(objects, marker_path(3), how)
        assert run_search(objects, asked, Share(2, 4)) is None  # which has not that span
        assert_equal(run_search(objects, asked), whole(asked))


@pytest.mark.parametrize("last", ["first tile", "last tile"])
def test_a_span_of_several_tiles_is_taken_whole_or_not_at_all(
    objects: LocalObjects, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sound parts of a damaged span are not kept: its entries would come twice."""
    monkeypatch.setattr(kernel, "TILE_QUERIES", 3)
    run_search(objects, request())
    parts = json.loads(objects.get(marker_path(0)))["parts"]
    assert len(parts) == 3
    damaged(objects, f"parts/{parts[0 if last == 'first tile' else -1]}.npy", "flip")
    assert_equal(run_search(objects, request()), whole(request()))


def test_a_damaged_request_says_what_to_remove(objects: LocalObjects) -> None:
    run_search(objects, request())
    damaged(objects, "search.json", "cut")
    with pytest.raises(CorruptStoreError, match=rf"remove the folder {objects.name}, then type .* --resume$"):
        run_search(objects, request())


@pytest.mark.parametrize(("num_units", "spans"), [(1, 1), (512, 512), (513, 257), (100_000, 511)])
def test_spans_cover_all_units(num_units: int, spans: int) -> None:
    cut = cut_spans(num_units)
    assert [unit for span in cut for unit in span] == list(range(num_units))
    assert len(cut) == spans
