"""`reinforce review`: what a curated set holds, and a page on which nothing runs but the export of decisions."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from curated_folders import SUMMARY, Brought, write_images, write_set

from reinforce.command import make_command
from reinforce.curate.curated import DECISIONS, ClusterRecord, CuratedSet, LeakRecord
from reinforce.curate.decisions import read_decisions, write_decisions
from reinforce.curate_pages import leak_review
from reinforce.curate_pages.contribution import Contribution
from reinforce.curate_pages.page import write_review_page
from reinforce.errors import DataError, MissingDataError, OutputExistsError, UsageError
from reinforce.review import ReviewConfig, review

FILES = ('"><img src=x onerror=alert(1)>.png', "<script>alert(2)<.png", "' onclick='alert(3).png", "{{ 7 * 7 }}.png",
         '=1+cmd, "x"\n\r.png', "\u202egnp.png", "</script><svg onload=alert(4)>.png", "\\n\\.png")  # fmt: skip
"""Keys that are not harmless."""
GALLERY = (*FILES, *(f"folder/{number:02d}.png" for number in range(12)))
QUERIES = tuple(f"query-{number}.png" for number in range(4))
TARGETS = tuple(f"target-{number}<b>.png" for number in range(6))
BROUGHT = (
    *(Brought(key, QUERIES[0], rank, (4, 8, 32, 24)) for rank, key in enumerate(GALLERY[:5], start=1)),
    *(Brought(key, QUERIES[1], rank, (0, 0, 48, 16)) for rank, key in enumerate(GALLERY[5:8], start=1)),
    Brought(GALLERY[8], QUERIES[2], 2, (10, 10, 20, 20)),
)
CLUSTERS = (
    ClusterRecord(kept=GALLERY[8], members=(GALLERY[8], GALLERY[12]), weakest=(GALLERY[8], GALLERY[12]),
                  similarity=0.993),
    ClusterRecord(kept=FILES[0], members=(FILES[0], GALLERY[9], GALLERY[10]), weakest=(GALLERY[9], GALLERY[10]),
                  similarity=0.981),
)  # fmt: skip
LEAKS = tuple(
    LeakRecord(key=key, max_cosine=0.96 + number / 1000, nearest=tuple((name, 0.97) for name in TARGETS[:5]))
    for number, key in enumerate(FILES)
)


class Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(path.read_bytes().decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    def count(self, tag: str, **wanted: str) -> int:
        return sum(found == tag and wanted.items() <= attributes.items() for found, attributes in self.elements)

    def exported(self) -> str:
        """What the script writes without a click, by its own rule."""
        around = zip(self.values("data-before"), self.chosen(), self.values("data-after"), strict=True)
        others = self.values("data-others")[0]
        lines = [*self.values("data-header"), *map("".join, around), *(others.split("\n") if others else []), ""]
        return "\ufeff" + "\r\n".join(lines)

    def chosen(self) -> list[str]:
        return [attributes["value"] for tag, attributes in self.elements if tag == "input" and "checked" in attributes]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("review")
    for seed, (name, keys) in enumerate({"gallery": GALLERY, "queries": QUERIES, "targets": TARGETS}.items()):
        write_images(root / name, keys, seed)
    write_set(root / "set", root / "gallery", BROUGHT, queries=root / "queries", query_keys=QUERIES, clusters=CLUSTERS,
              leaks=LEAKS)  # fmt: skip
    drawn = [Brought(one.key, None, None, one.crop) for one in BROUGHT[3:]]
    write_set(root / "drawn", root / "gallery", drawn, summary={**SUMMARY, "strategy": "random", "num_queries": 0})
    words = [Brought(key, "sea <b>lake</b>", rank) for rank, key in enumerate(GALLERY[:6], start=1)]
    write_set(root / "words", root / "gallery", words, summary={**SUMMARY, "strategy": "text", "num_queries": 3})
    return root


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def written(root: Path, html: Path, *sets: str, has_images: bool = True) -> Page:
    places = {"transfer": str(root / "gallery"), "target_data": str(root / "targets")} if has_images else {}
    review(ReviewConfig(curated=tuple(str(root / name) for name in sets), html=str(html), **places))
    return Page(html)


def review_page() -> Path:
    """Of the set in the working folder, by what is known of other places."""
    review(ReviewConfig(curated=("set",), html="page.html"))
    return Path("page.html")


@pytest.fixture(scope="module")
def page(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(root / "home"))
        return written(root, tmp_path_factory.mktemp("page") / "page.html", "set")


class TestSummary:
    def test_a_few_lines_say_what_the_set_holds(self, root: Path) -> None:
        text = str(review(ReviewConfig(curated=(str(root / "set"),))))
        for words in ("9 items by query-balanced, k = 4, and 4 query images", "gallery, by first, second",
                      "0 to 5 items a query, median 2 (1 brought none)", "3 left out of 2 clusters",
                      f"{len(FILES)} possible ones: 0 leaks, 0 kept, {len(FILES)} undecided", "next: reinforce review"):
            assert words in text  # fmt: skip

    def test_json_has_the_first_sets_figures_and_the_others(self, root: Path) -> None:
        outcome = review(ReviewConfig(curated=tuple(str(root / name) for name in ("set", "drawn")))).to_json()
        assert json.loads(json.dumps(outcome)) == outcome
        assert outcome["contribution"] == {"queries": 4, "min": 0, "median": 2.0, "max": 5, "without": 1}
        assert outcome["others"][0]["contribution"] is None
        assert outcome["overlaps"] == [{"first": "set", "second": "drawn", "shared": 6, "jaccard": 6 / 9}]

    def test_the_command_takes_several_sets(self, root: Path) -> None:
        command = make_command("review", review)
        values = command.make_context("review", [str(root / "set"), "other", "--html", "x.html"]).params
        assert values["curated"] == (str(root / "set"), "other")
        assert command.main([str(root / "set"), "--json"], standalone_mode=False) == 0

    def test_class_names_that_brought_nothing_are_counted(self, root: Path) -> None:
        found = Contribution.of(CuratedSet.open(root / "words"))
        assert found is not None
        assert (found.num_queries, found.num_without, dict(found.counts)) == (3, 2, {"sea <b>lake</b>": 6})


class TestRefusals:
    @pytest.mark.parametrize("name", ["images", "nowhere"])
    def test_a_folder_of_something_else_is_not_called_unfinished(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        with pytest.raises(MissingDataError, match=r"(no curated set|not there): type the --out of a"):
            review(ReviewConfig(curated=(str(tmp_path / name),)))

    def test_an_unfinished_set(self, root: Path, tmp_path: Path) -> None:
        shutil.copytree(root / "set", tmp_path / "half")
        (tmp_path / "half" / "curated.json").unlink()
        (tmp_path / "half" / "request.json").write_text("{}")
        with pytest.raises(MissingDataError, match=r"unfinished: type the same reinforce curate with --resume$"):
            review(ReviewConfig(curated=("half",), html="page.html"))
        assert not Path("page.html").exists()

    def test_sets_of_different_galleries(self, root: Path) -> None:
        summary = {**SUMMARY, "gallery": {"name": "other", "digest": "f" * 64}}
        write_set(Path("other"), root / "gallery", BROUGHT[:2], summary=summary)
        with pytest.raises(UsageError, match=r"of different galleries \(gallery, other\): type sets of one gallery$"):
            review(ReviewConfig(curated=(str(root / "set"), "other")))

    def test_a_page_that_is_there_and_a_typed_gallery_that_is_not(self, root: Path) -> None:
        Path("page.html").write_text("mine")
        with pytest.raises(OutputExistsError, match="--overwrite"):
            review(ReviewConfig(curated=(str(root / "set"),), html="page.html"))
        with pytest.raises(MissingDataError):
            review(ReviewConfig(curated=(str(root / "set"),), html="new.html", transfer="./gone"))
        with pytest.raises(UsageError, match="no curated set"):
            ReviewConfig(curated=())

    def test_a_target_dataset_that_was_not_looked_at(self, root: Path, tmp_path: Path) -> None:
        write_set(tmp_path / "plain", root / "gallery", BROUGHT, summary={**SUMMARY, "decontamination": None})
        config = ReviewConfig(curated=("plain",), html="page.html", target_data=str(root / "targets"))
        with pytest.raises(UsageError, match=r"plain was compared with no target dataset .*leave out --target-data"):
            review(config)
        assert not Path("page.html").exists()

    def test_decisions_that_say_something_else(self, root: Path) -> None:
        shutil.copytree(root / "set", "set")
        Path("set", DECISIONS).write_text("key,decision\nx,perhaps\n")
        with pytest.raises(DataError, match=r"line 2.*no decision"):
            review(ReviewConfig(curated=("set",)))


class TestSafety:
    def test_only_the_script_of_the_policys_hash_runs_and_nothing_is_loaded(self, page: Page, root: Path) -> None:
        assert page.count("script") == 1
        assert not {tag for tag, _ in page.elements} & {"link", "iframe", "object", "embed", "base", "form", "b"}
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
        assert all(address.startswith(("data:image/", "#")) for address in page.values("src") + page.values("href"))
        (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
        found = re.fullmatch(r"default-src 'none'; script-src 'sha256-(\S+)'; img-src data:; .*", policy)
        assert found is not None
        code = str(leak_review.EXPORT_SCRIPT.code)
        assert code in page.text
        assert base64.b64decode(found[1]) == hashlib.sha256(code.encode()).digest()
        assert "eval" not in code
        assert "innerHTML" not in code

    @pytest.mark.parametrize("key", FILES)
    def test_a_hostile_key_is_text(self, key: str, page: Page) -> None:
        assert key.replace("\r", "\n") in page.text.replace("\r", "\n")

    def test_a_set_without_leaks_runs_nothing(self, root: Path) -> None:
        page = written(root, Path("page.html"), "words")
        assert page.count("script") == 0
        assert "script-src" not in "".join(page.values("content"))
        assert "sea <b>lake</b>" in page.text


class TestContents:
    def test_sections(self, page: Page) -> None:
        assert set(page.values("id")) >= {"settings", "contribution", "retrieved", "duplicates", "leaks", "map"}
        assert "strategies" not in page.values("id")
        assert page.count("svg") == 3  # contribution, ranks, map
        for words in ("a" * 64, "4 queries: 0 to 5 items a query", "rank 3", "0.900 / 0.800", "first / second"):
            assert words in page.text

    def test_every_crop_is_beside_its_original_with_its_place(self, page: Page) -> None:
        boxes = [style for style in page.values("style") if style.startswith("left:")]
        assert len(boxes) == 9
        width = 64  # of the first image
        assert boxes[0] == f"left: {400 / width:.2f}%; top: 12.50%; width: {3200 / width:.2f}%; height: 37.50%"

    def test_an_original_that_is_another_image_is_not_shown(self, root: Path) -> None:
        shutil.copytree(root / "gallery", "gallery")
        shutil.copy(Path("gallery", GALLERY[10]), Path("gallery", GALLERY[8]))
        review(ReviewConfig(curated=(str(root / "set"),), html="page.html", transfer="gallery"))
        assert sum(style.startswith("left:") for style in Page(Path("page.html")).values("style")) == 8

    def test_the_largest_cluster_comes_first_and_the_kept_one_in_it(self, page: Page) -> None:
        assert page.text.index("weakest link 0.9810") < page.text.index("weakest link 0.9930")
        assert page.count("span", **{"class": "badge kept"}) == 2
        assert page.count("span", **{"class": "badge"}) == 4

    def test_without_the_gallery_the_page_has_keys_and_says_so(self, root: Path) -> None:
        page = written(root, Path("page.html"), "set", has_images=False)
        assert "gallery was not at hand" in page.text
        assert "target dataset was not at hand" in page.text
        assert page.count("img") == 9 + 4  # the set's own
        assert str(root) not in page.text

    @pytest.mark.parametrize("what", ["set", "gallery", "targets"])
    def test_a_tar_that_was_cut_off_is_called_damaged(self, root: Path, what: str) -> None:
        """And is not said to be gone: the images are there, but for what is behind the cut."""
        shutil.copytree(root / "set", "set")
        tar = Path("set/images/00000.tar")
        data = tar.read_bytes()
        if what == "set":
            tar.write_bytes(data[: len(data) // 2])
        else:
            Path("cut.tar").write_bytes(data[: len(data) // 2])
            name = {"gallery": "gallery", "targets": SUMMARY["decontamination"]["data"]}[what]  # type: ignore[index]
            Path("reinforce.toml").write_text(f'[data]\n{name} = {{ path = "cut.tar" }}\n')
        page = Page(review_page())
        expected = {"set": "The images of set are damaged: only their keys are shown. The same reinforce curate with "
                           "--resume writes them anew.",
                    "gallery": "The gallery could not be read when", "targets": "target dataset could not be read when"}
        assert expected[what] in page.text
        assert "not there" not in page.text
        assert page.count("img") == (0 if what == "set" else 9 + 4)

    def test_images_that_are_gone(self, root: Path) -> None:
        shutil.copytree(root / "set", "set")
        Path("set/images/00000.tar").unlink()
        assert "The images of set are not there: only their keys" in Page(review_page()).text

    def test_several_sets_side_by_side(self, root: Path) -> None:
        shutil.copytree(root / "set", "set")
        places = (str(root / "set"), "set", str(root / "drawn"), str(root / "words"))
        review(ReviewConfig(curated=places, html="page.html"))
        page = Page(Path("page.html"))
        for words in ("set and set (2)", "100.0 %", "66.7 %", "drawn", "A sample of each set"):
            assert words in page.text

    def test_an_approximate_set_says_so(self, root: Path, page: Page) -> None:
        found = {"index": "IVF64,Flat", "probes": 8, "recall": 0.9375, "sampled_queries": 50}
        write_set(Path("set"), root / "gallery", BROUGHT[:2], summary={**SUMMARY, "approximate": found})
        told = Page(review_page()).text
        for words in ("Approximate search", "IVF64,Flat", "part of the exact neighbours found", "0.9375"):
            assert words in told
            assert words not in page.text

    @pytest.mark.parametrize("summary", [{"format": 1}, {"format": 1, "gallery": None, "encoders": 3, "depth": "x"}])
    def test_a_summary_that_says_little(self, root: Path, summary: dict[str, object]) -> None:
        shutil.copytree(root / "set", "set")
        Path("set", "curated.json").write_text(json.dumps(summary))
        review(ReviewConfig(curated=("set",), html="page.html"))
        assert "9 items" in Page(Path("page.html")).text

    @pytest.mark.parametrize("break_it", ["gone", "pickled", "widths", "text"])
    def test_without_sound_vectors_there_is_no_map_but_a_page(self, root: Path, break_it: str) -> None:
        shutil.copytree(root / "set", "set")
        path, one = Path("set", "map.npz"), np.ones((3, 4), np.float16)
        kinds = {"pickled": {"query": np.array([{}]), "curated": one, "gallery": one},
                 "widths": {"query": one[:, :2], "curated": one, "gallery": one}}  # fmt: skip
        path.unlink()
        if break_it == "text":
            path.write_text("no zip")
        elif break_it in kinds:
            np.savez(path, **kinds[break_it])
        review(ReviewConfig(curated=("set",), html="page.html"))
        assert "No map: map.npz" in Page(Path("page.html")).text

    def test_without_scikit_learn_the_page_says_so(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
        page = written(root, Path("page.html"), "words")
        assert "pip install 'reinforce-vision[curate]'" in page.text


class TestLeakReview:
    def test_the_export_is_what_curate_writes(self, root: Path, page: Page, tmp_path: Path) -> None:
        write_decisions(tmp_path / "expected.csv", LEAKS, {})
        assert page.exported().encode() == (tmp_path / "expected.csv").read_bytes()

    @pytest.mark.parametrize("limit", [2, 100])
    def test_earlier_decisions_are_kept(self, root: Path, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also those on what the page does not show, and on what is no possible leak any more."""
        monkeypatch.setattr(leak_review, "PICTURED", limit)
        shutil.copytree(root / "set", "set")
        decided = {FILES[0]: "leak", FILES[3]: "keep", "gone, \n.png": "leak"}
        write_decisions(Path("set", DECISIONS), LEAKS, decided)  # type: ignore[arg-type]
        write_review_page([CuratedSet.open("set")], Path("page.html"))
        page = Page(Path("page.html"))
        Path("exported.csv").write_bytes(page.exported().encode())
        assert read_decisions(Path("exported.csv")) == decided
        assert page.count("fieldset") == min(limit, len(LEAKS))
        assert Path("exported.csv").read_bytes().count(b"\r\n") == 1 + len(LEAKS) + 1

    def test_undecided_ones_come_first(self, root: Path) -> None:
        shutil.copytree(root / "set", "set")
        write_decisions(Path("set", DECISIONS), LEAKS, {FILES[-1]: "keep"})
        write_review_page([CuratedSet.open("set")], Path("page.html"))
        assert Page(Path("page.html")).chosen() == [""] * (len(LEAKS) - 1) + ["keep"]
        counts = review(ReviewConfig(curated=("set",))).to_json()["leaks"]
        assert counts == {"possible": len(LEAKS), "leak": 0, "keep": 1, "undecided": len(LEAKS) - 1}
