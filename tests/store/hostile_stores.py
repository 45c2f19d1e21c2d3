"""Stores made to harm, as their own author could make them: changed, and signed again."""

from __future__ import annotations

import json
import tracemalloc

import google_crc32c
import numpy as np
import pytest

from reinforce.errors import StoreError
from reinforce.store.canonical import canonical_json, sha256_hex
from reinforce.store.codecs import array_sha256
from reinforce.store.layout import whole_layout
from reinforce.store.reader import Store
from reinforce.store.verify import verify
from reinforce.store.writer import encode_array

BOUND_BYTES = 100 << 20


def forge(root, changes):
    """Replace objects (None deletes) and sign the store again, as its own author could."""
    document = json.loads((root / "manifest.json").read_bytes())
    for path, data in changes.items():
        if data is None:
            (root / path).unlink()
            del document["objects"][path]
            continue
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
        document["objects"][path] = {"bytes": len(data), "sha256": sha256_hex(data)}
    sign(root, document)


def sign(root, document):
    document["plan_digest"] = document["objects"].get("plan.json", {}).get("sha256", document["plan_digest"])
    document.pop("digest", None)
    document["digest"] = sha256_hex(canonical_json(document))
    (root / "manifest.json").write_bytes(canonical_json(document))


def read_everything(root):
    store = Store.open(root)
    for unit in range(store.num_units):
        for view in range(store.num_views):
            store.read_targets(unit, view)
    store.keys(0, store.num_samples), store.states(), store.sha64(), store.image_sizes(), store.probes()


def assert_one_line(error):
    assert "\n" not in str(error)


def refused(root):
    """The error of opening and reading everything; also that `verify` finds it and that memory stays bounded."""
    tracemalloc.start()
    with pytest.raises(StoreError) as caught:
        read_everything(root)
    assert not verify(root, "full").ok
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    message = str(caught.value)
    assert_one_line(caught.value)
    assert len(message) < 600
    assert peak_bytes < BOUND_BYTES
    return message


def shard_of(frame, *, chunks=3, claim=None):
    """A shard whose chunks are all this frame, with right checksums."""
    body = frame + google_crc32c.value(frame).to_bytes(4, "little")
    index = b"".join((0).to_bytes(8, "little") + (claim or len(body)).to_bytes(8, "little") for _ in range(chunks))
    return body + index + google_crc32c.value(index).to_bytes(4, "little")


def forge_calibration(root, arrays, **lies):
    """Put other calibration arrays into store and plan (None removes one); `lies` is what the plan says of them."""
    plan = json.loads((root / "plan.json").read_bytes())
    changes = {}
    for name, values in arrays.items():
        metadata, chunk = f"codec/{name}/zarr.json", f"codec/{name}/c/{'/'.join('0' * getattr(values, 'ndim', 1))}"
        old = plan["codec"]["arrays"].pop(name, None)
        if old is not None:
            changes |= {metadata: None, f"codec/{name}/c/{'/'.join('0' * len(old['shape']))}": None}
        if values is not None:
            layout = whole_layout(f"codec/{name}", values.dtype.name, values.shape)
            changes |= {metadata: layout.metadata(), **encode_array(layout, values)}
            assert chunk in changes
            record = {"dtype": values.dtype.name, "shape": list(values.shape), "sha256": array_sha256(values)}
            plan["codec"]["arrays"][name] = record | lies
    forge(root, changes | {"plan.json": canonical_json(plan)})


def forge_parameters(root, **parameters):
    """Change parameters of the codec, wherever a store says them."""
    plan = json.loads((root / "plan.json").read_bytes())
    plan["codec"]["parameters"] |= parameters
    group = json.loads((root / "targets/zarr.json").read_bytes())
    group["attributes"]["parameters"] |= parameters
    forge(root, {"plan.json": canonical_json(plan), "targets/zarr.json": json.dumps(group).encode()})


def forge_targets(root, name, values, unit=1):
    """Put other values into a unit's part of a target array: an array of the unit's shape, or one value for all."""
    array = Store.open(root).target_arrays[name]
    shard = tuple(array.layout.shard_shape)
    place = [int(part) for part in array.object_path(unit).partition("/c/")[2].split("/")]
    region = tuple(slice(at * side, (at + 1) * side) for at, side in zip(place, shard, strict=True))
    filled = np.broadcast_to(np.asarray(values, array.layout.numpy_dtype), shard)
    forge(root, encode_array(array.layout, filled, region))
    return array.object_path(unit)
