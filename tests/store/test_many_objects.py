"""Stores of very many objects, and of few that unpack to very much: bounded memory and time, measured from outside."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from hostile_stores import forge, sign
from tiny_stores import UNITS, plan_of

from reinforce.errors import CorruptStoreError
from reinforce.store.canonical import MAX_JSON_BYTES
from reinforce.store.codecs import Fp16Codec
from reinforce.store.layout import column_layout
from reinforce.store.schema import MAX_KEY_BYTES, MAX_ROWS, Schema

MEASURE = """
import json, resource, sys, time
from reinforce.errors import StoreError
from reinforce.store import Store, verify

before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
try:
    if sys.argv[1] == "open":
        Store.open(sys.argv[2])
        line = ""
    else:
        line = "\\n".join(verify(sys.argv[2], sys.argv[1]).problems[:3])
except StoreError as error:
    line = str(error)
mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
print(json.dumps({"line": line, "mib": mib, "seconds": time.monotonic() - started}))
"""


def measure(what, root):
    argv = [sys.executable, "-c", MEASURE, what, str(root)]
    return json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True).stdout)


@pytest.fixture
def num_objects(request):
    return 1_000_000 if request.config.getoption("--long") else 20_000


def fill(folder, count, prefix=""):
    folder.mkdir(exist_ok=True, parents=True)
    for number in range(count):
        (folder / f"{prefix}{number:07d}").touch()


class TestMoreThanListed:
    def test_extra_objects(self, store_copy, num_objects):
        fill(store_copy / "targets/values/c/0/9", num_objects)
        opened = measure("open", store_copy)
        assert "not in the manifest" in opened["line"]
        checked = measure("full", store_copy)
        assert checked["line"].count("not in the manifest") == 3
        assert max(opened["mib"], checked["mib"]) < 64
        assert opened["seconds"] < 2 + num_objects / 20_000

    def test_hidden_ones_are_passed_over(self, store_copy, num_objects):
        fill(store_copy, num_objects, ".tmp-")
        opened = measure("open", store_copy)
        assert opened["line"] == ""
        assert opened["mib"] < 64
        assert opened["seconds"] < 2 + num_objects / 20_000

    def test_folders_without_end(self, store_copy):
        deep = store_copy / "/".join(["a" * 200] * 18)
        deep.mkdir(parents=True)
        (deep / "x").touch()
        assert "not in the manifest" in measure("open", store_copy)["line"]


class TestManifests:
    def test_a_million_objects_are_not_parsed(self, store_copy):
        entry = b'"x%07d":{"bytes":0,"sha256":"' + b"0" * 64 + b'"}'
        data = b'{"objects":{' + b",".join(entry % number for number in range(1_000_000)) + b"}}"
        (store_copy / "manifest.json").write_bytes(data)
        opened = measure("open", store_copy)
        assert "over the limit" in opened["line"]
        assert opened["mib"] < 16
        assert opened["seconds"] < 2

    def test_as_many_as_are_allowed(self, store_copy):
        document = json.loads((store_copy / "manifest.json").read_bytes())
        count = (MAX_JSON_BYTES - 100_000) // 105
        document["objects"] |= {f"x{number:07d}": {"bytes": 0, "sha256": "0" * 64} for number in range(count)}
        sign(store_copy, document)
        opened = measure("open", store_copy)
        assert "missing" in opened["line"]
        assert opened["mib"] < 1024
        assert opened["seconds"] < 30

    def test_sampling_many_takes_no_longer_than_listing_them(self, store_copy):
        count, nothing = 8_000, {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
        fill(store_copy / "more", count)
        document = json.loads((store_copy / "manifest.json").read_bytes())
        document["objects"] |= {f"more/{number:07d}": nothing for number in range(count)}
        sign(store_copy, document)
        checked = measure("sampled", store_copy)
        assert checked["line"] == ""
        assert checked["seconds"] < 30

    @pytest.mark.parametrize("item", ["[[]]", '""', "0.5", '{"a":0}'])
    def test_small_json_of_many_parts(self, item, store_copy):
        count = (MAX_JSON_BYTES - 100) // (len(item) + 1)
        (store_copy / "manifest.json").write_text(f'{{"a":[{",".join([item] * count)}]}}')
        opened = measure("open", store_copy)
        assert "manifest.json" in opened["line"]
        assert opened["mib"] < 1280
        assert opened["seconds"] < 60


class TestColumnsThatUnpackToMuch:
    def test_few_samples_in_huge_units(self):
        units = [[0, number, number + 1] for number in range(MAX_ROWS // (1 << 20) + 1)]
        plan = plan_of(Fp16Codec(), units=units, num_samples=len(units), unit_rows=1 << 20)
        with pytest.raises(CorruptStoreError, match="rows"):
            Schema.from_plan(plan)

    def test_keys_longer_than_any_is(self, store_copy):
        num_samples = UNITS[-1][2]
        layout = column_layout("samples/key_bytes", "uint8", MAX_KEY_BYTES * num_samples + 1)
        forge(store_copy, {"samples/key_bytes/zarr.json": layout.metadata()})
        assert "samples/key_bytes: 10 keys of 40961 bytes" in measure("open", store_copy)["line"]


@pytest.mark.parametrize(
    ("shards", "words"),
    [
        ([{"name": "a", "samples": 10, "digest": ""}], "does not lie in its shard"),
        ([{"samples": 6}, {"samples": 5}], "hold 11 samples, not 10"),
        ([{"samples": 6}, {"samples": -1}], "not an integer"),
        ([{}, {}], "not an integer"),
        ([3], "no JSON object"),
        ("ab", "not a list"),
        (None, "not a list"),
    ],
    ids=str,
)
def test_shards_that_do_not_fit_the_units(shards, words):
    transfer = {"name": "tiny", "digest": "1" * 64, "shards": shards}
    units = [[0, 0, 4], [0, 4, 6], [1, 6, 10]]
    with pytest.raises(CorruptStoreError, match=words):
        Schema.from_plan(plan_of(Fp16Codec(), transfer=transfer, units=units))
    sound = [{"samples": 6}, {"samples": 0}, {"samples": 4}]
    Schema.from_plan(plan_of(Fp16Codec(), transfer=transfer | {"shards": sound}, units=[*units[:2], [2, 6, 10]]))
