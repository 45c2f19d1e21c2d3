"""Fuzzes what reads stores: no bytes may do more than raise a StoreError of one line.

    python tools/fuzz_store.py --list
    python tools/fuzz_store.py store -max_total_time=120 -rss_limit_mb=2048 -timeout=20

Coverage-guided with atheris (pip install 'reinforce-vision[fuzz]'); further arguments are libFuzzer's. A target is a
function of bytes: tests/store/test_fuzz_reader.py drives the same ones with hypothesis. Inputs are read as decisions
(which object, which kind of damage, where), so that few of them are spent on what checksums stop: a damaged object gets
its checksums and hashes made right again.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from reinforce.errors import StoreError
from reinforce.store import Manifest, ObjectExistsError, Schema, Store, canonical_json, verify
from reinforce.store.canonical import parse_object, sha256_hex
from reinforce.store.codecs import TargetCodec, check_calibration, decode_finite, load_codec
from reinforce.store.layout import ArrayLayout
from reinforce.store.shard import chunk_range, decode_chunk, index_bytes, parse_index

T = TypeVar("T")
GOLDEN = Path(__file__).parent.parent / "tests/store/golden-format-1"
CODEC_NAMES = ("fp16", "int8", "klt", "sqrt-p", "top-k")
NUMBERS = (0, 1, 2, 3, 5, 127, 255, 1 << 15, 1 << 19, 1 << 20, 1 << 25, 1 << 31, 1 << 40, 1 << 62, 1 << 64, 10**400)
VALUES: tuple[Any, ...] = (
    None, True, False, "", "x", "..", "/etc/passwd", "0" * 64, "float64", "object", "klt", "\ud800", [], {}, [[]],
    [0], {"a": 1}, 0.5, -0.5, 1e308, 1e-320, *NUMBERS, *(-number for number in NUMBERS),
)  # fmt: skip


class MemoryObjects:
    """A store in memory; see `reinforce.store.Objects`."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents, self.name = contents, "memory"

    def put_new(self, path: str, data: bytes) -> None:
        if path in self.contents:
            raise ObjectExistsError(path)
        self.contents[path] = data

    def get(self, path: str) -> bytes:
        if path not in self.contents:
            raise FileNotFoundError(path)
        return self.contents[path]

    def get_range(self, path: str, start: int, length: int) -> bytes:
        return self.get(path)[start : start + length]

    def size(self, path: str) -> int:
        return len(self.get(path))

    def exists(self, path: str) -> bool:
        return path in self.contents

    def list(self) -> Iterator[tuple[str, int]]:
        yield from [(path, len(data)) for path, data in self.contents.items()]

    def delete(self, path: str) -> None:
        self.contents.pop(path, None)


class Choices:
    """Decisions drawn from bytes; zeros once they are used up."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def below(self, count: int) -> int:
        """0..count-1; small counts take a byte, larger ones three."""
        length = 1 if count <= 256 else 3
        number = int.from_bytes(self.data[self.at : self.at + length].ljust(length, b"\0"), "little")
        self.at += length
        return number % count

    def one(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def some(self, count: int) -> bytes:
        """Up to `count` bytes."""
        self.at += count
        return self.data[self.at - count : self.at]


def damaged_bytes(choices: Choices, data: bytes) -> bytes:
    """Flip, overwrite, cut, splice, repeat or grow, one to three times."""
    for _ in range(1 + choices.below(3)):
        at, kind = choices.below(len(data) + 1), choices.below(6)
        if kind == 0 and at < len(data):
            data = data[:at] + bytes((data[at] ^ (1 << choices.below(8)),)) + data[at + 1 :]
        elif kind == 1:
            new = choices.some(1 + choices.below(16))
            data = data[:at] + new + data[at + len(new) :]
        elif kind == 2:
            data = data[:at]
        elif kind == 3:
            data = data[:at] + data[choices.below(len(data) + 1) :]
        elif kind == 4:
            data = data[:at] + choices.some(1 + choices.below(32)) + data[at:]
        else:
            data = data + data[at : at + choices.below(64)]
    return data


def damaged_json(choices: Choices, document: Any) -> Any:
    """A copy in which one to three members are replaced, deleted, doubled or moved."""
    document = copy.deepcopy(document)
    for _ in range(1 + choices.below(3)):
        parent, key = _place(choices, document)
        if parent is None:
            continue
        kind = choices.below(4)
        if kind == 0:
            parent[key] = copy.deepcopy(choices.one(VALUES))
        elif kind == 1:
            del parent[key]
        elif kind == 2 and type(parent[key]) is int:
            parent[key] += choices.one((1, -1, 255, 1 << 20))
        else:
            other, other_key = _place(choices, document)
            parent[key] = copy.deepcopy(other[other_key]) if other is not None else None
    return document


def _place(choices: Choices, document: Any) -> tuple[Any, Any]:
    """A random container and a key in it; (None, None) in an empty document."""
    parent, key, node = None, None, document
    while isinstance(node, (dict, list)) and node and (parent is None or choices.below(4)):
        parent = node
        key = choices.one(sorted(node)) if isinstance(node, dict) else choices.below(len(node))
        node = node[key]
    return parent, key


def damaged_values(choices: Choices, values: NDArray[Any]) -> NDArray[Any]:
    """An array of the same kind, of other values."""
    data = bytearray(values.tobytes())
    for _ in range(1 + choices.below(8)):
        at, new = choices.below(len(data)), choices.some(1 + choices.below(8))
        data[at : at + len(new)] = new
    return np.frombuffer(bytes(data[: values.nbytes].ljust(values.nbytes, b"\0")), values.dtype).reshape(values.shape)


def sealed(body: bytes) -> bytes:
    """With its CRC-32C."""
    checksum: int = google_crc32c.value(body)
    return body + checksum.to_bytes(4, "little")


def resigned(contents: dict[str, bytes]) -> dict[str, bytes]:
    """A store's objects with a manifest that lists them as they are."""
    document = json.loads(contents["manifest.json"])
    listed = {path: data for path, data in contents.items() if path != "manifest.json"}
    document["objects"] = {path: {"bytes": len(data), "sha256": sha256_hex(data)} for path, data in listed.items()}
    return contents | {"manifest.json": signed_manifest(document)}


def signed_manifest(document: Any) -> bytes:
    """With the plan's hash and the digest made right."""
    if isinstance(document, dict):
        objects = document.get("objects")
        plan = objects.get("plan.json") if isinstance(objects, dict) else None
        if isinstance(plan, dict) and "plan_digest" in document and isinstance(plan.get("sha256"), str):
            document["plan_digest"] = plan["sha256"]
        document.pop("digest", None)
        document["digest"] = sha256_hex(canonical_json(document))
    return canonical_json(document)


def golden(name: str) -> dict[str, bytes]:
    """Objects of the golden store of a codec."""
    root = GOLDEN / name
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


STORES = {name: golden(name) for name in CODEC_NAMES}
PLANS = {name: json.loads(STORES[name]["plan.json"]) for name in CODEC_NAMES}
MANIFESTS = {name: json.loads(STORES[name]["manifest.json"]) for name in CODEC_NAMES}


def loaded(contents: dict[str, bytes]) -> Store:
    return Store.open(MemoryObjects(contents))


def read_all(store: Store) -> list[Any]:
    """Everything that a reader may ask for."""
    arrays: list[NDArray[Any]] = [store.states(), store.sha64(), store.image_sizes()]
    arrays += [store.read_targets(unit, view) for unit in range(store.num_units) for view in range(store.num_views)]
    if (probes := store.probes()) is not None:
        arrays.append(probes[1])
    return [*(array.tobytes() for array in arrays), store.keys(0, store.num_samples)]


VALUES_OF = {name: read_all(loaded(STORES[name])) for name in CODEC_NAMES}
LAYOUTS = {name: {layout.path: layout for layout in loaded(STORES[name]).layouts()} for name in CODEC_NAMES}


def check_line(error: Exception) -> None:
    if "\n" in str(error) or len(str(error)) > 2000:
        raise AssertionError(f"not one line: {error!r}")


def fuzz_manifest(data: bytes) -> None:
    choices = Choices(data)
    document = MANIFESTS[choices.one(CODEC_NAMES)]
    try:
        if choices.below(4) == 0:
            Manifest.parse(damaged_bytes(choices, canonical_json(document)))
        else:
            manifest = Manifest.parse(signed_manifest(damaged_json(choices, document)))
            assert Manifest.parse(manifest.to_bytes()) == manifest
    except StoreError as error:
        check_line(error)


def fuzz_plan(data: bytes) -> None:
    choices = Choices(data)
    plan = damaged_json(choices, PLANS[choices.one(CODEC_NAMES)])
    try:
        schema = Schema.from_plan(parse_object(canonical_json(plan), "plan.json"))
        shapes = {name: shape for name, (_, shape, _) in schema.calibration.items()}
        check_calibration(schema.codec_name, schema.codec_parameters, shapes, schema.num_channels)
        schema.sample_layouts(17), schema.calibration_layouts()
    except StoreError as error:
        check_line(error)


def fuzz_layout(data: bytes) -> None:
    choices = Choices(data)
    layouts = LAYOUTS[choices.one(CODEC_NAMES)]
    metadata = layouts[choices.one(sorted(layouts))].metadata()
    raw = choices.below(4) == 0
    changed = damaged_bytes(choices, metadata) if raw else canonical_json(damaged_json(choices, json.loads(metadata)))
    try:
        layout = ArrayLayout.parse("x", changed)
        assert ArrayLayout.parse("x", layout.metadata()) == layout
    except StoreError as error:
        check_line(error)


def fuzz_chunk(data: bytes) -> None:
    """A frame, raw or made of other values, under a right CRC; an index likewise."""
    choices = Choices(data)
    layouts = LAYOUTS[choices.one(CODEC_NAMES)]
    layout = layouts[choices.one(sorted(layouts))]
    body = choices.some(layout.chunk_bytes).ljust(layout.chunk_bytes, b"\0")
    frame = damaged_bytes(choices, Zstd(level=1).encode(body))
    index = damaged_bytes(choices, bytes(index_bytes(layout) - 4))
    try:
        assert decode_chunk(layout, sealed(frame)).shape == layout.chunk_shape
        parse_index(layout, sealed(index), len(index) + 4 + choices.below(1000))
    except ValueError as error:
        check_line(error)


def fuzz_codec(data: bytes) -> None:
    """Parameters and calibration from outside; then a view's arrays of any values."""
    choices = Choices(data)
    name = choices.one(CODEC_NAMES)
    store = loaded(STORES[name])
    calibration = dict(store.codec.calibration())
    parameters: Any = store.codec.parameters()
    if choices.below(2):
        parameters = damaged_json(choices, {"codec": parameters}).get("codec")
    for array in sorted(calibration):
        if choices.below(4) == 0:
            calibration[array] = damaged_values(choices, calibration[array])
    try:
        if not isinstance(parameters, dict):
            return  # Schema refuses it
        shapes = {array: values.shape for array, values in calibration.items()}
        check_calibration(name, parameters, shapes, store.num_channels)
        codec = load_codec(name, parameters, calibration, store.num_channels)
        decode_anything(choices, codec, store)
    except (StoreError, ValueError) as error:
        check_line(error)


def decode_anything(choices: Choices, codec: TargetCodec, store: Store) -> None:
    arrays = {}
    for name, spec in codec.arrays(store.num_channels).items():
        shape = spec.unit_shape(1, store.unit_rows)
        part = np.zeros(shape[1:] if spec.per_view else shape, spec.dtype)
        arrays[name] = damaged_values(choices, part) if part.nbytes else part
    logits = decode_finite(codec, arrays)
    assert logits.shape == (store.unit_rows, store.num_channels)
    assert np.isfinite(logits).all()


def fuzz_store(data: bytes) -> None:
    """One object of a whole store damaged beneath right checksums, hashes and digest."""
    choices = Choices(data)
    name = choices.one(CODEC_NAMES)
    contents = dict(STORES[name])
    path = choices.one(sorted(contents))
    contents[path] = _damaged_object(choices, name, path, contents[path])
    contents = resigned(contents) if path != "manifest.json" else contents
    try:
        read_all(loaded(contents))
    except StoreError as error:
        check_line(error)
    report = verify(MemoryObjects(contents), "full")
    assert all("\n" not in problem for problem in report.problems)


def fuzz_unsigned(data: bytes) -> None:
    """Objects of a store damaged, swapped or dropped as a disk would: the same values, or an error."""
    choices = Choices(data)
    name = choices.one(CODEC_NAMES)
    contents = dict(STORES[name])
    for _ in range(1 + choices.below(3)):
        path, other = choices.one(sorted(contents)), choices.one(sorted(contents))
        kind = choices.below(4)
        if kind == 0:
            contents[path], contents[other] = contents[other], contents[path]
        elif kind == 1 and len(contents) > 1:
            del contents[path]
        else:
            contents[path] = damaged_bytes(choices, contents[path])
    try:
        assert read_all(loaded(contents)) == VALUES_OF[name]
    except StoreError as error:
        check_line(error)


def _damaged_object(choices: Choices, name: str, path: str, data: bytes) -> bytes:
    if choices.below(4) == 0:
        return damaged_bytes(choices, data)
    if path.endswith(".json"):
        document = damaged_json(choices, json.loads(data))
        return signed_manifest(document) if path == "manifest.json" else canonical_json(document)
    layout = LAYOUTS[name][path.partition("/c/")[0]]
    index = parse_index(layout, data[-index_bytes(layout) :], len(data))
    body, entries = b"", []
    for chunk in range(layout.chunks_per_shard):
        start, length = chunk_range(index, chunk)
        frame = data[start : start + length]
        if choices.below(2):
            frame = _damaged_frame(choices, layout, frame)
        entries.append((len(body), len(frame)))
        body += frame
    return body + sealed(np.array(entries, "<u8").tobytes())


def _damaged_frame(choices: Choices, layout: ArrayLayout, frame: bytes) -> bytes:
    values = decode_chunk(layout, frame)
    if choices.below(4) == 0:
        return sealed(damaged_bytes(choices, frame[:-4]))
    return sealed(bytes(Zstd(level=1, checksum=True).encode(damaged_values(choices, values).tobytes())))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "manifest": fuzz_manifest,
    "plan": fuzz_plan,
    "layout": fuzz_layout,
    "chunk": fuzz_chunk,
    "codec": fuzz_codec,
    "store": fuzz_store,
    "unsigned": fuzz_unsigned,
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in TARGETS:
        print("\n".join(TARGETS))
        return 0 if arguments == ["--list"] else 2
    try:
        import atheris
    except ImportError:
        print("fuzzing needs atheris: pip install 'reinforce-vision[fuzz]'", file=sys.stderr)
        return 2
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *arguments[1:]], TARGETS[arguments[0]])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
