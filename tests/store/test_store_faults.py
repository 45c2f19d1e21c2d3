"""Random damage to finished stores: none is missed by `verify`, none is read, and single units are built again."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hostile_stores import forge, read_everything
from make_golden import KLT
from stopped_objects import KilledError, StoppedObjects
from tiny_stores import (
    FEATURE_MAPS,
    MAPS,
    ROWS,
    build,
    build_at,
    contents_of,
    exact_codec,
    targets_of,
)

from reinforce.errors import CorruptStoreError, MissingStoreError, StoreError, UnfinishedStoreError
from reinforce.store.codecs import Fp16Codec, Int8Codec
from reinforce.store.codecs.sqrt_p import SqrtPCodec
from reinforce.store.objects import LocalObjects
from reinforce.store.reader import Store
from reinforce.store.schema import CARD
from reinforce.store.verify import CANNOT_MEND_MANIFEST, verify


def files(root):
    return sorted(path for path in root.rglob("*") if path.is_file() and path.name != "manifest.json")


def flip_a_bit(root, rng, other):
    path = rng.choice([path for path in root.rglob("*") if path.is_file() and path.stat().st_size])
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return path


def truncate(root, rng, other):
    path = rng.choice(files(root))
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
    return path


def extend(root, rng, other):
    path = rng.choice(files(root))
    path.write_bytes(path.read_bytes() + bytes(rng.randrange(1, 9)))
    return path


def delete(root, rng, other):
    path = rng.choice(files(root))
    path.unlink()
    return path


def swap(root, rng, other):
    pool = [path for path in files(root) if "/c/" in path.as_posix()]
    first, second = rng.choice([(a, b) for a in pool for b in pool if a < b and a.read_bytes() != b.read_bytes()])
    first_bytes = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(first_bytes)
    return first


def unit_object(root, unit):
    """The largest of a unit's objects; those of maps have an axis more."""
    return max([*root.glob(f"targets/*/c/0/{unit}/0"), *root.glob(f"targets/*/c/0/{unit}/0/0")],
               key=lambda path: path.stat().st_size * path.is_file())  # fmt: skip


def add(root, rng, other):
    path = root / rng.choice(["targets/values/c/0/3/0", "samples/extra", "x.json", "targets/more/zarr.json"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rng.randbytes(rng.randrange(50)))
    return path


def edit_attributes(root, rng, other):
    path = rng.choice([path for path in files(root) if path.name == "zarr.json"])
    digits = [at for at, char in enumerate(path.read_text()) if char in "123456789"]
    text = list(path.read_text())
    text[rng.choice(digits)] = "7" if text[digits[0]] != "7" else "8"
    if "".join(text) == path.read_text():
        text[digits[0]] = "9" if text[digits[0]] != "9" else "8"
    path.write_text("".join(text))
    return path


def stale_manifest(root, rng, other):
    shutil.copyfile(other / "manifest.json", root / "manifest.json")
    return root / "manifest.json"


def foreign_unit(root, rng, other):
    unit = rng.randrange(3)
    path = unit_object(root, unit)
    neighbour = unit_object(other, (unit + 1) % 3).relative_to(other)
    shutil.copyfile(other / neighbour, path)
    return path


def link_elsewhere(root, rng, other):
    path = rng.choice(files(root))
    copy = root.parent / "outside"
    shutil.copyfile(path, copy)
    path.unlink()
    path.symlink_to(copy)
    return path


SIZE_OR_NAME = [truncate, extend, delete, add, link_elsewhere]
CONTENT = [flip_a_bit, swap, edit_attributes, stale_manifest, foreign_unit]


@pytest.fixture(scope="module", params=[ROWS, MAPS, FEATURE_MAPS], ids=["rows", "maps", "features"])
def finished_store(request, tmp_path_factory):
    """In place of the usual one: everything below holds for targets of either shape."""
    with targets_of(request.param):
        yield build_at(tmp_path_factory.mktemp("finished") / "tiny.zarr").root


@pytest.fixture(scope="module")
def other_store(finished_store, tmp_path_factory):
    return make_other_store(tmp_path_factory, exact_codec())


def make_other_store(tmp_path_factory, codec):
    """A store whose units lie elsewhere, under the manifest of yet another store."""
    root = tmp_path_factory.mktemp("other") / "x.zarr"
    build_at(root, codec)
    manifest_of_other_codec = tmp_path_factory.mktemp("third") / "x.zarr"
    build_at(manifest_of_other_codec, Int8Codec(absolute=exact_codec().absolute))
    shutil.copyfile(manifest_of_other_codec / "manifest.json", root / "manifest.json")
    return root


@pytest.mark.parametrize("fault", SIZE_OR_NAME + CONTENT, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("seed", range(8))
def test_every_fault_is_found_and_nothing_damaged_is_read(store_copy, other_store, fault, seed):
    check_fault(store_copy, other_store, fault, seed)


@pytest.mark.long
@pytest.mark.parametrize(
    ("codec", "shape"),
    [(Fp16Codec(), ROWS), (KLT, ROWS), (SqrtPCodec(0.03125, 1.0), MAPS)],
    ids=["fp16", "klt", "maps"],
)
def test_each_of_a_thousand_faults_is_found(codec, shape, tmp_path, tmp_path_factory):
    with targets_of(shape):
        sound, other = tmp_path / "sound.zarr", make_other_store(tmp_path_factory, codec)
        build_at(sound, codec)
    for number in range(1000):
        faults = SIZE_OR_NAME + CONTENT
        shutil.copytree(sound, tmp_path / "copy.zarr")
        check_fault(tmp_path / "copy.zarr", other, faults[number % len(faults)], number)
        shutil.rmtree(tmp_path / "copy.zarr")


def check_fault(store_copy, other_store, fault, seed):
    before = contents_of(store_copy)
    damaged = fault(store_copy, random.Random(f"{fault.__name__} {seed}"), other_store)
    assert contents_of(store_copy) != before or fault is link_elsewhere, "the fault changed nothing"
    name = damaged.relative_to(store_copy).as_posix()
    report = verify(store_copy, "full")
    assert not report.ok
    assert any(name in problem for problem in report.problems) or name == "manifest.json"
    assert all("\n" not in problem for problem in report.problems)
    if fault in SIZE_OR_NAME:
        assert not verify(store_copy, "quick").ok
    if name in CARD:  # which is read by nobody but people
        read_everything(store_copy)
        return
    with pytest.raises(CorruptStoreError) as caught:
        read_everything(store_copy)
    assert "\n" not in str(caught.value)


def test_sampled_hashes_all_metadata_and_some_of_the_rest(store_copy):
    for path in sorted(store_copy.rglob("*.json")):
        if path.name == "manifest.json":
            continue
        data = path.read_bytes()
        path.write_bytes(data[:-2] + b" }")
        assert not verify(store_copy, "sampled").ok, path
        path.write_bytes(data)
    assert verify(store_copy, "sampled").ok


@pytest.mark.parametrize("level", ["quick", "sampled", "full"])
def test_a_sound_store_has_no_problems(finished_store, level):
    report = verify(finished_store, level)
    assert report.to_json() == {"ok": True, "level": level, "problems": [], "repaired": []}
    read_everything(finished_store)


def test_verify_wants_a_finished_store(tmp_path):
    with pytest.raises(MissingStoreError):
        verify(tmp_path / "none")
    objects = LocalObjects(tmp_path / "x.zarr")
    objects.put_new("plan.json", b"{}")
    with pytest.raises(UnfinishedStoreError):
        verify(objects)


def damage_units(root, units):
    for unit in units:
        path = unit_object(root, unit)
        path.write_bytes(b"x" + path.read_bytes()[1:])


@pytest.mark.parametrize("units", [[0], [1, 2], [0, 1, 2]], ids=str)
def test_repair_lets_a_build_compute_just_the_bad_units(store_copy, finished_store, units):
    damage_units(store_copy, units)
    report = verify(store_copy, "full", repair=True)
    assert not report.ok
    assert any(f"dropped {len(units)} of 3 units" in line and "--resume" in line for line in report.repaired)
    with pytest.raises(UnfinishedStoreError):
        Store.open(store_copy)
    assert build(LocalObjects(store_copy)) == units
    assert contents_of(store_copy) == contents_of(finished_store)


def test_repair_rebuilds_the_states(store_copy, finished_store):
    (store_copy / "samples/state/c/0").write_bytes(b"")
    assert verify(store_copy, "quick", repair=True).repaired[0].startswith("dropped the states")
    assert build(LocalObjects(store_copy)) == []
    assert contents_of(store_copy) == contents_of(finished_store)


def test_repair_deletes_extras_and_leaves_the_store_finished(store_copy, finished_store):
    for name in ("extra", "units/00000001.json", "targets/.tmp-00"):
        (store_copy / name).parent.mkdir(exist_ok=True)
        (store_copy / name).write_bytes(b"?")
    report = verify(store_copy, repair=True)
    assert report.repaired == ["deleted 3 extra objects"]
    assert verify(store_copy, "full").ok
    assert contents_of(store_copy) == contents_of(finished_store)


def test_repair_does_not_trust_a_left_marker_of_a_bad_unit(store_copy, finished_store, tmp_path):
    unfinished = tmp_path / "again.zarr"
    stops = 0
    while not (unfinished / "manifest.json").exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        with pytest.raises(KilledError):
            build(StoppedObjects(unfinished, changes_left=stops, after=True))
        stops += 1
    assert (unfinished / "units/00000001.json").exists()
    damage_units(unfinished, [1])
    verify(unfinished, "full", repair=True)
    assert build(LocalObjects(unfinished)) == [1]
    assert contents_of(unfinished) == contents_of(finished_store)


@pytest.mark.parametrize("fault", ["flipped", "missing"])
def test_repair_writes_metadata_anew(finished_store, tmp_path, fault):
    """Any, and all at once: nobody has to pay a teacher again for a bit of them."""
    names = sorted(path for path in contents_of(finished_store) if path.endswith("zarr.json"))
    names.remove("probes/pixels/zarr.json")  # these probes are no views of the policy
    assert {"zarr.json", "samples/key_bytes/zarr.json", "targets/values/zarr.json"} <= set(names)
    for number, damaged in enumerate([*([name] for name in names), names]):
        root = tmp_path / f"{number}.zarr"
        shutil.copytree(finished_store, root)
        for name in damaged:
            (root / name).write_bytes(b"x" + (root / name).read_bytes()[1:])
            if fault == "missing":
                (root / name).unlink()
        report = verify(root, "full", repair=True)
        assert report.repaired == [f"wrote {name} anew" for name in damaged]
        assert verify(root, "full").ok
        assert contents_of(root) == contents_of(finished_store)


@pytest.mark.parametrize("fault", ["flipped", "missing", "formula"])
def test_the_end_of_a_build_does_not_believe_damaged_metadata(finished_store, tmp_path, fault):
    """No hash binds them before the manifest."""
    names = sorted(path for path in contents_of(finished_store) if path.endswith("zarr.json"))
    names.remove("probes/pixels/zarr.json")
    for number, damaged in enumerate(["targets/zarr.json"] if fault == "formula" else names):
        root = tmp_path / f"{number}.zarr"
        shutil.copytree(finished_store, root)
        damage_units(root, [1])
        verify(root, "full", repair=True)
        data = (root / damaged).read_bytes()
        (root / damaged).write_bytes(data.replace(b"float32", b"float16") if fault == "formula" else b"x" + data[1:])
        if fault == "missing":
            (root / damaged).unlink()
        assert build(LocalObjects(root)) == [1]
        assert contents_of(root) == contents_of(finished_store)


def test_keys_that_are_damaged_hinder_no_other_metadata(store_copy, finished_store):
    for name in ("samples/key_bytes/zarr.json", "targets/values/zarr.json", "samples/key_offsets/c/0"):
        (store_copy / name).write_bytes(b"x")
    mended, reason = verify(store_copy, "full", repair=True).repaired
    assert mended == "wrote targets/values/zarr.json anew"
    assert reason.endswith("samples/key_offsets/c/0 is damaged, which no unit can be computed without")


@pytest.mark.parametrize("level", ["quick", "sampled", "full"])
def test_repair_looks_at_metadata_whatever_the_level(level, store_copy, finished_store):
    """Else it would say that nothing helps: a change of few bytes is not seen by size."""
    damage_units(store_copy, [1])
    unit_object(store_copy, 1).unlink()
    path = store_copy / "targets/zarr.json"
    path.write_bytes(path.read_bytes().replace(b"float32", b"float16"))
    first, second = verify(store_copy, level, repair=True).repaired
    assert first == "wrote targets/zarr.json anew"
    assert second.startswith("dropped 1 of 3 units (1)")


def test_what_cannot_be_repaired_says_one_thing_to_type(store_copy):
    unit_object(store_copy, 1).unlink()
    (store_copy / "probes.json").write_bytes((store_copy / "probes.json").read_bytes().replace(b"[", b"{"))
    (line,) = verify(store_copy, "quick", repair=True).repaired
    assert line.startswith("cannot be repaired here, pull it again with --repair or build it again with --overwrite: ")
    assert line.endswith("probes.json: its SHA-256 differs from the manifest's")


def test_repair_mends_metadata_and_drops_bad_units(store_copy, finished_store):
    damage_units(store_copy, [1])
    (store_copy / "targets/values/zarr.json").unlink()
    assert len(verify(store_copy, "full", repair=True).repaired) == 2
    assert build(LocalObjects(store_copy)) == [1]
    assert contents_of(store_copy) == contents_of(finished_store)


def test_metadata_that_another_version_worded_stay_as_they_are(store_copy):
    """What this one would write is not what the manifest lists."""
    path = store_copy / "targets/zarr.json"
    document = json.loads(path.read_bytes())
    document["attributes"]["formula"] = "worded otherwise"
    forge(store_copy, {"targets/zarr.json": json.dumps(document).encode()})
    assert verify(store_copy, "full").ok
    path.write_bytes(b"x")
    (line,) = verify(store_copy, "full", repair=True).repaired
    assert line.startswith("cannot be repaired here")
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize(
    "name", ["plan.json", "samples/sha64/c/0", "units.json", "probes.json"]
)
def test_other_damage_cannot_be_repaired_and_changes_nothing(store_copy, name):
    damage_units(store_copy, [1])
    (store_copy / name).write_bytes(b"x" + (store_copy / name).read_bytes()[1:])
    before = contents_of(store_copy)
    report = verify(store_copy, "full", repair=True)
    assert len(report.repaired) == 1
    assert report.repaired[0].startswith("cannot be repaired here, pull it again with --repair or build it again")
    assert contents_of(store_copy) == before


def test_a_damaged_manifest_cannot_be_repaired(store_copy):
    path = store_copy / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"views":3', b'"views":4'))
    report = verify(store_copy, "full", repair=True)
    assert "differs from its own digest" in report.problems[0]
    assert "cannot be repaired" in report.repaired[0]


@pytest.mark.parametrize("after", [False, True], ids=["before the change", "after the change"])
def test_repair_may_stop_at_any_change(finished_store, tmp_path, after):
    stops = 0
    while True:
        root = tmp_path / f"{stops}.zarr"
        shutil.copytree(finished_store, root)
        damage_units(root, [1])
        (root / "extra").write_bytes(b"")
        try:
            verify(StoppedObjects(root, changes_left=stops, after=after), "full", repair=True)
        except KilledError:
            stops += 1
        else:
            break
        if (root / "manifest.json").exists():
            verify(root, "full", repair=True)
        assert build(LocalObjects(root)) == [1]
        assert contents_of(root) == contents_of(finished_store)
    assert stops >= 5


def test_problems_are_bounded(store_copy):
    for number in range(1200):
        (store_copy / f"extra{number}").write_bytes(b"")
    assert len(verify(store_copy).problems) == 1000


def test_a_store_error_is_never_a_builtin_key_or_type_error(store_copy):
    (store_copy / "plan.json").write_bytes(b"[]")
    with pytest.raises(StoreError):
        Store.open(store_copy)
    assert isinstance(Path(store_copy), Path)


class TestWhatTheManifestSays:
    """Its summary, certificate and skipped images follow from the rest: other ones are lies, whatever their digest."""

    @pytest.mark.parametrize(("member", "changes"), [
        ("certificate", {"kl_mean": 1e-9}), ("certificate", {"temperature": 4.0}), ("certificate", {"codec": "klt"}),
        ("certificate", {"bytes_per_view": 1.0}), ("summary", {"samples": 100_000}), ("summary", {"classes": 9}),
    ])  # fmt: skip
    def test_is_compared(self, member, changes, store_copy):
        manifest = Store.open(store_copy).manifest
        forged = replace(manifest, **{member: {**getattr(manifest, member), **changes}})
        (store_copy / "manifest.json").write_bytes(forged.to_bytes())
        assert verify(store_copy, "quick").ok
        report = verify(store_copy, "full", repair=True)
        assert report.problems == [f"manifest.json: its {member} is not that of the units' records"]
        assert report.repaired == [CANNOT_MEND_MANIFEST]
        assert (store_copy / "manifest.json").read_bytes() == forged.to_bytes()

    def test_skipped_images_too(self, store_copy):
        manifest = Store.open(store_copy).manifest
        forged = replace(manifest, skipped=({"row": 0, "key": "a", "reason": "b"},))
        (store_copy / "manifest.json").write_bytes(forged.to_bytes())
        assert any("its skipped is not that" in problem for problem in verify(store_copy, "full").problems)
