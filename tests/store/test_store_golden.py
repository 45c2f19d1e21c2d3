"""The bytes of a fixed store: a difference is a change of format 1, or of the compressor. Never accept it unseen."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import pytest
from tiny_stores import build_at, contents_of

from reinforce.store.codecs import Fp16Codec, Int8Codec
from reinforce.store.reader import Store
from reinforce.store.verify import verify

GOLDEN = Path(__file__).parent / "golden.json"


@pytest.mark.parametrize("codec", [Fp16Codec(), Int8Codec()], ids=lambda codec: codec.name)
def test_store_bytes_are_pinned(tmp_path, codec):
    golden = json.loads(GOLDEN.read_text())
    root = tmp_path / "x.zarr"
    build_at(root, codec)
    found = {path: hashlib.sha256(data).hexdigest() for path, data in contents_of(root).items()}
    for path in (
        "units.json",
        "manifest.json",
    ):  # fidelity is measured in floating point: last digits differ by machine
        assert found.pop(path)
    if version("numcodecs") != golden["numcodecs"]:  # another zstd may pack otherwise; what it means may not change
        found = {path: digest for path, digest in found.items() if path.endswith("zarr.json") or path == "plan.json"}
    expected = golden["stores"][codec.name]
    assert {path: expected.get(path) for path in found} == found
    assert version("numcodecs") != golden["numcodecs"] or found == expected


def test_the_stored_golden_store_of_format_1_stays_readable():
    root = Path(__file__).parent / "golden-format-1"
    store = Store.open(root)
    assert verify(root, "full").ok
    assert store.manifest.digest == json.loads(GOLDEN.read_text())["manifest_digest"]
    digest = hashlib.sha256(b"".join(store.read_targets(u, v).tobytes() for u in range(3) for v in range(3)))
    assert digest.hexdigest() == json.loads(GOLDEN.read_text())["decoded"]
