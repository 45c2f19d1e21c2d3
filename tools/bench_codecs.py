"""KL against bytes of every codec, through the files of a real store, beside what others keep of a teacher's logits.

    python tools/teacher_logits.py --teacher efficientnet-lite0 --transfer openclipart --views 8 --out runs/flat.npz
    python tools/bench_codecs.py flat=runs/flat.npz ten=runs/ten.npz --out docs/benchmarks

Parameters are fitted on every other image, everything is measured on the rest. Bytes are those of the target arrays'
objects; calibration arrays are stated apart, since a store of millions of views shares them. The others' schemes are
written here from their published descriptions, for comparison only; "packed" is zstd -19 over their columns.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from reinforce.store import Divergence, Schema, TargetCodec, codec_record, decode_unit, encode_unit
from reinforce.store.choose import ROUNDED, CodecRequest, codec_name, families

Array = NDArray[Any]
UNIT_ROWS = 2048
TEMPERATURES = (1.0, 2.0, 4.0)
KNOBS_APART = {"klt": 4, "sqrt-p": 4, "top-k": 1, "int8": 1, "fp16": 1}
LARGEST_KL, SMALLEST_KL = 1.0, 2e-5
FINEST_ROUNDED_KL = 2e-3
"""Rate-distortion rounding is slow, and gains little where steps are fine."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One codec at one setting on one teacher."""

    data: str
    scheme: str
    setting: str
    bytes_per_view: float
    calibration_bytes: int
    kl: dict[str, float]
    """Mean KL(teacher || stored) in nats, by temperature."""
    kl_p99: float
    top1: float
    encode_rows_per_second: float
    decode_rows_per_second: float


def fidelity(logits_VRC: Array, decoded_VRC: Array) -> dict[str, Any]:
    flat = (-1, logits_VRC.shape[-1])
    own, other = logits_VRC.reshape(flat), decoded_VRC.reshape(flat)
    by_row = {t: Divergence(t).errors(own, other) for t in TEMPERATURES}
    return {
        "kl": {f"{t:g}": float(kl.mean()) for t, kl in by_row.items()},
        "kl_p99": float(np.quantile(by_row[1.0], 0.99)),
        "top1": float((own.argmax(1) == other.argmax(1)).mean()),
    }


def measure(data: str, codec: TargetCodec, setting: str, held_out: Array, zstd_level: int) -> Point:
    """Encode and decode one unit of the held-out rows as a store does."""
    logits_VRC = np.ascontiguousarray(held_out[:, :UNIT_ROWS])
    schema = _schema(codec, logits_VRC.shape, zstd_level)
    started = time.perf_counter()
    contents = encode_unit(schema, codec, 0, logits_VRC)
    encoded = time.perf_counter()
    decoded_VRC = decode_unit(schema, codec, 0, contents)
    ended = time.perf_counter()
    rows = logits_VRC.shape[0] * logits_VRC.shape[1]
    shared = sum(len(Zstd(zstd_level).encode(np.ascontiguousarray(a))) for a in codec.calibration().values())
    return Point(data=data, scheme=codec.name, setting=setting, calibration_bytes=shared,
                 bytes_per_view=sum(map(len, contents.values())) / rows,
                 encode_rows_per_second=rows / (encoded - started), decode_rows_per_second=rows / (ended - encoded),
                 **fidelity(logits_VRC, decoded_VRC))  # fmt: skip


def _schema(codec: TargetCodec, shape: Sequence[int], zstd_level: int) -> Schema:
    views, rows, classes = shape
    return Schema.from_plan({
        "format": 1, "target": "logits", "views": views, "unit_rows": rows, "units": [[0, 0, rows]],
        "num_samples": rows, "classes": classes, "class_names": [f"c{i}" for i in range(classes)],
        "codec": codec_record(codec, zstd_level), "promise": {"max_kl": 1.0, "temperature": 1.0}, "policy": {},
        "transfer": {"shards": [{"samples": rows}]},
    })  # fmt: skip


def our_points(data: str, logits_VRC: Array, efforts: Sequence[int]) -> Iterator[Point]:
    fitted_on, held_out = logits_VRC[:, ::2], logits_VRC[:, 1::2]
    for effort in efforts:
        request = CodecRequest(max_error=1, measure=Divergence(1.0), num_samples=10**6, num_views=len(logits_VRC),
                               unit_rows=UNIT_ROWS, effort=effort)  # fmt: skip
        for kind, make in families(fitted_on, request).items():
            if effort > 1 and kind != ROUNDED:
                continue
            family = make()
            for knob in reversed(family.knobs[:: KNOBS_APART[codec_name(kind)]]):
                setting = f"{'' if knob is None else f'{knob:.3g} '}effort {effort}"
                setting += " rounded" if kind == ROUNDED and effort == 1 else ""
                point = measure(data, family.codec(knob), setting, held_out, request.zstd_level)
                if point.kl["1"] <= LARGEST_KL:
                    yield point
                if point.kl["1"] < SMALLEST_KL or (effort > 1 and point.kl["1"] < FINEST_ROUNDED_KL):
                    break


def truncated(logits_VRC: Array, k: int) -> tuple[list[Array], Array]:
    """Top-K: int16 ids and float16 probabilities, what is left spread evenly (TinyViT; FKD's and ml-dr's top-K)."""
    p = _softmax(logits_VRC)
    ids = np.argsort(-p, axis=-1, kind="stable")[..., :k]
    kept = np.take_along_axis(p, ids, axis=-1).astype(np.float16)
    others = p.shape[-1] - k
    rest = np.maximum(1 - kept.astype(np.float64).sum(-1, keepdims=True), 1e-6) / max(1, others)
    decoded = np.repeat(rest, p.shape[-1], axis=-1)
    np.put_along_axis(decoded, ids, np.maximum(kept, np.float16(1e-7)).astype(np.float64), axis=-1)
    return [ids.astype(np.int16), kept], np.log(decoded)


def polynomial_tail(logits_VRC: Array, k: int, exact: int) -> tuple[list[Array], Array]:
    """Ids, `exact` float16 log-probabilities, a cubic in log rank for the others of the K (after DistillKit)."""
    log_p = np.log(np.maximum(_softmax(logits_VRC), 1e-30))
    ids = np.argsort(-log_p, axis=-1, kind="stable")[..., :k]
    kept = np.take_along_axis(log_p, ids, axis=-1)
    basis = np.vander(np.log(np.arange(exact, k) + 1.0), 4)
    coefficients = (kept[..., exact:] @ np.linalg.pinv(basis).T).astype(np.float16)
    head = kept[..., :exact].astype(np.float16)
    fitted = np.concatenate([head.astype(np.float64), coefficients.astype(np.float64) @ basis.T], axis=-1)
    rest = np.maximum(1 - np.exp(fitted).sum(-1, keepdims=True), 1e-6) / max(1, log_p.shape[-1] - k)
    decoded = np.repeat(np.log(rest), log_p.shape[-1], axis=-1)
    np.put_along_axis(decoded, ids, fitted, axis=-1)
    return [_bit_packed(ids, log_p.shape[-1]), head, coefficients], decoded


def peers(num_classes: int) -> dict[str, Callable[[Array], tuple[list[Array], Array]]]:
    found: dict[str, Callable[[Array], tuple[list[Array], Array]]] = {
        "dense fp16": lambda z: ([z.astype(np.float16)], z.astype(np.float16).astype(np.float64)),
        "FKD top-5": lambda z: truncated(z, 5),
        "ml-dr / TinyViT top-10": lambda z: truncated(z, 10),
    }
    if num_classes >= 200:
        found |= {
            "TinyViT top-50": lambda z: truncated(z, 50),
            "TinyViT top-100": lambda z: truncated(z, 100),
            "DistillKit-like 50, 16 exact": lambda z: polynomial_tail(z, 50, 16),
        }
    return found


def peer_points(data: str, logits_VRC: Array) -> Iterator[Point]:
    held_out = logits_VRC[:, 1::2][:, :UNIT_ROWS].astype(np.float64)
    rows = held_out.shape[0] * held_out.shape[1]
    for name, scheme in peers(held_out.shape[-1]).items():
        started = time.perf_counter()
        columns, decoded = scheme(held_out)
        seconds = time.perf_counter() - started
        raw = sum(column.nbytes for column in columns) / rows
        packed = sum(_packed_bytes(column) for column in columns) / rows
        measured = fidelity(held_out, decoded)
        for size, setting in ((raw, "raw"), (packed, "packed")):
            yield Point(data=data, scheme=name, setting=setting, bytes_per_view=size, calibration_bytes=0,
                        encode_rows_per_second=rows / seconds, decode_rows_per_second=0.0, **measured)  # fmt: skip


def _packed_bytes(column_VRK: Array) -> int:
    return sum(len(Zstd(19).encode(np.ascontiguousarray(np.moveaxis(view, 0, -1)))) for view in column_VRK)


def _bit_packed(ids: Array, num_classes: int) -> Array:
    bits = (ids[..., None] >> np.arange(max(1, (num_classes - 1).bit_length()))) & 1
    return np.packbits(bits.reshape(*ids.shape[:-1], -1).astype(np.uint8), axis=-1)


def _softmax(logits: Array) -> Array:
    p = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(p / p.sum(axis=-1, keepdims=True))


def table(points: Sequence[Point]) -> str:
    lines = ["| teacher | scheme | setting | bytes/view | KL T=1 | p99 | KL T=2 | KL T=4 | top-1 | decode rows/s |",
             "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for p in points:
        speed = f"{p.decode_rows_per_second:,.0f}" if p.decode_rows_per_second else ""
        kl_1, kl_2, kl_4 = (f"{p.kl[t]:.2g}" for t in ("1", "2", "4"))
        lines.append(f"| {p.data} | {p.scheme} | {p.setting} | {p.bytes_per_view:.1f} | {kl_1} | {p.kl_p99:.2g} "
                     f"| {kl_2} | {kl_4} | {p.top1:.3f} | {speed} |")  # fmt: skip
    return "\n".join(lines)


def draw(points: Sequence[Point], path: Path) -> None:
    """KL against bytes, both logarithmic, a panel a teacher."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(p.data for p in points))
    figure, axes = plt.subplots(1, len(names), figsize=(5.2 * len(names), 4.4), layout="constrained", squeeze=False)
    for axis, data in zip(axes[0], names, strict=True):
        _panel(axis, [p for p in points if p.data == data])
        axis.set_title(data)
    axes[0][0].set_ylabel("mean KL(teacher || stored), nats, T = 1")
    figure.savefig(path, dpi=110)


def _panel(axis: Any, points: Sequence[Point]) -> None:
    curves = {"klt": "effort 1", "klt, quickly rounded": "effort 1 rounded", "klt, rounded": "effort 2",
              "sqrt-p": "effort 1", "top-k": "effort 1"}  # fmt: skip
    for number, (label, effort) in enumerate(curves.items()):
        name = label.partition(",")[0]
        own = sorted((p.bytes_per_view, p.kl["1"]) for p in points if p.scheme == name and p.setting.endswith(effort))
        if own:
            axis.plot(*zip(*own, strict=True), marker="o", markersize=3, label=label, color=f"C{number}")
    for setting, marker in (("raw", "x"), ("packed", "+")):
        others = [p for p in points if p.setting == setting and p.scheme != "dense fp16"]
        axis.scatter([p.bytes_per_view for p in others], [p.kl["1"] for p in others], marker=marker, color="black",
                     label=f"others, {setting}")  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel="bytes per view", ylim=(SMALLEST_KL, 2))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "logits", nargs="+", metavar="NAME=FILE.npz", help="logits (V, R, C) of tools/teacher_logits.py"
    )
    parser.add_argument("--efforts", default="1,2")
    parser.add_argument("--out", type=Path, required=True,
                        help="folder for codecs.json and codecs.png; other teachers' points in there stay")  # fmt: skip
    args = parser.parse_args()
    points = recorded(args.out / "codecs.json", without=[item.partition("=")[0] for item in args.logits])
    for item in args.logits:
        name, _, path = item.partition("=")
        logits_VRC = np.load(path)["logits"]
        for point in (*peer_points(name, logits_VRC), *our_points(name, logits_VRC, _integers(args.efforts))):
            print(table([point]).splitlines()[-1], flush=True)
            points.append(point)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "codecs.json").write_text(json.dumps([asdict(p) for p in points], indent=1) + "\n")
    draw(points, args.out / "codecs.png")


def recorded(path: Path, without: Sequence[str]) -> list[Point]:
    """Points of an earlier run, but for those of the teachers that are measured anew."""
    found = json.loads(path.read_text()) if path.exists() else []
    return [Point(**item) for item in found if item["data"] not in without]


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
