"""A store is plain Zarr: this reads one with zarr-python and the formulas of docs/store-format.md alone.

(`tiny_stores` only writes it, and `Store` only says what is expected.)
"""

from __future__ import annotations

import hashlib
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from tiny_stores import KEYS, EveryAxisCodec, build_at, unit_targets

from reinforce.store.codecs import CODECS, CodecRequest, Fp16Codec, Int8Codec, calibrate
from reinforce.store.reader import Store


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


def klt(targets: zarr.Group, codec: zarr.Group) -> np.ndarray:
    parameters, unit_rows = targets.attrs["parameters"], 4
    digits = digits_of(targets["codes"][:], parameters["digits"]).astype(np.float64)
    if parameters["image_digits"] is not None:
        digits += digits_of(targets["image_codes"][:], parameters["image_digits"])
    steps = np.repeat(targets["steps"][:], unit_rows)[:, None]
    return codec["mean"][:] + steps * digits @ (codec["basis"][:] * codec["scales"][:][:, None])


def sqrt_p(targets: zarr.Group) -> np.ndarray:
    codes, steps = targets["codes"][:].astype(np.float64), np.repeat(targets["steps"][:], 4)[:, None]
    zeros = (codes == 0).sum(-1, keepdims=True)
    tail = np.where(zeros > 0, 2 ** (-targets["tails"][:][..., None].astype(np.float64) / 8), 0)
    body = (codes * steps) ** 2
    p = body / body.sum(-1, keepdims=True) * (1 - tail)
    return targets.attrs["parameters"]["temperature"] * np.log(np.where(codes == 0, tail / np.maximum(zeros, 1), p))


def top_k(targets: zarr.Group) -> np.ndarray:
    log_p, classes = targets["log_p"][:].astype(np.float64), targets["classes"][:].astype(int)
    num_classes = targets.attrs["parameters"]["num_classes"]
    rest = 1 - np.exp(log_p).sum(-1)
    others = np.maximum(np.log(np.maximum(rest, 1e-30) / max(1, num_classes - log_p.shape[-1])), -60)
    logits = np.repeat(others[..., None], num_classes, axis=-1)
    np.put_along_axis(logits, classes, log_p, axis=-1)
    return targets.attrs["parameters"]["temperature"] * logits


def with_spilled(targets: zarr.Group, logits: np.ndarray) -> np.ndarray:
    steps = targets["spill_steps"][:].astype(np.float32)[..., None]
    return np.where(steps > 0, targets["spill_codes"][:].astype(np.float32) * steps, logits)


SCHEMES = {
    "klt": lambda targets, codec: with_spilled(targets, klt(targets, codec)),
    "sqrt-p": lambda targets, codec: with_spilled(targets, sqrt_p(targets)),
    "top-k": lambda targets, codec: with_spilled(targets, top_k(targets)),
}


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("max_kl", [1e-1, 1e-3])
def test_the_documented_formulas_give_equal_values(tmp_path, name, max_kl):
    targets_VRC = np.concatenate([unit_targets(unit) for unit in range(3)], axis=1)
    request = CodecRequest(max_kl=max_kl, temperature=2.0, num_samples=12, num_views=3, unit_rows=4)
    codec = calibrate(targets_VRC[:, [*range(6), 8, *range(10, 12)]], request, name)
    root = build_at(tmp_path / "x.zarr", codec, max_kl=max_kl).root
    group = zarr.open_group(root, mode="r", zarr_format=3)
    logits_VRC = SCHEMES[name](group["targets"], group.get("codec"))
    store = Store.open(root)
    assert store.manifest.certificate["kl_mean"] <= max_kl
    for unit in range(3):
        for view in range(3):
            expected = logits_VRC[view, unit * 4 : unit * 4 + 4]
            np.testing.assert_allclose(store.read_targets(unit, view), expected, rtol=2e-5, atol=2e-5)


FORMULAS = {
    "fp16": lambda get, prior: get("values").astype(np.float32),
    "int8": lambda get, prior: get("codes").astype(np.float32) * get("steps").astype(np.float32)[..., None],
    "every-axis": lambda get, prior: (
        np.repeat(get("means"), 1)[None, :, None] + np.repeat(get("steps"), 4, 1)[..., None] * get("codes") + prior
    ).astype(np.float32),
}


@pytest.mark.parametrize(
    "codec", [Fp16Codec(), Int8Codec(), EveryAxisCodec(np.linspace(-1, 1, 5), 16)], ids=["fp16", "int8", "every axis"]
)
def test_zarr_alone_gets_equal_values(tmp_path, codec, every_axis):
    root = build_at(tmp_path / "x.zarr", codec).root
    group = zarr.open_group(root, mode="r", zarr_format=3)
    about = group.attrs["reinforce"]
    assert (about["format"], about["target"], about["views"], about["classes"]) == (1, "logits", 3, 5)
    targets = group["targets"]
    name = targets.attrs["codec"]
    prior = group["codec/prior"][:] if "codec" in group else None
    logits_VRC = FORMULAS[name](lambda array: targets[array][:], prior)
    store = Store.open(root)
    for unit in range(3):
        for view in range(3):
            assert np.array_equal(logits_VRC[view, unit * 4 : unit * 4 + 4], store.read_targets(unit, view))


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
