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
from tiny_stores import KEYS, EveryAxisCodec, build_at

from reinforce.store.codecs import CODECS, Fp16Codec, Int8Codec
from reinforce.store.reader import Store

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
