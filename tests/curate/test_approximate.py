"""The approximate search: exact scores, a recall that is measured, and errors that say what to do."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from galleries import Holed, similarities, unit_rows

from reinforce.curate import approximate
from reinforce.curate.approximate import ApproximateIndex, make_index, probes_of
from reinforce.curate.embeddings import ArrayEmbeddings
from reinforce.curate.search import nearest
from reinforce.errors import EmbeddingError, MissingExtraError, UsageError

pytest.importorskip("faiss")
RNG = np.random.default_rng(0)
WIDTHS = (10, 6)
VECTORS, QUERIES = unit_rows(RNG, 2000, WIDTHS), unit_rows(RNG, 12, WIDTHS)
GALLERY = ArrayEmbeddings(VECTORS, WIDTHS, unit_rows=300)


@pytest.mark.parametrize("batches", ["one", "many"])
@pytest.mark.parametrize("words", ["Flat", "IVF16,Flat"])
def test_an_index_that_misses_nothing_is_the_exact_search(
    words: str, batches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if batches == "many":
        monkeypatch.setattr(approximate, "MOST_CANDIDATES", 200)
        monkeypatch.setattr(approximate, "PAIRS", 7)
    found = ApproximateIndex(GALLERY, words, None).nearest(QUERIES, 20)
    exact = nearest(QUERIES, GALLERY, 20)
    assert (found.neighbours.items_Qk == exact.items_Qk).all()
    assert (found.neighbours.scores_Qk == exact.scores_Qk).all()
    assert (found.recall, found.sampled_queries) == (1.0, 12)


def test_of_equal_items_those_of_the_first_keys_are_found() -> None:
    keys = [f"{place:03d}" for place in RNG.permutation(400)]
    twice = ArrayEmbeddings(np.repeat(VECTORS[:200], 2, axis=0), WIDTHS, keys=keys, unit_rows=90)
    holed = Holed(twice, np.arange(0, 400, 7), cuts=[50, 130])
    found = ApproximateIndex(holed, "Flat").nearest(QUERIES, 30)
    exact = nearest(QUERIES, holed, 30)
    assert (found.neighbours.items_Qk == exact.items_Qk).all()


def test_recall_is_that_of_all_queries_where_all_are_sampled() -> None:
    seen: list[int] = []
    index = ApproximateIndex(GALLERY, "IVF16,SQfp16", 4, progress=seen.append)
    found, exact = index.nearest(QUERIES, 20), nearest(QUERIES, GALLERY, 20)
    pairs = zip(found.neighbours.items_Qk, exact.items_Qk, strict=True)
    assert found.recall == sum(len(set(a) & set(b)) for a, b in pairs) / (12 * 20) < 1
    scores = np.take_along_axis(similarities(QUERIES, VECTORS, 2), found.neighbours.items_Qk, axis=1)
    assert (scores == found.neighbours.scores_Qk).all()
    assert sum(seen) == 2000
    assert index.nearest(QUERIES, 20, sample=3).sampled_queries == 3


class TestKept:
    @pytest.mark.parametrize(("words", "probes"), [("Flat", None), ("IVF16,SQfp16", 4), ("OPQ4,IVF16,PQ4x4", 3)])
    def test_an_index_is_read_and_proposes_the_same(
        self, words: str, probes: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        built = ApproximateIndex(GALLERY, words, probes, kept=tmp_path / "x").nearest(QUERIES, 20)
        monkeypatch.setattr(ApproximateIndex, "_train", None)
        seen: list[int] = []
        read = ApproximateIndex(GALLERY, words, probes, kept=tmp_path / "x", progress=seen.append).nearest(QUERIES, 20)
        assert (read.neighbours.items_Qk == built.neighbours.items_Qk).all()
        assert (read.recall, sum(seen)) == (built.recall, 2000)

    @pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-9], lambda data: data[:20_000],
                                        lambda data: data[:40_000] + bytes([data[40_000] ^ 1]) + data[40_001:]],
                             ids=["empty", "cut", "half", "flipped"])  # fmt: skip
    def test_a_damaged_one_is_built_again(self, damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
        path = tmp_path / "x"
        built = ApproximateIndex(GALLERY, "IVF16,SQfp16", 4, kept=path).nearest(QUERIES, 20)
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        again = ApproximateIndex(GALLERY, "IVF16,SQfp16", 4, kept=path).nearest(QUERIES, 20)
        assert (again.neighbours.items_Qk == built.neighbours.items_Qk).all()
        assert path.read_bytes() == whole

    def test_one_of_another_faiss_is_built_again_with_a_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "x"
        ApproximateIndex(GALLERY, "Flat", kept=path)
        whole = path.read_bytes()
        start = whole.index(b"IxFI")  # how faiss calls a flat index of inner products
        unknown = whole[32:start] + b"IxZZ" + whole[start + 4 :]
        path.write_bytes(hashlib.sha256(unknown).digest() + unknown)
        assert ApproximateIndex(GALLERY, "Flat", kept=path).nearest(QUERIES, 3).recall == 1
        assert capsys.readouterr().err == f"warning: {path} is an index of another faiss: it is built again\n"
        assert path.read_bytes() == whole

    def test_a_disk_that_does_not_take_it_costs_a_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        index = ApproximateIndex(GALLERY, "Flat", kept=tmp_path / "file" / "x")
        assert index.nearest(QUERIES, 3).recall == 1
        assert capsys.readouterr().err.startswith("warning: the index is not kept: cannot write")


@pytest.mark.parametrize(("words", "probes", "visited"), [("IVF64,Flat", None, 16), ("IVF64,Flat", 3, 3),
                                                          ("IVF8,SQ8", None, 8), ("OPQ4,IVF64,PQ4", 5, 5),
                                                          ("Flat", None, None)])  # fmt: skip
def test_cells_that_a_query_visits(words: str, probes: int | None, visited: int | None) -> None:
    assert probes_of(WIDTHS, words, probes) == visited


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "probes", "k", "message"),
        [
            ("IVF16,Flat", 1, 500, "IVF16,Flat proposes fewer than 500 items for some query: type larger --probes"),
            ("Flat", None, 2001, "type 1 to 2000"),
            ("IVF2048,Flat", None, 1, r"cannot be trained on 2000 vectors \(Number of training points \(2000\) should"),
            ("Flat", 4, 1, "Flat has no cells: leave out --probes"),
        ],
    )
    def test_what_an_index_cannot_do(self, words: str, probes: int | None, k: int, message: str) -> None:
        with pytest.raises(UsageError, match=message) as refused:
            ApproximateIndex(GALLERY, words, probes).nearest(QUERIES, k)
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize(("words", "reason"), [("nonsense", "could not parse index string nonsense"),
                                                   ("PQ5", "The dimension of the vector .* multiple of"),
                                                   ("LSH", "metric == METRIC_L2")])  # fmt: skip
    def test_words_that_are_no_index(self, words: str, reason: str) -> None:
        with pytest.raises(UsageError, match=rf"^--index {words} is nothing .* of 16 dimensions \(.*{reason}"):
            make_index(WIDTHS, words, None)

    def test_vectors_that_are_not_of_unit_length(self) -> None:
        made = ArrayEmbeddings(VECTORS.copy(), WIDTHS, unit_rows=300)
        made._vectors[700] = 0.5
        with pytest.raises(EmbeddingError, match="the gallery's unit 2: row 100"):
            ApproximateIndex(made, "Flat")
        with pytest.raises(EmbeddingError, match="the queries: row 0"):
            ApproximateIndex(GALLERY, "Flat").nearest(QUERIES * np.float16(2), 1)

    def test_faiss_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "faiss", None)
        with pytest.raises(MissingExtraError, match=r"^--index needs faiss-cpu: pip install '.*\[curate\]'$"):
            make_index(WIDTHS, "Flat", None)
