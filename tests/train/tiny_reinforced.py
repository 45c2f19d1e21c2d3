"""A store over small coloured images, with a teacher that anyone can compute: 3 views, 4 units, 3 classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from reinforce.data import freeze, hash64, open_source
from reinforce.errors import UndecodableImageError
from reinforce.store.codecs import Fp16Codec, codec_record
from reinforce.store.fidelity import FidelityStats
from reinforce.store.finalize import finalize
from reinforce.store.marker import SkippedRow, commit_unit
from reinforce.store.measures import Divergence
from reinforce.store.objects import LocalObjects
from reinforce.store.schema import Schema
from reinforce.store.writer import SampleColumns, create_store, decode_unit, encode_unit, write_probes
from reinforce.views import UnitReplayer, make_fingerprint, named_policy

NUM_VIEWS, UNIT_ROWS, SIZE_PX = 3, 16, 24
CLASS_NAMES = ("blue", "green", "red")
Teacher = Callable[[np.ndarray], np.ndarray]


def teach(view_SS3: np.ndarray) -> np.ndarray:
    """(3,) logits: how far each channel's mean is over the others'."""
    blue_green_red = view_SS3.reshape(-1, 3).mean(axis=0)[::-1]
    return ((blue_green_red - blue_green_red.mean()) / 16).astype(np.float32)


def teach_contrast(view_SS3: np.ndarray) -> np.ndarray:
    """(3,) logits of another teacher: how much each channel varies."""
    blue_green_red = view_SS3.reshape(-1, 3).std(axis=0)[::-1]
    return ((blue_green_red - blue_green_red.mean()) / 4).astype(np.float32)


def write_images(folder: Path, count: int = 60) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(1)
    for index in range(count):
        colour = rng.integers(20, 230, 3)
        pixels = np.clip(colour + rng.normal(0, 20, (30, 34, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return folder


def build_store(path: Path, images: Path, temperature: float = 1.0, *, teacher: Teacher = teach, seed: int = 11,
                views: int = NUM_VIEWS, class_names: tuple[str, ...] = CLASS_NAMES, unit_rows: int = UNIT_ROWS,
                ) -> Path:  # fmt: skip
    source = open_source(str(images))
    listing = freeze(source)
    policy = named_policy("classification", size_px=SIZE_PX, seed=seed)
    num_samples = len(listing.keys)
    units = [(0, start, min(start + unit_rows, num_samples)) for start in range(0, num_samples, unit_rows)]
    codec = Fp16Codec()
    per_shard = zip(listing.shard_names, listing.shard_sizes, listing.shard_digests, strict=True)
    shards = [{"name": name, "samples": size, "digest": digest} for name, size, digest in per_shard]
    plan = {
        "format": 1,
        "target": "logits",
        "views": views,
        "unit_rows": unit_rows,
        "units": [list(unit) for unit in units],
        "num_samples": num_samples,
        "classes": len(CLASS_NAMES),
        "class_names": list(class_names),
        "policy": policy.to_json(),
        "teacher": {"name": teacher.__name__, "architecture": "none", "weights_sha256": "0" * 64},
        "transfer": {"name": "coloured", "digest": listing.digest, "shards": shards},
        "codec": codec_record(codec),
        "promise": {"max_kl": 1e-3, "temperature": temperature},
        "environment": {},
        "batch_size": 8,
        "batch_rows": 8,
    }
    objects = LocalObjects(path)
    columns = SampleColumns(keys=listing.keys, sha64=listing.sha64, width=listing.width, height=listing.height)
    schema = create_store(objects, plan, codec, columns)
    loads = [partial(lambda first, row: source.read(0, first + row), start) for _, start, _ in units]
    rows = [(unit, listing.keys[start:stop], loads[unit]) for unit, (_, start, stop) in enumerate(units)]
    fingerprint = make_fingerprint(policy, rows, num_views=views, num_probes=8, num_kept=2)
    write_probes(objects, fingerprint.kept, fingerprint.to_json())
    for unit, keys, load in rows:
        commit(objects, schema, codec, unit, UnitReplayer(policy, keys, load), temperature, teacher)
    finalize(objects, plan)
    assert hash64(source.read(0, 0)) == int(listing.sha64[0])
    return path


def commit(objects: LocalObjects, schema: Schema, codec: Fp16Codec, unit: int, replayer: UnitReplayer,
           temperature: float, teacher: Teacher) -> None:  # fmt: skip
    targets_VUC = np.zeros(schema.unit_shape, np.float32)
    ok_U, skipped = np.zeros(schema.unit_rows, bool), []
    for row, key in enumerate(replayer.keys):
        try:
            targets_VUC[:, row] = [teacher(replayer.view(row, view)) for view in range(schema.num_views)]
            ok_U[row] = True
        except UndecodableImageError as error:
            skipped.append(SkippedRow(row, key, str(error)))
    contents = encode_unit(schema, codec, unit, targets_VUC)
    decoded_VUC = decode_unit(schema, codec, unit, contents)
    wanted, stored = (a[:, ok_U].reshape(-1, len(CLASS_NAMES)) for a in (targets_VUC, decoded_VUC))
    commit_unit(objects, schema, unit, contents, FidelityStats.of(wanted, stored, Divergence(temperature)), skipped)
