"""`reinforce curate`: what a curated set holds, against the paper's words; what it leaves out; what it refuses."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curate_data import BAD, COLOURS, COPIES, CROPS, LEAKS
from PIL import Image
from processes import held_elsewhere

from reinforce import catalog
from reinforce.cli import command
from reinforce.command import run_group
from reinforce.curate.curate import CurateConfig, CuratedSummary, curate
from reinforce.curate.curated import CuratedSet
from reinforce.curate.embeddings import similarity
from reinforce.curate.request import working
from reinforce.curate.stored import EmbeddingStore
from reinforce.data import hash64, hex64, open_source
from reinforce.data.licence import data_licence
from reinforce.embed import EmbedConfig, embed
from reinforce.errors import DataError, ReinforceError, TransferMismatchError, UsageError
from reinforce.review import ReviewConfig, review

SIZE, SHOTS = 12, 2
NUM_QUERIES = SHOTS * len(COLOURS)


@pytest.fixture(autouse=True)
def at_home(stores: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder where the gallery's place is known."""
    monkeypatch.setenv("REINFORCE_HOME", str(Path(stores["wholes"]).parent / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def request_of(stores: dict[str, str], task: Path, encoders: list[str], tmp_path: Path) -> Any:
    def make(**changes: Any) -> CurateConfig:
        base = {"gallery": stores["wholes"], "query": str(task), "shots": SHOTS, "size": SIZE, "quiet": True,
                "encoder": tuple(encoders), "out": str(tmp_path / "curated")}  # fmt: skip
        return CurateConfig(**base | changes)

    return make


@pytest.fixture
def made(request_of: Any) -> Any:
    def make(**changes: Any) -> CuratedSet:
        config = request_of(**changes)
        assert isinstance(curate(config), CuratedSummary)
        return CuratedSet.open(config.out)

    return make


def images_of(folder: Path) -> dict[str, bytes]:
    source = open_source(str(folder))
    return {key: source.read(number, row) for number, shard in enumerate(source.shards)
            for row, key in enumerate(shard.keys)}  # fmt: skip


def bytes_of(folder: Path) -> dict[str, str]:
    """Of the set, without what it keeps of searches."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "search" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def written_at(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def licensed(
    encoders: list[str], images: Path, stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The gallery of whole images, whose licence is known."""
    out = str(tmp_path_factory.mktemp("licensed") / "wholes.zarr")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(Path(stores["wholes"]).parent / "home"))
        embed(EmbedConfig(gallery=str(images), encoder=tuple(encoders), batch_size=8, workers=0, quiet=True, out=out,
                          data_license="CC-BY-4.0, MIT"))  # fmt: skip
    return out


class TestLicences:
    """Of all images that a set holds; what is missing is said, too."""

    @pytest.mark.parametrize(
        ("of_queries", "changes", "expected"),
        [
            ("CC0-1.0", {}, "CC-BY-4.0, MIT, CC0-1.0"),
            ("MIT", {}, "CC-BY-4.0, MIT"),
            (None, {}, "CC-BY-4.0, MIT, unknown"),
            (None, {"strategy": "random", "query": None, "shots": None}, "CC-BY-4.0, MIT"),
        ],
    )
    def test_of_gallery_and_queries(self, made, licensed, task, of_queries, changes, expected):
        stated = "" if of_queries is None else f', license = "{of_queries}"'
        Path("reinforce.toml").write_text(f'[data]\ncolours = {{ path = "{task}"{stated} }}\n')
        curated = made(**{"gallery": licensed, "query": "colours"} | changes)
        assert curated.summary["license"] == expected
        assert data_licence(catalog.resolve_data(str(curated.path)), open_source(str(curated.path))) == expected

    def test_of_an_unlicensed_gallery(self, made):
        assert made().summary["license"] == "unknown"

    def test_of_a_gallery_that_was_embedded_before_anybody_said_it(self, made, images, stores):
        Path("reinforce.toml").write_text(f'[data]\nnamed = {{ path = "{images}", license = "CC0-1.0" }}\n')
        assert made(transfer="named", strategy="random", query=None, shots=None).summary["license"] == "CC0-1.0"

    def test_one_that_is_said_later_is_told_by_resuming(self, request_of, licensed, task, made):
        made(gallery=licensed, query=str(task))
        Path("reinforce.toml").write_text(f'[data]\ncolours = {{ path = "{task}", license = "CC0-1.0" }}\n')
        again = curate(request_of(gallery=licensed, query="colours", resume=True))
        assert again.license == "CC-BY-4.0, MIT, CC0-1.0"
        assert "  licence     CC-BY-4.0, MIT, CC0-1.0\n" in str(again)


class TestContents:
    def test_a_line_has_what_the_design_names(self, made, stores, images):
        curated = made()
        lines = [json.loads(line) for line in (curated.path / "manifest.jsonl").read_text().splitlines()]
        assert len(lines) == SIZE == len({line["key"] for line in lines})
        for line in lines:
            assert set(line) == {"key", "source", "crop", "query", "rank", "cosines", "sha64", "file"}
            assert (line["source"], line["crop"], len(line["cosines"])) == ("web", None, 2)
            assert line["sha64"] == hex64(hash64((images / line["key"]).read_bytes()))
            assert line["rank"] >= 1
        assert {line["query"] for line in lines} <= {query.key for query in curated.queries}

    def test_it_is_a_transfer_set_of_items_and_queries(self, made, images, task):
        curated = made()
        found = images_of(curated.path)
        assert len(found) == SIZE + NUM_QUERIES
        for item in curated.items:
            assert found[item.file] == (images / item.key).read_bytes()
        for query in curated.queries:
            assert found[query.file] == (task / query.key).read_bytes()

    def test_query_balanced_is_the_papers_algorithm_on_exact_similarities(self, made, stores):
        curated = made(keep_duplicates=True)
        store = EmbeddingStore(stores["wholes"])
        keys = [store.keys[sample] for sample in store.embedded_samples]
        vectors = store.wholes.vectors(store.embedded_samples)
        queries = np.load(curated.path / "map.npz")["query"]
        depth = curated.summary["depth"]
        ranked = []
        for query in queries:
            scores = similarity(np.broadcast_to(query, vectors.shape), vectors, store.widths)
            ranked.append([key for _, key in sorted(zip(-scores, keys, strict=True))])
        fewer, enough = ({key for row in ranked for key in row[:k]} for k in (depth - 1, depth))
        assert len(fewer) < SIZE <= len(enough)
        assert fewer <= {item.key for item in curated.items} <= enough
        for item in curated.items:
            own = [query.key for query in curated.queries].index(item.query)
            assert ranked[own][item.rank - 1] == item.key

    def test_crops_are_boxes_of_their_originals_one_of_each(self, made, stores, images):
        curated = made(gallery=stores["crops"])
        found = images_of(curated.path)
        assert len({item.key for item in curated.items}) == SIZE
        for item in curated.items:
            original = Image.open(images / item.key)
            left, top, width, height = item.crop
            assert 0 <= left < left + width <= original.width
            assert 0 <= top < top + height <= original.height
            expected = np.asarray(original)[top : top + height, left : left + width]
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(found[item.file]))), expected)
        assert curated.summary["gallery"]["crops"] == CROPS

    def test_a_query_that_was_retrieved_is_there_once(self, made, images):
        curated = made(query=str(images / "red"), shots=None, size=10)
        assert len(images_of(curated.path)) < 10 + len(curated.queries)
        found = images_of(curated.path)
        for query in curated.queries:
            assert hex64(hash64(found[query.file])) == query.sha64

    def test_a_broken_image_is_never_found(self, made):
        assert BAD not in {item.key for item in made(strategy="random", size=40, keep_duplicates=True).items}


class TestStrategies:
    def test_best_matches_come_in_the_order_of_similarity(self, made):
        curated = made(strategy="best-matches")
        means = [sum(item.cosines) / 2 for item in curated.items]
        assert means == sorted(means, reverse=True)
        assert [item.rank for item in curated.items] == sorted(item.rank for item in curated.items)

    def test_random_depends_on_the_seed_alone(self, made):
        first, again, other = (made(strategy="random", out=f"r{number}", seed=seed).items
                               for number, seed in enumerate((1, 1, 2)))  # fmt: skip
        assert first == again != other
        assert {(item.query, item.rank, item.cosines) for item in first} == {(None, None, ())}

    def test_random_needs_no_query(self, made):
        curated = made(strategy="random", query=None, shots=None)
        assert (len(curated.items), curated.queries) == (SIZE, ())

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ({"shots": 4}, ""),
            ({"shots": 5}, "warning: --shots 5: class 'blue' has only 4 (3 classes have too few): all of "),
            ({"shots": None, "num_labelled": 13}, "warning: --num-labelled 13: there are only 12 labelled images: all"),
        ],
    )
    def test_fewer_query_images_than_were_asked_for_are_said(self, request_of, capsys, asked, said):
        assert curate(request_of(dry_run=True, **asked)).num_queries == 12
        err = capsys.readouterr().err
        assert (err.startswith(said), err.count("\n")) == (True, bool(said))

    def test_retrieval_finds_the_tasks_colours(self, made):
        related = {strategy: sum(item.key.split("/")[0] in {*COLOURS, "leaks", "copies"} for item in
                                 made(strategy=strategy, out=strategy).items)
                   for strategy in ("query-balanced", "best-matches", "random")}  # fmt: skip
        assert min(related["query-balanced"], related["best-matches"]) > related["random"]


class TestDuplicates:
    def test_one_of_byte_equal_images_stays_and_the_size_holds(self, made):
        curated = made(size=30)
        assert len(curated.items) == 30
        keys = {item.key for item in curated.items}
        for group in ({"red/01.png", "copies/a.png", "copies/b.png"}, {"blue/02.png", "copies/c.png"}):
            assert len(keys & group) <= 1
        assert any(set(cluster.members) >= {"copies/a.png", "copies/b.png"} for cluster in curated.clusters)
        for cluster in curated.clusters:
            assert cluster.kept in cluster.members
            assert set(cluster.weakest) <= set(cluster.members)
            assert keys & set(cluster.members) <= {cluster.kept}

    def test_without_the_filter_copies_stay(self, made):
        keys = {item.key for item in made(size=40, keep_duplicates=True).items}
        assert {*COPIES} <= keys


class TestLeaks:
    def test_images_of_the_test_split_are_left_out_until_a_person_keeps_them(self, request_of, task):
        config = request_of(size=20, decontaminate=str(task), max_target_cosine=0.9999)
        summary = curate(config)
        found = CuratedSet.open(config.out)
        assert {leak.key for leak in found.leaks} >= {*LEAKS}
        assert not {*LEAKS} & {item.key for item in found.items}
        leak = next(leak for leak in found.leaks if leak.key == "leaks/x.png")
        assert leak.nearest[0][0] == LEAKS["leaks/x.png"]
        assert len(leak.nearest) == 5
        before = bytes_of(Path(config.out))

        decisions = Path(config.out, "leaks.csv")
        undecided = decisions.read_text()
        rows = undecided.splitlines()
        place = next(number for number, row in enumerate(rows) if row.startswith("leaks/x.png"))
        rows[place] = rows[place].replace("leaks/x.png,", "leaks/x.png,keep", 1)
        decisions.write_text("\n".join(rows) + "\n")
        kept = curate(request_of(size=20, decontaminate=str(task), max_target_cosine=0.9999, resume=True))
        assert "leaks/x.png" in {item.key for item in CuratedSet.open(config.out).items}
        assert kept.decontamination["kept"] == summary.decontamination["kept"] + 1

        decisions.write_text(undecided)
        curate(request_of(size=20, decontaminate=str(task), max_target_cosine=0.9999, resume=True))
        assert bytes_of(Path(config.out)) == before

    def test_a_store_of_the_target_does_as_well(self, made, task, encoders):
        embed(EmbedConfig(gallery=str(task), encoder=tuple(encoders), batch_size=8, workers=0, quiet=True,
                          out="t.zarr"))  # fmt: skip
        first = made(size=20, decontaminate=str(task), max_target_cosine=0.9999, out="a")
        second = made(size=20, decontaminate="t.zarr", max_target_cosine=0.9999, out="b")
        assert (first.items, first.leaks) == (second.items, second.leaks)


class TestApproximate:
    """By an index of faiss: a set says so, and how much was missed."""

    @pytest.fixture(autouse=True)
    def needs_faiss(self):
        pytest.importorskip("faiss")

    @pytest.mark.parametrize(
        ("changes", "probes"), [({"index": "Flat"}, None), ({"index": "IVF4,Flat"}, 4), ({"index": "IVF4,SQ8"}, 4)]
    )
    def test_one_that_misses_nothing_gives_the_exact_set_and_says_it_was_approximate(self, made, changes, probes):
        exact, found = made(out="exact"), made(out="found", **changes)
        assert (found.items, found.queries) == (exact.items, exact.queries)
        assert exact.summary["approximate"] is None
        assert found.summary["approximate"] == {
            "index": changes["index"], "probes": probes, "recall": 1.0, "sampled_queries": NUM_QUERIES}  # fmt: skip

    def test_one_that_misses_some_says_how_many(self, request_of):
        summary = curate(request_of(index="IVF2,Flat", probes=1, size=25))
        recall = CuratedSet.open("curated").summary["approximate"]["recall"]
        assert 0.5 < recall < 1
        said = f"IVF2,Flat with 1 probe finds {100 * recall:.1f} % of the exact neighbours (of 6 queries)"
        assert f"  approximate {said}\n" in str(summary)
        told = review(ReviewConfig(curated=("curated",)))
        assert f"  approximate {said}\n" in str(told)
        assert told.sets[0].approximate == said

    def test_is_the_same_however_often_it_is_gone_on_with(self, request_of, tmp_path, monkeypatch):
        config = {"index": "IVF2,Flat", "probes": 1, "size": 25}
        curate(request_of(**config))
        whole = bytes_of(tmp_path / "curated")
        (tmp_path / "curated/curated.json").unlink()
        with monkeypatch.context() as patch:
            patch.setattr("reinforce.curate.approximate_searches.ApproximateIndex", _stop)  # it is not made again
            curate(request_of(**config, resume=True))
        assert bytes_of(tmp_path / "curated") == whole
        index, *answers = sorted((tmp_path / "curated/search").iterdir(), key=lambda path: path.suffix)
        assert (index.name, len(answers)) == ("approximate.index", 1)
        for damaged in (answers, [index, *answers]):  # the index is looked at where an answer lacks
            for path in damaged:
                data = bytearray(path.read_bytes())
                data[len(data) // 3] ^= 1
                path.write_bytes(data)
            curate(request_of(**config, resume=True))
            assert bytes_of(tmp_path / "curated") == whole

    def test_is_searched_again_by_the_index_that_is_kept(self, request_of, tmp_path, monkeypatch):
        config = {"index": "IVF2,Flat", "probes": 1, "size": 25}
        curate(request_of(**config))
        whole = bytes_of(tmp_path / "curated")
        for path in ((tmp_path / "curated/curated.json"), *(tmp_path / "curated/search").glob("*.npz")):
            path.unlink()
        monkeypatch.setattr("reinforce.curate.approximate.ApproximateIndex._train", _stop)
        curate(request_of(**config, resume=True))
        assert bytes_of(tmp_path / "curated") == whole

    @pytest.mark.parametrize(
        ("before", "after"),
        [({}, {"index": "Flat"}), ({"index": "IVF4,Flat"}, {}), ({"index": "IVF4,Flat"}, {"index": "IVF4,SQ8"})],
    )
    def test_is_no_continuation_of_another_search(self, request_of, before, after):
        curate(request_of(**before))
        with pytest.raises(UsageError, match="begun with another index"):
            curate(request_of(**after, resume=True))

    def test_probes_are_part_of_what_was_asked(self, request_of):
        curate(request_of(index="IVF4,Flat"))
        curate(request_of(index="IVF4,Flat", probes=4, resume=True))
        with pytest.raises(UsageError, match="begun with another probes:"):
            curate(request_of(index="IVF4,Flat", probes=3, resume=True))

    @pytest.mark.parametrize(
        ("changes", "words"),
        [({"probes": 4}, "--probes is of --index"), ({"index": "IVF4,Flat", "probes": 0}, "--probes must be at least"),
         ({"index": "Flat", "shard": "1/2"}, "--shard divides the exact search"),
         ({"index": "Flat", "engine": "ray"}, "--engine ray divides the exact search"),
         ({"index": "Flat", "strategy": "best-matches"}, "--strategy best-matches does not ask for"),
         ({"index": "nonsense"}, "--index nonsense is nothing that faiss makes"),
         ({"index": "IVF100,Flat"}, "--index IVF100,Flat cannot be trained on 47 vectors"),
         ({"index": "IVF8,Flat", "probes": 1, "size": 40}, "proposes fewer than")],
    )  # fmt: skip
    def test_refusals_leave_nothing_behind(self, request_of, changes, words):
        with pytest.raises(UsageError, match=words):
            curate(request_of(**changes))
        assert not Path("curated").exists()

    def test_without_faiss(self, request_of, monkeypatch):
        monkeypatch.setitem(sys.modules, "faiss", None)
        with pytest.raises(UsageError, match=r"^--index needs faiss-cpu: pip install 'reinforce-vision\[curate\]'$"):
            curate(request_of(index="Flat"))
        assert not Path("curated").exists()


class TestAgain:
    def test_resume_of_a_finished_set_changes_nothing(self, request_of):
        curate(request_of())
        before = written_at(Path(request_of().out))
        curate(request_of(resume=True))
        assert written_at(Path(request_of().out)) == before

    def test_resume_goes_on_behind_a_kill(self, request_of, tmp_path):
        curate(request_of())
        whole = bytes_of(tmp_path / "curated")
        for lost in ("curated.json", "map.npz", "manifest.jsonl"):
            (tmp_path / "curated" / lost).unlink()
        (tmp_path / "curated" / "images" / "00000.tar").unlink()
        (tmp_path / "curated" / ".images-0000").mkdir()
        with pytest.raises(ReinforceError, match="unfinished"):
            CuratedSet.open(tmp_path / "curated")
        curate(request_of(resume=True))
        assert bytes_of(tmp_path / "curated") == whole

    @pytest.mark.parametrize("damaged", ["images/00000.tar", "manifest.jsonl", "map.npz", "curated.json"])
    def test_resume_mends_a_damaged_set(self, request_of, tmp_path, damaged):
        curate(request_of())
        whole = bytes_of(tmp_path / "curated")
        path = tmp_path / "curated" / damaged
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        if damaged == "manifest.jsonl":
            with pytest.raises(DataError, match=r"not as it was written: type .* --resume"):
                CuratedSet.open(tmp_path / "curated")
        curate(request_of(resume=True))
        assert bytes_of(tmp_path / "curated") == whole
        path.unlink()
        curate(request_of(resume=True))
        assert bytes_of(tmp_path / "curated") == whole

    def test_resume_of_another_request_says_what_differs(self, request_of):
        curate(request_of())
        with pytest.raises(UsageError, match="begun with another size, seed"):
            curate(request_of(resume=True, size=5, seed=9))

    def test_parts_of_the_search_join_one_set(self, request_of, tmp_path):
        curate(request_of(out="whole"))
        part = curate(request_of(out="parts", shard="1/2"))
        assert "next: type the same command" in str(part)
        assert part.to_json() == {"path": "parts", "shard": "1/2", "status": "unfinished"}
        assert curate(request_of(out="parts", shard="2/2")).items == SIZE
        assert bytes_of(tmp_path / "parts") == bytes_of(tmp_path / "whole")

    def test_a_part_that_is_done_ends_well(self, request_of, stores, task, encoders, capsys):
        """A scheduler takes another exit status for a failure."""
        argv = ["curate", "--gallery", stores["wholes"], "--query", str(task), "--shots", "2", "--size", "9",
                "--encoder", encoders[0], "--encoder", encoders[1], "--quiet"]  # fmt: skip
        for shard, said in (("2/2", "part 2/2 of the search is done"), ("1/2", "curated: 9 items")):
            assert run_group(command, [*argv, "--shard", shard]) == 0
            assert said in capsys.readouterr().out

    def test_overwrite_starts_again(self, request_of):
        curate(request_of())
        summary = curate(request_of(overwrite=True, size=5))
        assert summary.items == 5
        assert not [path.name for path in Path().iterdir() if "replaced" in path.name]

    def test_what_is_to_be_replaced_stays_until_the_new_set_is_there(self, request_of, monkeypatch):
        curate(request_of())
        before = bytes_of(Path("curated"))
        with pytest.raises(UsageError, match="or less"):
            curate(request_of(size=1000, overwrite=True))
        assert bytes_of(Path("curated")) == before
        with monkeypatch.context() as patch:
            patch.setattr("reinforce.curate.curation.write_set", _stop)
            with pytest.raises(KeyboardInterrupt):
                curate(request_of(size=5, overwrite=True))
        with pytest.raises(UsageError, match="or less"):
            curate(request_of(size=1000, overwrite=True))
        assert bytes_of(Path("curated")) == before

    def test_a_set_that_another_command_works_on_is_not_replaced(self, request_of, monkeypatch):
        def replace(*args):
            curate(request_of(size=5, overwrite=True))

        with monkeypatch.context() as patch:
            patch.setattr("reinforce.curate.curation.write_set", replace)
            with pytest.raises(UsageError, match="another command curates into"):
                curate(request_of())
        assert curate(request_of(resume=True)).items == SIZE

    def test_what_killed_commands_left_goes_with_the_end(self, request_of):
        curate(request_of())
        (folder,) = {path.parent for path in Path("curated/search").rglob("units/*")}
        left = [folder / ".tmp-1", Path("curated/.tmp-manifest.jsonl-2")]
        for path in left:
            path.touch()
        with working(Path("curated")):  # what another command has just begun looks the same
            curate(request_of(resume=True))
            assert all(path.exists() for path in left)
        curate(request_of(resume=True))
        assert not any(path.exists() for path in left)


def _stop(*args):
    raise KeyboardInterrupt


class TestRefuses:
    def test_a_size_out_of_reach_names_the_largest(self, request_of):
        with pytest.raises(UsageError, match=r"type --size (\d+) or less") as refused:
            curate(request_of(size=1000))
        largest = int(str(refused.value).rpartition("--size ")[2].split()[0])
        assert curate(request_of(size=largest)).items == largest
        with pytest.raises(UsageError, match=f"--size {largest} or less"):
            curate(request_of(size=largest + 1, overwrite=True))

    @pytest.mark.parametrize(
        ("changes", "words"),
        [({"query": None}, "--query DATA"), ({"size": 0}, "--size"), ({"max_similarity": 2.0}, "--max-similarity"),
         ({"strategy": "text"}, "no text half"), ({"encoder": ("one",)}, "2 encoders"),
         ({"gallery": "nowhere.zarr"}, "nowhere.zarr"), ({"decisions": "none.csv", "decontaminate": "."}, "none.csv"),
         ({"overwrite": True, "resume": True}, "--overwrite")],
    )  # fmt: skip
    def test_requests(self, request_of, changes, words):
        with pytest.raises(ReinforceError, match=words):
            curate(request_of(**changes))

    def test_what_is_no_curated_set(self, request_of, tmp_path):
        (tmp_path / "curated").mkdir()
        (tmp_path / "curated" / "mine.txt").write_text("mine")
        for changes in ({}, {"overwrite": True}):
            with pytest.raises(UsageError, match="not a curated set"):
                curate(request_of(**changes))

    def test_encoders_of_other_weights(self, request_of, encoders):
        with pytest.raises(UsageError, match="other weights"):
            curate(request_of(encoder=tuple(encoders[::-1])))

    def test_a_gallery_whose_images_are_others_now(self, request_of, images, tmp_path):
        shutil.copytree(images, tmp_path / "web")
        names = sorted(path.relative_to(tmp_path / "web") for path in (tmp_path / "web" / "red").iterdir())
        for name in names:
            (tmp_path / "web" / name).write_bytes((images / "grey" / "00.png").read_bytes())
        with pytest.raises(TransferMismatchError, match="changed since"):
            curate(request_of(transfer=str(tmp_path / "web"), size=30))
        (tmp_path / "web" / "red" / "00.png").unlink()
        with pytest.raises(DataError):
            curate(request_of(transfer=str(tmp_path / "web"), overwrite=True))


def test_a_set_lies_beside_the_images_that_it_is_made_of(request_of, images, task):
    for folder in (images, task):
        with pytest.raises(UsageError, match=r"curated lies in .*: type --out beside it"):
            curate(request_of(out=str(folder / "curated")))
        assert not (folder / "curated").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_of_two_that_end_at_once_one_writes(request_of, made):
    """As parts of a search may: the second would take away the images that the first had just put there."""
    whole = bytes_of(made(out="alone").path)
    config = request_of(out="both")
    first = made(out="both")
    (first.path / "curated.json").unlink()
    with held_elsewhere(first.path) as holder, ThreadPoolExecutor(1) as pool:
        second = pool.submit(curate, replace(config, resume=True))
        with pytest.raises(TimeoutError):
            second.result(3)
        assert not (first.path / "curated.json").exists()
        holder.stdin.close()
        second.result(60)
    assert bytes_of(first.path) == whole


def test_the_command_prints_json_and_what_to_type_next(request_of, stores, task, encoders, capsys):
    argv = ["curate", "--gallery", stores["wholes"], "--query", str(task), "--shots", "2", "--size", "9", "--encoder",
            encoders[0], "--encoder", encoders[1], "--quiet"]  # fmt: skip
    assert run_group(command, [*argv, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_queries"] == NUM_QUERIES
    assert run_group(command, argv) == 0
    assert "reinforce build --teacher NAME --transfer curated" in capsys.readouterr().out
    assert run_group(command, argv) == 2
    assert "curated exists: it is complete; type --resume" in capsys.readouterr().err
