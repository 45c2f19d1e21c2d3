"""A store is plain Zarr: this reads one with zarr-python and the formulas of docs/store-format.md alone.

(`tiny_stores` only writes it, and `Store` only says what is expected.)
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from tiny_stores import (
    FEATURE_MAPS,
    FEATURE_ROWS,
    KEYS,
    MAPS,
    EveryAxisCodec,
    build_at,
    ok_rows,
    targets_of,
    unit_targets,
)

from reinforce.store.choose import CodecRequest, calibrate
from reinforce.store.codecs import CODECS, Int8Codec
from reinforce.store.layout import ArrayLayout
from reinforce.store.measures import CosineDistance, Divergence
from reinforce.store.objects import LocalObjects
from reinforce.store.reader import Store
from reinforce.store.shapes import TargetShape
from reinforce.store.shard import index_bytes, parse_index
from reinforce.store.writer import encode_array


def read_with_zarr(path: Path) -> np.ndarray:
    return zarr.open_array(path, mode="r", zarr_format=3)[:]


def read_with_tensorstore(path: Path) -> np.ndarray:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    return pytest.importorskip("tensorstore").open(spec, read=True).result().read().result()


def read_with_zarrs(path: Path) -> np.ndarray:
    pytest.importorskip("zarrs")
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        return zarr.open_array(path, mode="r", zarr_format=3)[:]


READERS = {"zarr": read_with_zarr, "tensorstore": read_with_tensorstore, "zarrs": read_with_zarrs}


class Outside:
    """A store as a program sees it that knows Zarr and docs/store-format.md, and nothing of us."""

    def __init__(self, root: Path, read: Callable[[Path], np.ndarray]) -> None:
        self.root, self.read = root, read

    def __getitem__(self, path: str) -> np.ndarray:
        return self.read(self.root / path)

    def attributes(self, group: str) -> dict[str, Any]:
        return json.loads((self.root / group / "zarr.json").read_text())["attributes"]

    @property
    def parameters(self) -> dict[str, Any]:
        return self.attributes("targets")["parameters"]

    def per_row(self, path: str) -> np.ndarray:
        """One value a unit, repeated for the unit's rows, with axes for cells (of maps) and classes."""
        described = self.attributes("")["reinforce"]
        return np.repeat(self[path], described["unit_rows"]).reshape(-1, 1, *[1] * ("map" in described))


def digits_of(packed: np.ndarray, counts: list[int]) -> np.ndarray:
    """docs/store-format.md, "Digits"."""
    columns, at = [], 0
    for radix, per_byte, count in zip((65536, 256, 15, 5, 3), (1, 1, 2, 3, 5), counts, strict=True):
        if radix == 65536:
            low, high = packed[..., at : at + count].astype(int), packed[..., at + count : at + 2 * count].astype(int)
            columns.append(low + 256 * high - 32896)
            at += 2 * count
            continue
        num_bytes = -(-count // per_byte)
        values = packed[..., at : at + num_bytes, None].astype(int) // radix ** np.arange(per_byte) % radix - radix // 2
        columns.append(values.reshape(*packed.shape[:-1], -1)[..., :count])
        at += num_bytes
    return np.concatenate(columns, axis=-1)


def klt(store: Outside) -> np.ndarray:
    digits = digits_of(store["targets/codes"], store.parameters["digits"]).astype(np.float64)
    if store.parameters["image_digits"] is not None:
        digits += digits_of(store["targets/image_codes"], store.parameters["image_digits"])
    decoder = store["codec/basis"] * store["codec/scales"][:, None]
    return with_spilled(store, store["codec/mean"] + store.per_row("targets/steps") * digits @ decoder)


def sqrt_p(store: Outside) -> np.ndarray:
    codes = store["targets/codes"].astype(np.float64)
    zeros = (codes == 0).sum(-1, keepdims=True)
    tail = np.where(zeros > 0, 2 ** (-store["targets/tails"][..., None].astype(np.float64) / 8), 0)
    body = (codes * store.per_row("targets/steps")) ** 2
    p = np.where(codes == 0, tail / np.maximum(zeros, 1), body / body.sum(-1, keepdims=True) * (1 - tail))
    return with_spilled(store, store.parameters["temperature"] * np.log(np.maximum(p, 1e-37)))


def top_k(store: Outside) -> np.ndarray:
    log_p, classes = store["targets/log_p"].astype(np.float64), store["targets/classes"].astype(int)
    num_classes = store.parameters["num_classes"]
    tail = 2 ** (-store["targets/tails"].astype(np.float64) / 8)
    logits = np.repeat(np.log(tail / max(1, num_classes - log_p.shape[-1]))[..., None], num_classes, axis=-1)
    np.put_along_axis(logits, classes, log_p, axis=-1)
    return with_spilled(store, store.parameters["temperature"] * logits)


def with_spilled(store: Outside, logits: np.ndarray) -> np.ndarray:
    mask = store["targets/is_spilled"][..., None] > 0
    return np.where(mask, store["targets/spilled_logits"].astype(np.float32), logits)


def klt_maps(store: Outside) -> np.ndarray:
    """(V, rows, h*w, C); a patch's waves are the columns of an inverse cosine transform."""
    height, width, side = (store.parameters[name] for name in ("height", "width", "patch"))
    digits = digits_of(store["targets/codes"], store.parameters["digits"]).astype(np.float64)
    digits *= store.per_row("targets/steps")
    basis = store["codec/basis"] * store["codec/scales"][:, None]
    coefficients = np.zeros((*digits.shape[:-1], len(basis) * side**2))
    coefficients[..., store["codec/order"]] = digits
    k, x = np.arange(side)[:, None], np.arange(side)
    waves = np.sqrt(np.where(k == 0, 1, 2) / side) * np.cos(np.pi * k * (x + 0.5) / side)
    split = coefficients.reshape(*digits.shape[:2], height // side, width // side, len(basis), side, side)
    cells = np.einsum("vrabkyx,yi,xj->vraibjk", split, waves, waves)
    logits = cells.reshape(*digits.shape[:2], height * width, len(basis)) @ basis + store["codec/mean"]
    return with_spilled(store, logits)


SCHEMES = {
    "klt": klt,
    "sqrt-p": sqrt_p,
    "top-k": top_k,
    "int8": lambda store: store["targets/codes"].astype(np.float32) * store["targets/steps"].astype("f4")[..., None],
    "fp16": lambda store: store["targets/values"].astype(np.float32),
}


def with_top1(store: Outside, logits: np.ndarray) -> np.ndarray:
    logits, top1 = logits.copy(), store["targets/top1"].astype(int)
    largest = logits.max(-1)
    at = np.nonzero(top1)
    logits[(*at, top1[at] - 1)] = largest[at] + np.maximum(1, np.abs(largest[at])) / 4096
    return logits


@pytest.fixture(scope="module", params=[*SCHEMES, *(f"{name}+top1" for name in SCHEMES)])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a codec fitted on other rows: some of its own have to be spilled."""
    targets_VRC = np.concatenate([unit_targets(0, seed) for seed in range(4)], axis=1)
    name, _, keeps_top1 = request.param.partition("+")
    wanted = CodecRequest(max_error=1e-2, measure=Divergence(2.0), num_samples=12, num_views=3, unit_rows=4,
                          keep_top1=bool(keeps_top1))  # fmt: skip
    codec = calibrate(targets_VRC, wanted, name).codec
    root = tmp_path_factory.mktemp("built") / f"{request.param}.zarr"
    build_at(root, codec, max_kl=1e-2)
    return root


@pytest.fixture(scope="module", params=["klt-maps", "sqrt-p", "int8", "fp16"])
def built_maps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("maps") / f"{request.param}.zarr"
    with targets_of(MAPS) as shape:
        targets = np.concatenate([unit_targets(0, seed) for seed in range(4)], axis=1)
        wanted = CodecRequest(
            max_error=1e-2, measure=Divergence(2.0), num_samples=12, num_views=3, unit_rows=4, shape=shape
        )
        build_at(root, calibrate(targets, wanted, request.param).codec, max_kl=1e-2)
    return root


@pytest.fixture(
    scope="module",
    params=[(FEATURE_ROWS, "klt"), (FEATURE_ROWS, "int8"), (FEATURE_MAPS, "klt-maps"), (FEATURE_MAPS, "fp16")],
    ids=lambda param: f"{param[0].target}-{param[1]}",
)
def built_features(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TargetShape, Path]:
    shape, codec = request.param
    root = tmp_path_factory.mktemp("features") / f"{codec}.zarr"
    with targets_of(shape):
        targets = np.concatenate([unit_targets(0, seed) for seed in range(4)], axis=1)
        wanted = CodecRequest(
            max_error=1e-3, measure=CosineDistance(), num_samples=12, num_views=3, unit_rows=4, shape=shape
        )
        build_at(root, calibrate(targets, wanted, codec).codec, max_kl=1e-3)
    return shape, root


@pytest.mark.parametrize("reader", READERS)
def test_features_come_back_whole_by_the_same_formulas(built_features: tuple[TargetShape, Path], reader: str) -> None:
    shape, root = built_features
    outside = Outside(root, READERS[reader])
    features = (SCHEMES | {"klt-maps": klt_maps})[root.stem](outside)
    store = Store.open(root)
    assert store.manifest.certificate["cosine_distance_mean"] <= 1e-3
    for unit, view in itertools.product(range(3), range(3)):
        expected = features[view, unit * 4 : unit * 4 + 4]
        np.testing.assert_allclose(store.read_targets(unit, view), expected, rtol=2e-5, atol=2e-5)
        with targets_of(shape):
            teachers, ok = unit_targets(unit)[view], ok_rows(unit)
        lengths = np.linalg.norm(teachers[ok], axis=-1) / np.linalg.norm(expected[ok], axis=-1)
        np.testing.assert_allclose(lengths, 1, atol=0.1)


@pytest.mark.parametrize("reader", READERS)
def test_the_same_formulas_hold_for_every_cell_of_a_map(built_maps: Path, reader: str) -> None:
    outside = Outside(built_maps, READERS[reader])
    height, width = outside.attributes("")["reinforce"]["map"]
    logits_VRNC = (SCHEMES | {"klt-maps": klt_maps})[built_maps.stem](outside)
    store = Store.open(built_maps)
    assert store.manifest.certificate["kl_mean"] <= 1e-2
    assert logits_VRNC.shape[2] == height * width == 6
    for unit in range(3):
        for view in range(3):
            expected = logits_VRNC[view, unit * 4 : unit * 4 + 4]
            np.testing.assert_allclose(store.read_targets(unit, view), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("reader", READERS)
def test_the_documented_formulas_give_equal_values(built: Path, reader: str) -> None:
    outside = Outside(built, READERS[reader])
    name, _, keeps_top1 = built.stem.partition("+")
    logits_VRC = SCHEMES[name](outside)
    if keeps_top1:
        logits_VRC = with_top1(outside, logits_VRC)
        assert outside["targets/top1"].any()
    store = Store.open(built)
    assert store.manifest.certificate["kl_mean"] <= 1e-2
    for unit in range(3):
        for view in range(3):
            expected = logits_VRC[view, unit * 4 : unit * 4 + 4]
            np.testing.assert_allclose(store.read_targets(unit, view), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("reader", READERS)
def test_the_samples_are_the_same_for_every_reader(built: Path, reader: str) -> None:
    outside, store = Outside(built, READERS[reader]), Store.open(built)
    assert np.array_equal(outside["samples/sha64"], store.sha64())
    assert np.array_equal(outside["samples/state"], store.states())


def test_arrays_of_every_kind_read_alike(tmp_path, every_axis):
    root = build_at(tmp_path / "x.zarr", EveryAxisCodec(np.linspace(-1, 1, 5), 16)).root
    group = zarr.open_group(root, mode="r", zarr_format=3)
    about, targets = group.attrs["reinforce"], group["targets"]
    assert (about["format"], about["target"], about["views"], about["classes"]) == (1, "logits", 3, 5)
    steps = np.repeat(targets["steps"][:], 4, 1)[..., None]
    logits_VRC = (targets["means"][:][None, :, None] + steps * targets["codes"][:] + group["codec/prior"][:]).astype(
        "f4"
    )
    store = Store.open(root)
    for unit in range(3):
        for view in range(3):
            assert np.array_equal(logits_VRC[view, unit * 4 : unit * 4 + 4], store.read_targets(unit, view))


@pytest.mark.parametrize("reader", READERS)
def test_the_chunks_of_a_view_are_one_range_of_a_shard(tmp_path: Path, reader: str) -> None:
    layout = ArrayLayout(path="codes", dtype="uint8", shape=(5, 12, 14), shard_shape=(5, 6, 14), chunk_shape=(1, 6, 2))
    values = np.random.default_rng(0).integers(0, 7, layout.shape, np.uint8)
    objects = LocalObjects(tmp_path)
    for path, data in {layout.metadata_path: layout.metadata(), **encode_array(layout, values)}.items():
        objects.put_new(path, data)
        if path != layout.metadata_path:
            starts, lengths = parse_index(layout, data[-index_bytes(layout) :], len(data)).T.astype(int)
            assert (starts == np.cumsum(lengths) - lengths).all()
    assert np.array_equal(READERS[reader](tmp_path / "codes"), values)


def test_zarr_alone_reads_samples_and_probes(finished_store):
    samples = zarr.open_group(finished_store, mode="r", zarr_format=3)["samples"]
    text, offsets = samples["key_bytes"][:].tobytes(), samples["key_offsets"][:]
    keys = [text[a:b] for a, b in pairwise(offsets)]
    assert keys == [key.encode("utf-8", "surrogateescape") for key in KEYS]
    assert samples["state"][:].tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 0, 2, 0, 0]
    assert samples["width"][:].tolist() == [10 * n + 1 for n in range(10)]
    assert zarr.open_group(finished_store, mode="r")["probes/pixels"].shape == (2, 4, 4, 3)


def test_the_manifest_can_be_checked_without_us(finished_store):
    data = (finished_store / "manifest.json").read_bytes()
    manifest = json.loads(data)
    without_digest = re.sub(rb'"digest":"[0-9a-f]{64}",', b"", data, count=1)
    assert hashlib.sha256(without_digest).hexdigest() == manifest["digest"]
    files = {path for path in finished_store.rglob("*") if path.is_file() and path.name != "manifest.json"}
    assert {finished_store / path for path in manifest["objects"]} == files
    for path, entry in manifest["objects"].items():
        content = (finished_store / path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"])


def test_the_documented_snippet_runs(tmp_path, monkeypatch):
    guide = (Path(__file__).parents[2] / "docs" / "store-format.md").read_text(encoding="utf-8")
    snippet = guide.split("```python\n")[1].split("```")[0].replace("unit, U = 0, 5,", "unit, U = 0, 2,")
    build_at(tmp_path / "X.zarr", Int8Codec())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(snippet, names)
    expected = Store.open("X.zarr").read_targets(2, 0)[[0, 2, 3]]
    assert np.array_equal(names["logits"], expected)


def test_every_codec_is_documented():
    guide = (Path(__file__).parents[2] / "docs" / "store-format.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in guide for name in CODECS)
