"""The card of a store: YAML for the Hub, Markdown for people, Croissant for catalogs, whatever names it has."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import mlcroissant
import numpy as np
import pytest
import yaml
from hostile_stores import forge
from make_golden import STORES
from make_golden_card import FOLDER, HERE, ORIGIN, golden_card
from markdown_it import MarkdownIt
from tiny_stores import build, build_at, contents_of

from reinforce.card_text import MAX_TEXT
from reinforce.licences import Licences
from reinforce.store.canonical import canonical_json, sha256_hex
from reinforce.store.card import card_objects
from reinforce.store.card.readme import size_category
from reinforce.store.codecs import Int8Codec
from reinforce.store.objects import LocalObjects
from reinforce.store.reader import Store
from reinforce.store.schema import CARD
from reinforce.store.verify import verify

pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")
"""Of what mlcroissant parses with."""
GOLDEN = HERE / "golden-format-1"
HUB_FIELDS = {"license", "license_name", "pretty_name", "task_categories", "size_categories", "annotations_creators",
              "source_datasets", "tags", "viewer"}  # fmt: skip
HOSTILE = {
    "line ends": "a\n---\nlicense: mit\n# heading\r\n",
    "quotes": '"\'\\"',
    "yaml": "{a: [b]} # !!python/object &x *x | > % @",
    "markdown": "**b** [l](http://x) ![i](y) <img src=x onerror=alert(1)> https://x.org www.x.org",
    "backticks": "` `` ``` ~~~",
    "a backtick": "`",
    "spaces": "   ",
    "nothing": "",
    "surrogate": "\udcff.png",
    "hidden": "a\u202eb\u200bc\x00d\x1b[31m\U000e0041",
    "braces": "{{ 7 * 7 }} {% raw %} ${x} }, note = {",
    "long": "x" * 10_000,
    "letters": "élan 猫 🐈",
    "json": '", "license": "mit", "x": "',
}


def front_matter(card: dict[str, bytes]) -> dict[str, object]:
    _, matter, _ = card["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(matter)


def body(card: dict[str, bytes]) -> str:
    return card["README.md"].decode().split("---\n", 2)[2]


def structure(text: str) -> list[str]:
    """The kinds of everything but text, code and what they stand in: what a name could have added."""
    tokens = [token for block in MarkdownIt("js-default").parse(text) for token in (block, *(block.children or ()))]
    return [token.type for token in tokens if token.type not in ("text", "code_inline", "softbreak", "inline")]


def hostile_card(name: str) -> dict[str, bytes]:
    return golden_card(
        teacher=dict.fromkeys(ORIGIN["teacher"], name) | {"license": name or "none"},
        transfer={"name": name, "digest": name, "license": name or "none", "shards": []},
        policy={"name": name, "version": name, "size_px": 8},
        class_names=[name] * 5,
        environment={name: name},
    )


class TestBytes:
    def test_are_those_that_were_looked_at(self):
        """After a change of wording: python tests/store/make_golden_card.py."""
        for path, data in golden_card().items():
            assert data == (FOLDER / path).read_bytes(), path

    def test_a_finished_store_lists_its_card(self, finished_store):
        store = Store.open(finished_store)
        assert set(CARD) < set(store.manifest.objects)
        card = card_objects(store.plan, store.codec, store.manifest)
        assert card == {path: (finished_store / path).read_bytes() for path in CARD}

    def test_it_names_the_digest_that_the_manifest_has_without_it(self, finished_store):
        manifest = json.loads((finished_store / "manifest.json").read_bytes())
        del manifest["digest"]
        for path in CARD:
            del manifest["objects"][path]
        digest = sha256_hex(canonical_json(manifest))
        assert digest in (finished_store / "README.md").read_text()
        assert json.loads((finished_store / "croissant.json").read_bytes())["identifier"] == f"sha256:{digest}"

    def test_a_store_of_another_certificate_has_another_card(self, tmp_path, finished_store):
        build_at(tmp_path / "x.zarr", Int8Codec())
        for path in CARD:
            assert (tmp_path / "x.zarr" / path).read_bytes() != (finished_store / path).read_bytes()


class TestFrontMatter:
    def test_has_fields_of_the_hub_only(self):
        assert front_matter(golden_card()).keys() <= HUB_FIELDS

    def test_says_what_the_plan_says(self):
        assert front_matter(golden_card()) == {
            "license": ["apache-2.0", "cc-by-sa-4.0", "gpl-2.0"],
            "pretty_name": "Logits of dinov2-ft for cc3m",
            "task_categories": ["image-classification"],
            "size_categories": ["n<1K"],
            "annotations_creators": ["machine-generated"],
            "source_datasets": ["cc3m"],
            "tags": ["knowledge-distillation", "dataset-reinforcement", "zarr", "vit_small_patch14_dinov2"],
            "viewer": False,
        }

    @pytest.mark.parametrize(("store", "task"), [("maps", "image-segmentation"), ("int8", "image-classification"),
                                                 ("global-features", "image-feature-extraction"),
                                                 ("patch-features", "image-feature-extraction")])  # fmt: skip
    def test_the_task_is_that_of_the_target(self, store, task):
        assert front_matter(golden_card(store))["task_categories"] == [task]

    @pytest.mark.parametrize(("count", "word"), [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (9_999, "1K<n<10K"),
                                                 (10_000, "10K<n<100K"), (3_000_000, "1M<n<10M"),
                                                 (1 << 27, "100M<n<1B")])  # fmt: skip
    def test_sizes_are_in_the_hubs_words(self, count, word):
        assert size_category(count) == word


@dataclass(frozen=True)
class Expect:
    weights: str
    images: str
    hub: tuple[str, ...]
    unknown: tuple[str, ...] = ()


@pytest.mark.parametrize(
    "expect",
    [
        Expect("MIT", "MIT", ("mit",)),
        Expect("Apache-2.0", "CC-BY-4.0, MIT", ("apache-2.0", "cc-by-4.0", "mit")),
        Expect("GPL-3.0-or-later", "GPL-3.0-only", ("gpl-3.0",)),
        Expect("MIT", "unknown", ("unknown",), ("the transfer set's images",)),
        Expect("unknown", "public domain", ("unknown",), ("the teacher's weights",)),
        Expect("MIT, unknown", "", ("unknown",), ("the teacher's weights", "the transfer set's images")),
        Expect("MIT", "public domain", ("other",)),
        Expect("dinov3-license", "MIT", ("other",)),
    ],
    ids=lambda expect: f"{expect.weights} and {expect.images}",
)
def test_licences_as_the_hub_knows_them(expect):
    licences = Licences.of_plan({"teacher": {"license": expect.weights}, "transfer": {"license": expect.images}})
    assert (licences.hub, licences.unknown) == (expect.hub, expect.unknown)


def test_a_licence_that_the_hub_does_not_know_has_a_name():
    transfer = ORIGIN["transfer"] | {"license": "Our Terms (2026)"}
    matter = front_matter(golden_card(transfer=transfer))
    assert (matter["license"], matter["license_name"]) == (["other"], "apache-2.0-and-our-terms-2026")


class TestMarkdown:
    @pytest.mark.parametrize("store", STORES)
    def test_zarr_alone_reads_what_the_card_tells_it_to(self, store, monkeypatch):
        """And these arrays decode to what the store's own reader gives."""
        found = Store.open(GOLDEN / store)
        (source,) = re.findall(r"```python\n(.*?)```", body(golden_card(store)), re.S)
        monkeypatch.chdir(GOLDEN)
        names: dict[str, np.ndarray] = {}
        exec(source.replace("STORE.zarr", store), names)
        parts = {}
        for name, array in found.target_arrays.items():
            values = names[name] if array.spec.per_row else names[name][None]
            parts[name] = values[..., : array.spec.shape[-1]] if array.spec.grouped else values
        assert np.array_equal(found.codec.decode(parts), found.read_targets(0, 0))
        assert names["has_target"].tolist() == (found.states()[:4] == 0).tolist()

    @pytest.mark.parametrize("store", ["klt", "maps", "patch-features"])
    def test_a_store_shows_its_certificate(self, store):
        certificate = Store.open(GOLDEN / store).manifest.certificate
        mean = next(value for name, value in certificate.items() if name.endswith("_mean"))
        assert f"| {mean:.3g} |" in body(golden_card(store))


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
class TestHostileNames:
    def test_yaml_reads_them_as_text(self, name):
        matter = front_matter(hostile_card(name))
        assert matter.keys() <= HUB_FIELDS
        (source,) = matter["source_datasets"]
        assert source == name or "\\u" in source or len(source) == MAX_TEXT

    def test_markdown_reads_them_as_code(self, name):
        assert structure(body(hostile_card(name))) == structure(body(hostile_card("plain")))

    def test_nothing_hidden_is_left(self, name):
        text = hostile_card(name)["README.md"].decode()
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\ud800-\udfff]", text)

    def test_croissant_reads_them(self, name, tmp_path):
        path = tmp_path / "croissant.json"
        path.write_bytes(hostile_card(name)["croissant.json"])
        assert mlcroissant.Dataset(str(path)).metadata.name


class TestCroissant:
    def test_it_is_valid_and_hashes_what_it_names(self, finished_store):
        metadata = mlcroissant.Dataset(str(finished_store / "croissant.json")).metadata
        assert not metadata.ctx.issues.errors
        assert metadata.license == ["unknown"]
        files = {file.content_url: file.sha256 for file in metadata.file_objects}
        assert files == {path: sha256_hex((finished_store / path).read_bytes()) for path in files}
        assert files.keys() == {"plan.json", "units.json", "probes.json"}

    def test_its_certificate_is_exact(self, finished_store):
        measured = json.loads((finished_store / "croissant.json").read_bytes())["variableMeasured"]
        found = {entry["name"]: entry["value"] for entry in measured}
        assert found == Store.open(finished_store).manifest.certificate

    def test_it_says_what_the_store_is_made_from(self):
        teacher, transfer = json.loads(golden_card()["croissant.json"])["isBasedOn"]
        assert (teacher["name"], teacher["license"]) == ("dinov2-ft", "Apache-2.0")
        assert (transfer["name"], transfer["license"]) == ("cc3m", "CC-BY-SA-4.0, GPL-2.0-only")


class TestDamage:
    @pytest.mark.parametrize("path", CARD)
    @pytest.mark.parametrize("change", ["edited", "gone", "a link"])
    def test_it_is_found_hinders_no_reader_and_is_repaired_in_place(self, store_copy, finished_store, path, change):
        card = store_copy / path
        if change == "edited":
            card.write_bytes(card.read_bytes().replace(b"tiny", b"tony"))
        else:
            card.unlink()
        if change == "a link":
            card.symlink_to("plan.json")
        assert [problem.split(":")[0] for problem in verify(store_copy, "sampled").problems] == [path]
        assert Store.open(store_copy).num_samples == 10
        assert verify(store_copy, "sampled", repair=True).repaired == [f"wrote {path} anew"]
        assert contents_of(store_copy) == contents_of(finished_store)

    def test_one_of_another_version_is_left(self, store_copy):
        forge(store_copy, {"README.md": b"# as an earlier version worded it\n"})
        (store_copy / "README.md").write_bytes(b"edited")
        before = contents_of(store_copy)
        (line,) = verify(store_copy, "full", repair=True).repaired
        assert "another version" in line
        assert contents_of(store_copy) == before

    def test_with_a_damaged_unit_the_build_writes_both(self, store_copy, finished_store):
        for path in ("README.md", "targets/values/c/0/1/0"):
            (store_copy / path).write_bytes(b"x")
        verify(store_copy, "full", repair=True)
        assert build(LocalObjects(store_copy)) == [1]
        assert contents_of(store_copy) == contents_of(finished_store)
