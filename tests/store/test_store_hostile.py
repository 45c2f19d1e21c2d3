"""Stores made to harm: everything consistent with its own hashes, and still refused in one line and bounded memory."""

from __future__ import annotations

import json

import google_crc32c
import numpy as np
import pytest
from hostile_stores import assert_one_line, forge, refused, shard_of, sign
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numcodecs.zstd import Zstd
from tiny_stores import build_at, plan_of

from reinforce.errors import CorruptStoreError, StoreError
from reinforce.store.canonical import MAX_JSON_BYTES, canonical_json, parse_object, sha256_hex
from reinforce.store.codecs import Fp16Codec, Int8Codec
from reinforce.store.finalize import finalize
from reinforce.store.layout import ArrayLayout
from reinforce.store.manifest import Manifest
from reinforce.store.objects import LocalObjects
from reinforce.store.reader import Store
from reinforce.store.schema import Schema
from reinforce.store.shard import decode_chunk, parse_index
from reinforce.store.verify import verify


@pytest.mark.parametrize(
    "path", ["../outside", "/etc/passwd", "a/../../b", "C:\\x", "a//b", ".hidden", "", "a\nb", "x" * 5000], ids=repr
)
def test_manifest_names_outside_the_store(store_copy, path):
    document = json.loads((store_copy / "manifest.json").read_bytes())
    document["objects"][path] = {"bytes": 0, "sha256": sha256_hex(b"")}
    sign(store_copy, document)
    assert "not a name of an object" in refused(store_copy)


@pytest.mark.parametrize(
    "change",
    [
        {"objects": []},
        {"objects": {"plan.json": 3}},
        {"objects": {"plan.json": {"bytes": "3", "sha256": "0" * 64}}},
        {"objects": {"plan.json": {"bytes": -1, "sha256": "0" * 64}}},
        {"objects": {"plan.json": {"bytes": True, "sha256": "0" * 64}}},
        {"objects": {"plan.json": {"bytes": 3, "sha256": "Z" * 64}}},
        {"objects": {}},
        {"status": ["complete"]},
        {"format": "1"},
        {"format": 0},
        {"format": 2},
        {"skipped": [1]},
        {"summary": None},
        {"plan_digest": 5},
    ],
    ids=str,
)
def test_manifest_with_wrong_members(store_copy, change):
    document = json.loads((store_copy / "manifest.json").read_bytes()) | change
    document.pop("digest")
    document["digest"] = sha256_hex(canonical_json(document))
    (store_copy / "manifest.json").write_bytes(canonical_json(document))
    assert "manifest" in refused(store_copy) or change == {"format": 2}


@pytest.mark.parametrize(
    "change",
    [
        {"certificate": {}},
        {"certificate": {"kl_mean": "0"}},
        {"skipped": [1]},
        {"skipped": [{"key": "a.jpg"}]},
        {"skipped": [{"key": "a.jpg", "reason": None, "row": 1}]},
    ],
    ids=str,
)
def test_manifest_that_leaves_out_what_people_are_shown(store_copy, change):
    document = json.loads((store_copy / "manifest.json").read_bytes())
    del document["digest"]
    document |= change
    document["digest"] = sha256_hex(canonical_json(document))
    (store_copy / "manifest.json").write_bytes(canonical_json(document))
    assert next(iter(change)) in refused(store_copy)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{",
        b'{"digest": 1}',
        b"[" * 100_000,
        b'{"a":1e999}',
        b'{"a":NaN}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":1,"a":2}',
        b" " * (MAX_JSON_BYTES + 1),
    ],
    ids=lambda data: repr(data[:16]),
)
def test_manifest_that_is_no_json_of_ours(store_copy, data):
    (store_copy / "manifest.json").write_bytes(data)
    assert "manifest.json" in refused(store_copy)


@pytest.mark.parametrize(
    "change",
    [
        {"views": 1 << 40},
        {"views": 0},
        {"views": 3.0},
        {"views": None},
        {"unit_rows": 1 << 30},
        {"classes": -5},
        {"classes": 1 << 30},
        {"num_samples": 1 << 60},
        {"num_samples": 9},
        {"units": []},
        {"units": [[0, 0, 4], [0, 5, 10]]},
        {"units": [[0, 0, 10]]},
        {"units": [[1, 0, 4], [0, 4, 6], [1, 6, 10]]},
        {"units": [["a", 0, 4]]},
        {"units": "abc"},
        {"units": [[0, 0, 4.0]]},
        {"target": 7},
        {"class_names": ["a"]},
        {"class_names": [1, 2, 3, 4, 5]},
        {"policy": "policy"},
        {"promise": {"temperature": 0}},
        {"promise": {"temperature": "1"}},
        {"codec": {}},
        {"codec": {"name": "fp16", "parameters": {"a": 1}, "arrays": {}, "zstd_level": 3}},
        {"codec": {"name": "fp16", "parameters": {}, "arrays": {"../x": {}}, "zstd_level": 3}},
        {
            "codec": {
                "name": "fp16",
                "parameters": {},
                "arrays": {"x": {"dtype": "object", "shape": [3], "sha256": "0" * 64}},
                "zstd_level": 3,
            }
        },
        {
            "codec": {
                "name": "fp16",
                "parameters": {},
                "arrays": {"x": {"dtype": "int8", "shape": [1 << 30, 1 << 30], "sha256": "0" * 64}},
                "zstd_level": 3,
            }
        },
        {"codec": {"name": "fp16", "parameters": {}, "arrays": {}, "zstd_level": 99}},
    ],
    ids=str,
)
def test_absurd_plans(store_copy, change):
    forge(store_copy, {"plan.json": canonical_json(plan_of(Fp16Codec(), **change))})
    refused(store_copy)


def test_a_plan_whose_arrays_would_not_fit_in_memory(store_copy):
    huge = plan_of(Fp16Codec(), classes=1 << 16, class_names=["x"] * (1 << 16), unit_rows=1 << 20)
    forge(store_copy, {"plan.json": canonical_json(huge)})
    assert "too large" in refused(store_copy)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("shape", [3, 1 << 60, 5]),
        ("shape", [3, -12, 5]),
        ("shape", [3, 12]),
        ("shape", "abc"),
        ("shape", [3, 13, 5]),
        ("data_type", "object"),
        ("data_type", {"name": "fixed_length_utf32"}),
        ("data_type", "float32"),
        ("codecs", []),
        ("codecs", [{"name": "gzip"}]),
        ("codecs", {"0": 1}),
        ("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [3, 1 << 50, 5]}}),
        ("chunk_grid", None),
        ("fill_value", 1),
        ("chunk_key_encoding", {"name": "v2"}),
        ("storage_transformers", None),
    ],
    ids=str,
)
def test_absurd_array_metadata(store_copy, member, value):
    path = "targets/values/zarr.json"
    document = json.loads((store_copy / path).read_bytes())
    if member == "storage_transformers":
        document["codecs"][0]["configuration"]["codecs"].append({"name": "pickle"})
    else:
        document[member] = value
    forge(store_copy, {path: json.dumps(document).encode()})
    assert "targets/values" in refused(store_copy)


@pytest.mark.parametrize(("group", "member", "value"), [
    ("targets", "codec", "int8"), ("", "views", 4), ("", "unit_rows", 2),
])  # fmt: skip
def test_attributes_that_contradict_the_plan(store_copy, group, member, value):
    """Other readers go by the attributes."""
    path = f"{group}/zarr.json".lstrip("/")
    document = json.loads((store_copy / path).read_bytes())
    attributes = document["attributes"] if group else document["attributes"]["reinforce"]
    attributes[member] = value
    forge(store_copy, {path: json.dumps(document).encode()})
    assert "attributes are not those of the plan" in refused(store_copy)


def test_a_formula_in_other_words_is_no_contradiction(store_copy):
    document = json.loads((store_copy / "targets/zarr.json").read_bytes())
    document["attributes"]["formula"] = "take the values as they are"
    forge(store_copy, {"targets/zarr.json": json.dumps(document).encode()})
    Store.open(store_copy).read_targets(0, 0)


RLE_BOMB = b"\x28\xb5\x2f\xfd\x00\x58" + (((128 << 10) << 3) | 3).to_bytes(3, "little") + b"\0"
UNIT = "targets/values/c/0/1/0"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (shard_of(Zstd(level=19).encode(bytes(1 << 22))), "not of the chunk's size"),
        (shard_of(Zstd(level=19).encode(bytes(1 << 28))), "longer than its values"),
        (shard_of(RLE_BOMB), "not of the chunk's size"),
        (shard_of(Zstd().encode(bytes(39))), "not of the chunk's size"),
        (shard_of(b"no zstd at all"), "not of the chunk's size"),
        (shard_of(Zstd().encode(bytes(40))[:-1]), "damaged"),
        (shard_of(Zstd().encode(bytes(40)), claim=1 << 63), "outside"),
        (shard_of(Zstd().encode(bytes(40)), claim=(1 << 64) - 1), "outside"),
        (shard_of(Zstd().encode(bytes(40)), claim=2), "shorter than its checksum"),
        (shard_of(Zstd().encode(np.full(20, np.nan, np.float16).tobytes())), "NaN"),
        (b"", "shorter than its index"),
        (b"\0" * 10, "shorter than its index"),
        (b"\0" * 1000, "CRC-32C"),
    ],
    ids=[
        "bomb",
        "large bomb",
        "streamed bomb",
        "too short",
        "no zstd",
        "cut",
        "far",
        "missing",
        "tiny",
        "nan",
        "empty",
        "small",
        "zeros",
    ],
)
def test_shards_made_to_harm(store_copy, data, message):
    forge(store_copy, {UNIT: data})
    found = refused(store_copy)
    assert message in found
    assert UNIT in found


def test_a_missing_chunk_is_not_zeros(store_copy):
    chunk = Zstd().encode(bytes(40))
    body = chunk + google_crc32c.value(chunk).to_bytes(4, "little")
    index = (b"\xff" * 16) + 2 * ((0).to_bytes(8, "little") + len(body).to_bytes(8, "little"))
    forge(store_copy, {UNIT: body + index + google_crc32c.value(index).to_bytes(4, "little")})
    assert "missing from the index" in refused(store_copy)


@pytest.mark.parametrize("step", [np.nan, np.inf, -1.0], ids=str)
def test_steps_that_are_no_steps(tmp_path, step):
    root = build_at(tmp_path / "x.zarr", Int8Codec()).root
    forge(root, {"targets/steps/c/0/0": shard_of(Zstd().encode(np.full(4, step, np.float16).tobytes()))})
    assert "steps" in refused(root)


@pytest.mark.parametrize("offsets", [[0, 1 << 63], [5, 3], [0, 1 << 30]], ids=str)
def test_key_offsets_that_lead_elsewhere(store_copy, offsets):
    values = np.zeros(11, np.uint64)
    values[:2] = offsets
    forge(store_copy, {"samples/key_offsets/c/0": shard_of(Zstd().encode(values.tobytes()), chunks=1)})
    assert "key_offsets" in refused(store_copy)
    (line,) = verify(store_copy, "full", repair=True).repaired
    assert "cannot be repaired here" in line


@pytest.mark.parametrize(
    "path", ["targets/values/c/0/1/0", "samples/sha64/c/0", "units.json", "zarr.json", "plan.json"]
)
def test_a_manifest_that_leaves_an_object_out(store_copy, path):
    forge(store_copy, {path: None})
    refused(store_copy)


@pytest.mark.parametrize(
    "records",
    [
        {"units": []},
        {"units": [1, 2, 3]},
        {"units": [{"num_ok": 4, "skipped": [[9, "k", "r"]], "fidelity": {}}] * 3},
    ],
    ids=["none", "numbers", "rows outside"],
)
def test_unit_records_that_do_not_add_up(store_copy, records):
    forge(store_copy, {"units.json": canonical_json({"format": 1} | records)})
    (problem,) = verify(store_copy, "full").problems
    assert problem.startswith("units.json")


def test_states_that_do_not_fit_the_records(store_copy):
    forge(store_copy, {"samples/state/c/0": shard_of(Zstd().encode(bytes(12)), chunks=1)})
    assert verify(store_copy, "full").problems == ["samples/state/c/0: differs from the units' records"]
    (line,) = verify(store_copy, "full", repair=True).repaired
    assert line.startswith("dropped the states")
    finalize(LocalObjects(store_copy), json.loads((store_copy / "plan.json").read_bytes()))
    assert verify(store_copy, "full").ok


LAYOUT = ArrayLayout(path="x", dtype="uint8", shape=(40,), shard_shape=(40,), chunk_shape=(10,))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_value_error(data):
    for call in (lambda: decode_chunk(LAYOUT, data), lambda: parse_index(LAYOUT, data, len(data))):
        try:
            call()
        except ValueError as error:
            assert_one_line(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
PLAN = plan_of(Fp16Codec())


@settings(deadline=None, max_examples=200)
@given(member=st.sampled_from(sorted(PLAN)), value=JSON)
def test_any_plan_is_a_schema_or_a_store_error(member, value):
    try:
        assert Schema.from_plan(PLAN | {member: value}).num_views >= 1
    except StoreError as error:
        assert_one_line(error)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(member=st.sampled_from(["shape", "data_type", "chunk_grid", "codecs", "fill_value", "zarr_format"]), value=JSON)
def test_any_array_metadata_is_a_layout_or_a_store_error(member, value):
    document = json.loads(LAYOUT.metadata()) | {member: value}
    try:
        ArrayLayout.parse("x", json.dumps(document).encode())
    except StoreError as error:
        assert_one_line(error)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.sampled_from(["format", "digest", "objects", "skipped", "status", "x"]), JSON))
def test_any_manifest_is_a_store_error(document):
    with pytest.raises(StoreError):
        Manifest.parse(canonical_json(document))


@settings(deadline=None)
@given(JSON)
def test_canonical_json_is_one_to_one(value):
    data = canonical_json({"value": value})
    assert canonical_json(parse_object(data, "x")) == data


@pytest.mark.parametrize("order", [None, (0, 2, 1), (2, 0, 1)], ids=str)
def test_a_layout_survives_its_metadata(order):
    layout = ArrayLayout(
        path="a/b",
        dtype="int16",
        shape=(4, 6, 5),
        shard_shape=(4, 3, 5),
        chunk_shape=(1, 3, 5),
        order=order,
        zstd_level=9,
    )
    assert ArrayLayout.parse("a/b", layout.metadata()) == layout
    assert list(layout.shards()) == [(0, 0, 0), (0, 1, 0)]
    assert layout.object_path(0, 1, 0) == "a/b/c/0/1/0"
    with pytest.raises(CorruptStoreError):
        ArrayLayout.parse("a/b", layout.metadata().replace(b"crc32c", b"crc32d"))
