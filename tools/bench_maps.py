"""What maps of logits cost: bytes against KL per pixel, and the time to encode and decode them, beside plain fp16.

    python tools/bench_maps.py --teacher runs/teacher --transfer scenes/train            # a table
    python tools/bench_maps.py ... --image-size 512 --images 24 --json

The codec is fitted on three quarters of the images and measured on the last, through the objects of a store. `share` is
of raw float32; KL is per pixel after upsampling; times are CPU time, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from reinforce import catalog
from reinforce.data import open_source
from reinforce.errors import UsageError
from reinforce.store import (
    CodecRequest,
    Divergence,
    FidelityStats,
    Promise,
    Schema,
    TargetCodec,
    TargetShape,
    calibrate,
    codec_record,
    decode_unit,
    encode_within,
)
from reinforce.teacher import Teacher
from reinforce.views import UnitReplayer, named_policy

CODECS = ("klt-maps", "sqrt-p", "int8", "fp16")
REPEATS = 3
Maps = NDArray[np.float32]
"""(V, R, N, C)"""


@dataclass(frozen=True, kw_only=True)
class Point:
    codec: str
    promised_kl: float
    kl: float
    share: float
    """Of raw float32."""
    bytes_per_view: float
    top1_agreement: float
    encode_ms: float
    """A view, on one core, the measuring of its fidelity included."""
    decode_per_second: float
    """Views a second, on one core."""


def teacher_maps(teacher: Teacher, transfer: str, size_px: int, num_images: int, num_views: int) -> tuple[Maps, float]:
    """Maps of views of images spread over a set, and the teacher's seconds a view."""
    source = open_source(str(catalog.resolve_data(transfer).path))
    places = [(shard, row) for shard, one in enumerate(source.shards) for row in range(len(one.keys))]
    chosen = [places[i] for i in np.unique(np.linspace(0, len(places) - 1, num_images).astype(int)).tolist()]
    keys = [source.shards[shard].keys[row] for shard, row in chosen]
    policy = named_policy("segmentation", size_px=size_px)
    replayer = UnitReplayer(policy, keys, partial(_read, source, chosen), 64 << 20)
    maps, seconds = [], 0.0
    for row in range(len(keys)):
        views = np.stack([replayer.view(row, view) for view in range(num_views)])
        started = time.process_time()
        maps.append(teacher.targets(views))
        seconds += time.process_time() - started
        print(f"\r{row + 1} of {len(keys)} images", end="", file=sys.stderr)
    print(file=sys.stderr)
    return np.stack(maps, axis=1), seconds / (len(keys) * num_views)


def _read(source: Any, places: list[tuple[int, int]], row: int) -> bytes:
    data: bytes = source.read(*places[row])
    return data


def measure(name: str, maps: Maps, max_kl: float, shape: TargetShape, policy: dict[str, Any]) -> Point | None:
    """One codec, fitted on the first three quarters of the images, on a unit of the last; None where it cannot."""
    num_views, num_images = maps.shape[:2]
    cut = num_images * 3 // 4
    held_out = np.ascontiguousarray(maps[:, cut:])
    request = CodecRequest(max_error=max_kl, measure=Divergence(1.0), num_samples=10**6, num_views=num_views,
                           unit_rows=held_out.shape[1], shape=shape)  # fmt: skip
    try:
        codec = calibrate(np.ascontiguousarray(maps[:, :cut]), request, name).codec
    except UsageError as error:
        print(error, file=sys.stderr)
        return None
    schema = schema_of(codec, held_out, shape, policy, request.zstd_level)
    ok = np.ones(held_out.shape[1], np.bool_)
    encoded = encode_within(schema, codec, 0, held_out, ok, Promise(max_error=max_kl))
    encode_seconds = seconds(lambda: encode_within(schema, codec, 0, held_out, ok, Promise(max_error=max_kl)))
    decode_seconds = seconds(lambda: decode_unit(schema, codec, 0, encoded.contents))
    count = num_views * held_out.shape[1]
    fidelity: FidelityStats = encoded.fidelity
    return Point(
        codec=name,
        promised_kl=max_kl,
        kl=fidelity.mean,
        share=encoded.num_bytes / held_out.nbytes,
        bytes_per_view=encoded.num_bytes / count,
        top1_agreement=fidelity.top1_agreement,
        encode_ms=1e3 * encode_seconds / count,
        decode_per_second=count / decode_seconds,
    )


def schema_of(codec: TargetCodec, maps: Maps, shape: TargetShape, policy: dict[str, Any],
              zstd_level: int) -> Schema:  # fmt: skip
    """Of a store of one unit, with these maps."""
    num_views, num_rows, _, num_classes = maps.shape
    return Schema.from_plan({
        "format": 1, **shape.to_json(), "views": num_views, "unit_rows": num_rows, "num_samples": num_rows,
        "units": [[0, 0, num_rows]], "classes": num_classes, "class_names": [f"c{i}" for i in range(num_classes)],
        "policy": policy, "codec": codec_record(codec, zstd_level),
        "promise": Promise(max_error=1.0).to_json(Divergence(1.0)),
        "transfer": {"name": "maps", "digest": "0" * 64, "shards": []},
    })  # fmt: skip


def mean_top_p(maps: Maps) -> float:
    """How sure the teacher is: the mean over cells of the likeliest class's probability."""
    below = maps - maps.max(axis=-1, keepdims=True)
    return float((1 / np.exp(below).sum(axis=-1)).mean())


def peer_share(maps: Maps) -> float:
    """float16, a plane a class, zstd's level 3: what anybody would write first."""
    held_out = maps[:, maps.shape[1] * 3 // 4 :].astype(np.float16)
    return len(Zstd(3).encode(np.ascontiguousarray(np.moveaxis(held_out, -1, 2)))) / (2 * held_out.nbytes)


def seconds(action: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPEATS):
        started = time.process_time()
        action()
        taken.append(time.process_time() - started)
    return statistics.median(taken)


def table(points: list[Point]) -> str:
    lines = ["| codec | promised KL | KL | share of fp32 | B/view | top-1 kept | encode, ms/view | decode, views/s |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    lines += [f"| {p.codec} | {p.promised_kl:g} | {p.kl:.1e} | {100 * p.share:.2f} % | {p.bytes_per_view:,.0f} | "
              f"{100 * p.top1_agreement:.1f} % | {p.encode_ms:.2f} | {p.decode_per_second:,.0f} |"
              for p in points]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--transfer", required=True)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    teacher = Teacher(args.teacher, device="cpu", dtype="auto", threads=torch.get_num_threads(),
                      batch_size=args.views, image_size=args.image_size)  # fmt: skip
    size_px = teacher.info.image_size
    maps, teacher_seconds = teacher_maps(teacher, args.transfer, size_px, args.images, args.views)
    shape, policy = teacher.target_shape(size_px), named_policy("segmentation", size_px=size_px).to_json()
    torch.set_num_threads(1)
    points = [point for kl in (1e-2, 1e-3) for name in CODECS
              if (point := measure(name, maps, kl, shape, policy)) is not None]  # fmt: skip
    facts = {"map": list(shape.item_shape), "size_px": size_px, "teacher_ms": 1e3 * teacher_seconds,
             "mean_top_p": mean_top_p(maps), "fp16_zstd_share": peer_share(maps)}  # fmt: skip
    if args.json:
        print(json.dumps(facts | {"points": [asdict(point) for point in points]}, indent=1))
    else:
        print(facts, table(points), sep="\n")


if __name__ == "__main__":
    main()
