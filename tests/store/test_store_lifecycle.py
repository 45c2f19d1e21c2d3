"""From plan to finished store: in any order of units, through a stop at any single operation, always the same bytes."""

from __future__ import annotations

import functools
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from stopped_objects import KilledError, StoppedObjects
from tiny_stores import (
    FEATURE_ROWS,
    MAPS,
    ROWS,
    EveryAxisCodec,
    build,
    build_at,
    columns,
    commit,
    contents_of,
    exact_codec,
    plan_of,
    targets_of,
    unit_targets,
)

from reinforce.errors import MissingStoreError, OutputExistsError, StoreError, UnfinishedStoreError
from reinforce.store.codecs import Fp16Codec, Int8Codec
from reinforce.store.fidelity import FidelityStats
from reinforce.store.finalize import finalize
from reinforce.store.marker import claim_path, commit_unit
from reinforce.store.measures import Divergence
from reinforce.store.objects import LocalObjects
from reinforce.store.reader import Store
from reinforce.store.schema import MANIFEST, Schema
from reinforce.store.writer import SampleColumns, create_store, decode_unit, encode_unit, write_probes


@functools.cache
def finished(shape):
    """Contents of an undisturbed build."""
    with targets_of(shape), tempfile.TemporaryDirectory() as folder:
        build_at(Path(folder) / "x.zarr")
        return contents_of(Path(folder) / "x.zarr")


@pytest.fixture(params=[ROWS, MAPS, FEATURE_ROWS], ids=["rows", "maps", "features"])
def expected(request):
    """What a test must end with, which builds targets of the same shape meanwhile."""
    with targets_of(request.param):
        yield finished(request.param)


@pytest.mark.parametrize("after", [False, True], ids=["before the change", "after the change"])
def test_a_stop_at_any_change_costs_nothing(tmp_path, expected, after):
    stops = 0
    while True:
        root = tmp_path / f"{stops}.zarr"
        objects = StoppedObjects(root, changes_left=stops, after=after)
        objects.root.mkdir()
        (root / ".tmp-0123").write_bytes(b"left by a killed put")
        try:
            build(objects)
        except KilledError:
            stops += 1
        else:
            break
        finished = (root / "manifest.json").exists()
        computed_again = build(LocalObjects(root))
        assert not (finished and computed_again)
        assert contents_of(root) == expected, f"stopped at change {stops - 1}"
    assert stops > 30


def test_units_may_come_in_any_order(tmp_path, expected):
    build(LocalObjects(tmp_path / "x.zarr"), order=(2, 0, 1))
    assert contents_of(tmp_path / "x.zarr") == expected


def test_building_again_changes_nothing(tmp_path, expected):
    objects = build_at(tmp_path / "x.zarr")
    assert build(objects) == []
    assert contents_of(tmp_path / "x.zarr") == expected


def test_finalize_removes_what_making_a_store_leaves(tmp_path, expected):
    root = tmp_path / "x.zarr"
    objects = LocalObjects(root)
    codec = exact_codec()
    schema = create_store(objects, plan_of(codec), codec, columns())
    objects.put_new(claim_path(1), b"{}")
    objects.put_new(claim_path(1, 2), b"{}")
    (root / "targets" / ".tmp-ff").write_bytes(b"half")
    for path in ("targets/old/c/0/0/0", "units/notes", "claims/a.json"):
        objects.put_new(path, b"of an older attempt")
    (root / "targets" / "odd\nname").write_bytes(b"?")
    for unit in range(3):
        commit(objects, schema, codec, unit)
    build(objects)
    assert contents_of(root) == expected


@pytest.mark.parametrize("path", ["thesis.tex", "thesis/figures/1.png", "target/c/0/0/0"])
def test_finalize_never_removes_what_others_put_there(path, tmp_path, expected):
    root = tmp_path / "x.zarr"
    objects = LocalObjects(root)
    create_store(objects, plan_of(exact_codec()), exact_codec(), columns())
    objects.put_new(path, b"years")
    with pytest.raises(OutputExistsError, match=f"it holds other things, such as {path}: move them elsewhere, then"):
        build(objects)
    assert (root / path).read_bytes() == b"years"
    assert not objects.exists(MANIFEST)
    (root / path).rename(tmp_path / "elsewhere")
    build(objects)
    assert contents_of(root) == expected


def test_finalize_leaves_hidden_files_of_others(tmp_path, expected):
    root = tmp_path / "x.zarr"
    objects = LocalObjects(root)
    create_store(objects, plan_of(exact_codec()), exact_codec(), columns())
    (root / ".env").write_bytes(b"years")
    build(objects)
    assert Store.open(root).num_units == 3
    assert contents_of(root) == expected | {".env": b"years"}


def test_a_unit_of_zeros_is_written_like_any_other():
    codec = Fp16Codec()
    schema = Schema.from_plan(plan_of(codec))
    contents = encode_unit(schema, codec, 1, np.zeros((3, 4, 5), np.float32))
    assert list(contents) == ["targets/values/c/0/1/0"]
    assert not decode_unit(schema, codec, 1, contents).any()


def test_a_half_written_unit_is_replaced(tmp_path, expected):
    objects = LocalObjects(tmp_path / "x.zarr")
    create_store(objects, plan_of(exact_codec()), exact_codec(), columns())
    unit = next(path for path in expected if path.startswith("targets/values/c/0/1/0"))
    objects.put_new(unit, b"another attempt's bytes")
    build(objects)
    assert contents_of(tmp_path / "x.zarr") == expected


def test_finalize_names_the_units_that_are_missing(tmp_path):
    objects, codec = LocalObjects(tmp_path / "x.zarr"), Fp16Codec()
    schema = create_store(objects, plan_of(codec), codec, columns())
    commit(objects, schema, codec, 0)
    with pytest.raises(UnfinishedStoreError, match="2 of 3 units not done, the first is 1"):
        finalize(objects, plan_of(codec))
    with pytest.raises(UnfinishedStoreError, match="--resume"):
        Store.open(tmp_path / "x.zarr")


def test_finalize_misses_a_lost_object(tmp_path):
    objects, codec = LocalObjects(tmp_path / "x.zarr"), Fp16Codec()
    schema = create_store(objects, plan_of(codec), codec, columns())
    for unit in range(3):
        commit(objects, schema, codec, unit)
    objects.delete("targets/values/c/0/1/0")
    with pytest.raises(StoreError, match="targets/values/c/0/1/0 is gone"):
        finalize(objects, plan_of(codec))


def test_finalize_wants_the_stores_own_plan(tmp_path):
    with pytest.raises(MissingStoreError, match="no plan"):
        finalize(LocalObjects(tmp_path / "none"), plan_of(Fp16Codec()))
    objects = build_at(tmp_path / "x.zarr")
    with pytest.raises(StoreError, match="another plan"):
        finalize(objects, plan_of(Fp16Codec(), batch_size=8))


def test_another_plan_is_refused_and_nothing_changes(tmp_path, expected):
    objects = build_at(tmp_path / "x.zarr")
    with pytest.raises(StoreError, match="--overwrite"):
        create_store(objects, plan_of(Int8Codec()), Int8Codec(), columns())
    assert contents_of(tmp_path / "x.zarr") == expected


@pytest.mark.parametrize(
    ("plan", "codec", "samples", "message"),
    [
        (plan_of(exact_codec()), Int8Codec(), columns(), "codec is fp16"),
        (plan_of(EveryAxisCodec(np.arange(5), 16)), EveryAxisCodec(np.ones(5), 16), columns(), "other arrays"),
        (
            plan_of(exact_codec()),
            exact_codec(),
            SampleColumns(keys=["a"], sha64=np.zeros(1), width=np.zeros(1), height=np.zeros(1)),
            "10 samples, the listing 1",
        ),
    ],
    ids=["codec", "calibration", "samples"],
)
def test_what_is_not_the_plans_is_refused_before_writing(tmp_path, plan, codec, samples, message):
    with pytest.raises(StoreError, match=message):
        create_store(LocalObjects(tmp_path / "x.zarr"), plan, codec, samples)
    assert not (tmp_path / "x.zarr").exists()


def test_a_unit_has_its_shape_and_its_count(tmp_path):
    objects, codec = LocalObjects(tmp_path / "x.zarr"), Fp16Codec()
    schema = create_store(objects, plan_of(codec), codec, columns())
    with pytest.raises(ValueError, match=r"shape \(2, 4, 5\), not \(3, 4, 5\)"):
        encode_unit(schema, codec, 0, unit_targets(0)[:2])
    with pytest.raises(ValueError, match="unit 3"):
        encode_unit(schema, codec, 3, unit_targets(0))
    with pytest.raises(ValueError, match="counts 0, not the 12 of 4 rows"):
        commit_unit(objects, schema, 0, {}, FidelityStats(measure=Divergence(1.0)))


def test_manifest_says_what_is_inside(finished_store):
    manifest = Store.open(finished_store).manifest
    assert manifest.summary == {"samples": 10, "views": 3, "classes": 5, "target": "logits", "skipped_count": 1}
    assert manifest.skipped == ({"row": 9, "key": "j.png", "reason": "truncated file"},)
    certificate = manifest.certificate
    assert certificate["codec"] == "fp16"
    assert certificate["top1_agreement"] == 1.0
    assert 0 < certificate["kl_mean"] <= certificate["kl_max"] < 1e-5
    targets = [path for path in finished_store.glob("targets/values/c/**/*") if path.is_file()]
    assert certificate["bytes_per_view"] == sum(path.stat().st_size for path in targets) / (9 * 3)


@pytest.mark.parametrize("attempt", range(12))
def test_two_that_finalize_at_once_both_find_the_store_complete(attempt, tmp_path, expected):
    objects, codec = LocalObjects(tmp_path), exact_codec()
    schema = create_store(objects, plan_of(codec), codec, columns())
    write_probes(objects, np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3), {"probes": []})
    for unit in range(schema.num_units):
        commit(objects, schema, codec, unit)
    barrier = threading.Barrier(2)

    def close(_):
        barrier.wait()
        return finalize(LocalObjects(tmp_path), plan_of(codec)).digest

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(close, range(2))
    assert first == second
    assert contents_of(tmp_path) == expected
