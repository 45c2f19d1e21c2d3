"""Reading a finished store: values, names, provenance; in this process and in a spawned one."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tiny_stores import KEYS, UNITS, EveryAxisCodec, build_at, columns, ok_rows, plan_of, unit_targets

from reinforce.errors import CorruptStoreError, MissingStoreError, StoreError, UnfinishedStoreError
from reinforce.store.canonical import canonical_json
from reinforce.store.codecs import Fp16Codec, Int8Codec
from reinforce.store.manifest import Manifest
from reinforce.store.objects import LocalObjects
from reinforce.store.reader import Store
from reinforce.store.writer import create_store

PRIOR_C = np.linspace(-1, 1, 5)


@pytest.fixture(
    params=[Fp16Codec(), Int8Codec(), EveryAxisCodec(PRIOR_C, 8), EveryAxisCodec(PRIOR_C, 16)],
    ids=["fp16", "int8", "every axis, 8 bits", "every axis, 16 bits"],
)
def codec(request, every_axis):
    return request.param


def centred(logits):
    return logits - logits.mean(axis=-1, keepdims=True)


def test_targets_are_the_teachers(tmp_path, codec):
    store = Store.open(build_at(tmp_path / "x.zarr", codec).root)
    for unit in range(3):
        ok_U = ok_rows(unit)
        for view in (2, 0, 1):
            logits_UC = store.read_targets(unit, view)
            assert logits_UC.dtype == np.float32
            assert logits_UC.shape == (4, 5)
            expected = centred(unit_targets(unit)[view])
            assert np.abs(centred(logits_UC) - expected)[ok_U].max() < 16 / 254


def test_samples_are_the_listing(finished_store):
    store = Store.open(str(finished_store))
    assert store.keys(0, 10) == list(KEYS)
    assert [store.keys(start, stop) for _, start, stop in UNITS] == [list(KEYS[a:b]) for _, a, b in UNITS]
    assert store.keys(3, 3) == []
    assert np.array_equal(store.sha64(), columns().sha64)
    assert store.image_sizes().tolist() == [[10 * n + 1, 7 * n] for n in range(10)]
    assert store.states().tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 0, 2, 0, 0]


def test_long_columns_cross_chunks_and_objects(tmp_path, monkeypatch):
    from reinforce.store import schema as schema_module
    from reinforce.store.layout import ArrayLayout

    def short_column(path, dtype, length, zstd_level=3):
        return ArrayLayout(path=path, dtype=dtype, shape=(length,), shard_shape=(6,), chunk_shape=(2,))

    monkeypatch.setattr(schema_module, "column_layout", short_column)
    store = Store.open(build_at(tmp_path / "x.zarr").root)
    assert (tmp_path / "x.zarr/samples/key_bytes/c/18").exists()
    for start in range(11):
        for stop in range(start, 11):
            assert store.keys(start, stop) == list(KEYS[start:stop])


def test_what_it_says_of_itself(finished_store):
    store = Store.open(finished_store)
    assert (store.num_samples, store.num_units, store.unit_rows, store.num_rows) == (10, 3, 4, 12)
    assert (store.num_views, store.num_channels, store.temperature) == (3, 5, 1.0)
    assert store.class_names == ("ant", "bee", "cat", "dog", "élan")
    assert store.policy_json == {"version": 1, "size_px": 8}
    assert store.units == UNITS
    assert store.plan == plan_of(Fp16Codec())
    document, pixels = store.probes()
    assert document == {"probes": []}
    assert pixels.shape == (2, 4, 4, 3)
    assert pixels.ravel().tolist() == list(range(96))


@pytest.mark.parametrize("place", [(3, 0), (-1, 0), (0, 3), (0, -1)])
def test_no_such_targets(finished_store, place):
    with pytest.raises(IndexError, match="of 3 units x 3 views"):
        Store.open(finished_store).read_targets(*place)


@pytest.mark.parametrize("place", [(-1, 2), (0, 11), (5, 4)])
def test_no_such_samples(finished_store, place):
    with pytest.raises(IndexError, match="of 10"):
        Store.open(finished_store).keys(*place)


def test_no_store(tmp_path):
    with pytest.raises(MissingStoreError, match="reinforce build"):
        Store.open(tmp_path / "none.zarr")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MissingStoreError):
        Store.open(tmp_path / "file")


def test_unfinished_store(tmp_path):
    create_store(LocalObjects(tmp_path / "x.zarr"), plan_of(Fp16Codec()), Fp16Codec(), columns())
    with pytest.raises(UnfinishedStoreError, match="--resume"):
        Store.open(tmp_path / "x.zarr")


def test_markers_of_a_build_that_is_just_ending_do_not_matter(store_copy):
    for name in ("units/00000001.json", "claims/00000001.json", ".DS_Store", "targets/.tmp-00"):
        (store_copy / name).parent.mkdir(exist_ok=True)
        (store_copy / name).write_bytes(b"{}")
    Store.open(store_copy).read_targets(0, 0)


def test_a_copy_reads_again_after_pickling_even_in_a_spawned_process(finished_store):
    store = Store.open(finished_store)
    store.read_targets(1, 1)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        assert np.array_equal(pool.apply(Store.read_targets, (store, 1, 2)), store.read_targets(1, 2))


def test_a_copy_refuses_a_store_that_was_replaced(store_copy, tmp_path):
    pickled = pickle.dumps(Store.open(store_copy))
    shutil.rmtree(store_copy)
    build_at(store_copy, Int8Codec())
    with pytest.raises(CorruptStoreError, match="replaced"):
        pickle.loads(pickled)


def test_errors_survive_pickling(store_copy):
    store = Store.open(store_copy)
    (store_copy / "targets/values/c/0/1/0").unlink()
    with pytest.raises(CorruptStoreError) as caught:
        store.read_targets(1, 0)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_newer_formats_and_codecs_ask_for_an_upgrade(tmp_path, every_axis, monkeypatch):
    from reinforce.store.codecs import CODECS

    build_at(tmp_path / "x.zarr", EveryAxisCodec(PRIOR_C, 16))
    monkeypatch.delitem(CODECS, "every-axis")
    with pytest.raises(StoreError, match="upgrade"):
        Store.open(tmp_path / "x.zarr")
    with pytest.raises(StoreError, match="upgrade"):
        create_store(LocalObjects(tmp_path / "y"), plan_of(Fp16Codec(), format=3), Fp16Codec(), columns())


def test_members_of_later_versions_are_kept(finished_store):
    document = json.loads((finished_store / "manifest.json").read_bytes()) | {"licences": ["CC0"]}
    del document["digest"]
    digest = hashlib.sha256(canonical_json(document)).hexdigest()
    manifest = Manifest.parse(canonical_json(document | {"digest": digest}))
    assert manifest.digest == digest
    assert manifest.to_bytes() == canonical_json(document | {"digest": digest})


def test_reading_imports_neither_zarr_nor_torch(finished_store):
    code = f"""
import sys
from reinforce.store.reader import Store
from reinforce.store.verify import verify
Store.open({str(finished_store)!r}).read_targets(0, 0)
assert verify({str(finished_store)!r}, "full").ok
print(sorted({{name.partition(".")[0] for name in sys.modules}} & {{"zarr", "torch", "PIL"}}))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.stderr) == ("[]", "")
