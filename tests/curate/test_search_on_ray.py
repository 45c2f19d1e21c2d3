"""`curate --engine ray` on a real cluster of two nodes: what a search without it finds, whatever is lost on the way."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from curate_data import png
from galleries import unit_rows

pytest.importorskip("ray")
if sys.platform != "linux":
    pytest.skip("looks for processes in /proc", allow_module_level=True)

from ray.cluster_utils import Cluster
from ray_clusters import (
    actors,
    cluster_of_two,
    connected_to,
    go_on,
    hold_in_the_middle,
    remove_in_the_middle,
    wait_for,
)

from reinforce.cli import command
from reinforce.command import run_group
from reinforce.curate.cluster_search import SearchTask, search_on_cluster
from reinforce.curate.curate import CurateConfig, CuratedSummary, CuratePart, curate
from reinforce.curate.embeddings import Vectors
from reinforce.curate.search import nearest
from reinforce.curate.search_job import SearchRequest, run_search
from reinforce.curate.stored import EmbeddingStore
from reinforce.embed import EmbedConfig, embed
from reinforce.engine.ray_actor import ActorTask, UnitActor
from reinforce.errors import BuildError, MissingExtraError, UsageError
from reinforce.job import Owner, Share
from reinforce.progress import Progress
from reinforce.store import LocalObjects, marker_path

NUM_IMAGES, NUM_SPANS = 256, 8
COUNT = 200
"""Neighbours: of more than six spans all that there is, so that every span is much work."""


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Cluster]:
    with cluster_of_two() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    with connected_to(shared_cluster) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def gallery(encoders: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of as many units as a small set is cut into."""
    folder = tmp_path_factory.mktemp("wide")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        (folder / f"images/{number:03d}.png").write_bytes(png(coarse.repeat(10, axis=0).repeat(10, axis=1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        embed(EmbedConfig(gallery=str(folder / "images"), encoder=tuple(encoders[:1]), batch_size=64, workers=0,
                          quiet=True, out=str(folder / "wide.zarr")))  # fmt: skip
    assert EmbeddingStore(folder / "wide.zarr").searched.num_units == NUM_SPANS
    return str(folder / "wide.zarr")


@pytest.fixture(autouse=True)
def at_home(gallery: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINFORCE_HOME", str(Path(gallery).parent / "home"))
    monkeypatch.chdir(tmp_path)


def curation(gallery: str, encoders: list[str], task: Path, **changes: object) -> CurateConfig:
    base = {"gallery": gallery, "query": str(task), "shots": 2, "size": 40, "encoder": tuple(encoders[:1]),
            "quiet": True}  # fmt: skip
    return CurateConfig(**base | changes)  # type: ignore[arg-type]


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Of a set, without what it keeps of searches."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and "search" not in path.parts}  # fmt: skip


class TestCurate:
    @pytest.mark.parametrize("strategy", ["query-balanced", "best-matches"])
    def test_the_set_is_that_of_one_process(
        self, cluster: Cluster, gallery: str, encoders: list[str], task: Path, strategy: str
    ) -> None:
        config = {"strategy": strategy}
        curate(curation(gallery, encoders, task, out="alone", **config))
        summary = curate(curation(gallery, encoders, task, out="together", engine="ray", **config))
        assert isinstance(summary, CuratedSummary)
        assert bytes_of(Path("together")) == bytes_of(Path("alone"))
        helpers = {json.loads(claim.read_text())["helper"] for claim in Path("together").rglob("claims/*.json")}
        assert helpers
        assert "" not in helpers  # this process

    def test_a_part_of_it_joins_parts_of_others(
        self, cluster: Cluster, gallery: str, encoders: list[str], task: Path
    ) -> None:
        curate(curation(gallery, encoders, task, out="alone"))
        part = curate(curation(gallery, encoders, task, out="parts", shard="1/2", engine="ray"))
        assert isinstance(part, CuratePart)
        assert len([*Path("parts").rglob("units/*.json")]) == NUM_SPANS // 2
        assert isinstance(curate(curation(gallery, encoders, task, out="parts", shard="2/2")), CuratedSummary)
        assert bytes_of(Path("parts")) == bytes_of(Path("alone"))


@pytest.fixture(scope="module")
def queries(gallery: str) -> Vectors:
    """So many that a span takes tenths of a second."""
    return unit_rows(np.random.default_rng(1), 12_000, EmbeddingStore(gallery).widths)


def request(gallery: str, queries: Vectors) -> SearchRequest:
    store = EmbeddingStore(gallery)
    return SearchRequest(strategy="query-balanced", queries_QD=queries, gallery=store.searched, count=COUNT,
                         gallery_digest=store.store.manifest.digest)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("loss", [pytest.param("an actor", marks=pytest.mark.long), "a machine"])
def test_what_is_lost_in_the_middle_is_searched_by_others(
    loss: str, cluster: Cluster, gallery: str, queries: Vectors, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, folder = request(gallery, queries), Path("search")

    def lose() -> None:
        if loss == "a machine":
            remove_in_the_middle(cluster, folder)
            return
        held = hold_in_the_middle(folder)
        os.kill(held[0], signal.SIGKILL)
        go_on(held)

    losing = threading.Thread(target=lose)
    losing.start()
    with Progress("search", asked.gallery.num_embedded, unit="items") as progress:
        search_on_cluster(LocalObjects(folder), asked, gallery, Share(), "cpu", progress)
    losing.join()
    assert progress.done == NUM_IMAGES
    err = capsys.readouterr().err
    assert err.count("search: lost an actor (") == 1
    found, expected = run_search(LocalObjects(folder), asked), nearest(queries, asked.gallery, COUNT)
    assert np.array_equal(found.items_Qk, expected.items_Qk)
    assert np.array_equal(found.scores_Qk, expected.scores_Qk)


def test_what_is_done_is_not_searched_again(cluster: Cluster, gallery: str, queries: Vectors) -> None:
    asked, objects = request(gallery, queries[:50]), LocalObjects("search")
    run_search(objects, asked, Share(0, 2))
    before = {span: objects.get(marker_path(span)) for span in range(0, NUM_SPANS, 2)}
    with Progress("search", NUM_IMAGES, quiet=True) as progress:
        search_on_cluster(objects, asked, gallery, Share(), "cpu", progress)
    assert progress.done == NUM_IMAGES
    assert all(objects.get(marker_path(span)) == data for span, data in before.items())
    assert len([*Path("search/claims").iterdir()]) == NUM_SPANS
    wait_for(lambda: not actors(), 60)


class TestRefusals:
    def test_ray_is_not_installed(
        self, gallery: str, encoders: list[str], task: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(MissingExtraError, match=r"--engine ray needs ray: pip install 'reinforce-vision\[ray\]'"):
            curate(curation(gallery, encoders, task, engine="ray"))
        assert not Path("curated").exists()

    def test_no_cluster(self, gallery: str, task: Path, capsys: pytest.CaptureFixture[str]) -> None:
        argv = ["curate", "--gallery", gallery, "--query", str(task), "--size", "9", "--engine", "ray"]
        assert run_group(command, [*argv, "--ray-address", "127.0.0.1:1"]) == 2
        assert capsys.readouterr().err == "reinforce: no Ray cluster answers at 127.0.0.1:1 (Connection refused)\n"
        assert not Path("curated").exists()

    def test_an_address_without_the_engine(self, gallery: str, encoders: list[str], task: Path) -> None:
        with pytest.raises(UsageError, match="--ray-address is of --engine ray"):
            curation(gallery, encoders, task, ray_address="auto")

    def test_a_machine_that_sees_another_search(self, gallery: str, queries: Vectors, tmp_path: Path) -> None:
        """As an actor there, but without a machine of its own."""
        task = SearchTask(objects=LocalObjects("search"), owner=Owner.here(), strategy="query-balanced",
                          queries_QD=queries[:9], count=COUNT, gallery=gallery, device="cpu")  # fmt: skip
        told = ActorTask(units=task, workers=0, request_sha256="0" * 64, folder=str(tmp_path), home=str(tmp_path))
        answer = UnitActor().open(told)
        assert isinstance(answer, BuildError)
        assert "search is not what the search has begun: type an --out that all machines" in str(answer)
