"""A finished store, opened to be read. Needs numpy, numcodecs and CRC-32C only: neither zarr nor any teacher code.

U = rows of a unit, C = channels, N = samples, K = kept probe views, S = size_px.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import CorruptStoreError
from reinforce.store.codecs import TargetCodec, decode_finite
from reinforce.store.fixed import planned_layouts, wrong_metadata
from reinforce.store.inventory import advice_on, differences
from reinforce.store.layout import ArrayLayout
from reinforce.store.manifest import Manifest, read_manifest
from reinforce.store.measures import Divergence, Measure
from reinforce.store.objects import Objects
from reinforce.store.places import open_objects
from reinforce.store.schema import MAX_KEY_BYTES, PLAN, PROBES, UNITS, Schema, TargetArray
from reinforce.store.shapes import MapShape, TargetShape
from reinforce.store.verified import VerifiedObjects, read_calibration


class Store:
    """Samples, targets and provenance of a finished store; every object is hashed on its first read.

    Picklable: a copy in another process opens the store again, and refuses one that is not the same any more.
    """

    def __init__(self, objects: Objects, manifest: Manifest) -> None:
        """Prefer `Store.open`, which also compares every name and size with the manifest."""
        self.manifest = manifest
        self.objects = VerifiedObjects(objects, manifest)
        self.plan: dict[str, Any] = self.objects.read_json(PLAN)
        self.schema = Schema.from_plan(self.plan)
        if f"{self.schema.measure.prefix}_mean" not in manifest.certificate:
            raise CorruptStoreError(f"{self.name}: the certificate is not one of {self.schema.target}")
        self.codec = self._load_codec()
        self._targets = self.schema.target_arrays(self.codec)
        self._samples = self.schema.sample_layouts(self._array("samples/key_bytes").shape[0])
        self._check_metadata()

    @classmethod
    def open(cls, location: str | Path | Objects) -> Store:
        """The store at a folder or URL.

        Raises MissingStoreError where there is none, UnfinishedStoreError where its build has not ended,
        CorruptStoreError naming an object that is missing, extra, of another size, or (metadata only, here) of other
        content than the manifest says; StoreError for a newer format. One listing and a dozen small reads.
        """
        objects = open_objects(location)
        manifest = read_manifest(objects)
        for difference in differences(objects, manifest):
            if not difference.harmless:
                raise CorruptStoreError(f"{objects.name}: {difference}; {advice_on(difference, objects.name)}")
        return cls(objects, manifest)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (self.objects.objects, self.manifest.digest))

    @property
    def name(self) -> str:
        """Where it lies, for messages."""
        return self.objects.objects.name

    @property
    def num_samples(self) -> int:
        return self.schema.num_samples

    @property
    def num_units(self) -> int:
        return self.schema.num_units

    @property
    def unit_rows(self) -> int:
        return self.schema.unit_rows

    @property
    def num_rows(self) -> int:
        return self.schema.num_rows

    @property
    def num_views(self) -> int:
        return self.schema.num_views

    @property
    def first_view(self) -> int:
        """The policy's view that is view 0 here; the others follow it."""
        return self.schema.first_view

    @property
    def num_channels(self) -> int:
        """C: classes of logits, or dimensions of features."""
        return self.schema.num_channels

    @property
    def target(self) -> str:
        """What is kept of the teacher: "logits", "dense-logits", "global-features" or "patch-features"."""
        return self.schema.target

    @property
    def shape(self) -> TargetShape:
        """Of one target."""
        return self.schema.shape

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Of one target as it is read: (C,), or (N, C) for a map of N = h * w cells, row by row."""
        return self.schema.shape.item_shape

    @property
    def map_size(self) -> tuple[int, int] | None:
        """(h, w) cells of a map; None for rows."""
        shape = self.schema.shape
        return (shape.height, shape.width) if isinstance(shape, MapShape) else None

    @property
    def units(self) -> tuple[tuple[int, int, int], ...]:
        """(shard, start, stop) of every unit, in positions of the listing."""
        return self.schema.units

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.schema.class_names

    @property
    def policy_json(self) -> dict[str, Any]:
        return dict(self.plan["policy"])

    @property
    def measure(self) -> Measure:
        """By which fidelity was promised and certified."""
        return self.schema.measure

    @property
    def temperature(self) -> float | None:
        """Of the measure of logits; None for features."""
        measure = self.schema.measure
        return measure.temperature if isinstance(measure, Divergence) else None

    def states(self) -> NDArray[np.uint8]:
        """(rows,) 0 ok, 1 padding, 2 skipped."""
        return self._column("state", 0, self.num_rows)

    def keys(self, start: int, stop: int) -> list[str]:
        """Keys of the samples at listing positions `start..stop`."""
        self._check_range(start, stop)
        if start == stop:
            return []
        offsets = self._column("key_offsets", start, stop + 1).tolist()
        (num_key_bytes,) = self._samples["key_bytes"].shape
        ordered = all(0 <= second - first <= MAX_KEY_BYTES for first, second in pairwise(offsets))
        if not ordered or offsets[-1] > num_key_bytes:
            path = self._samples["key_offsets"].object_path(0)
            raise self.objects.error(path, "offsets go back, too far, or past the keys' end")
        text = self._column("key_bytes", offsets[0], offsets[-1]).tobytes()
        ends = [offset - offsets[0] for offset in offsets]
        return [text[first:second].decode("utf-8", "surrogateescape") for first, second in pairwise(ends)]

    def sha64(self) -> NDArray[np.uint64]:
        """(N,) the first 64 bits of every image file's SHA-256, in listing order."""
        return self._column("sha64", 0, self.num_samples)

    def image_sizes(self) -> NDArray[np.int32]:
        """(N, 2) width and height in px from the files' headers, in listing order; 0 where unreadable."""
        sides = [self._column(name, 0, self.num_samples) for name in ("width", "height")]
        return np.stack(sides, axis=1)

    def read_targets(self, unit: int, view: int) -> NDArray[np.float32]:
        """(U, *item_shape) decoded targets of one view of a unit; padding and skipped rows hold no meaning.

        They equal the teacher's up to the certified error, and logits up to a constant per row (or cell). Raises
        IndexError, CorruptStoreError.
        """
        if not (0 <= unit < self.num_units and 0 <= view < self.num_views):
            raise IndexError(f"unit {unit}, view {view} of {self.num_units} units x {self.num_views} views")
        parts = _ViewParts(self.objects, self._targets, unit, view)
        try:
            return decode_finite(self.codec, parts)
        except ValueError as error:
            path = next(iter(self._targets.values())).object_path(unit)
            raise self.objects.error(path, f"unit {unit}, view {view}: {error}") from error

    def probes(self) -> tuple[dict[str, Any], NDArray[np.uint8]] | None:
        """The replay fingerprint: its JSON document and the (K, S, S, 3) kept pixels; None where there is none."""
        if PROBES not in self.manifest.objects:
            return None
        return self.objects.read_json(PROBES), self.objects.whole(self._array("probes/pixels"))

    def layouts(self) -> list[ArrayLayout]:
        """Every array of the store."""
        layouts = planned_layouts(self.schema, self.codec, self._samples["key_bytes"].shape[0])
        return layouts + ([self._array("probes/pixels")] if PROBES in self.manifest.objects else [])

    @property
    def target_arrays(self) -> dict[str, TargetArray]:
        return dict(self._targets)

    def _array(self, path: str) -> ArrayLayout:
        return self.objects.layout(path)

    def _load_codec(self) -> TargetCodec:
        for layout in self.schema.calibration_layouts().values():
            self.objects.check(layout.object_path(*[0] * len(layout.shape)))
        calibration = read_calibration(self.objects.objects, self.schema)
        return self.schema.codec(calibration)

    def _check_metadata(self) -> None:
        """What any Zarr reader believes must be what the plan says, or the two would read different values."""
        probes = [PROBES, "probes/zarr.json"] if PROBES in self.manifest.objects else []
        for path in (UNITS, *probes):
            self.objects.check(path)
        for path, reason in wrong_metadata(self.objects.read, self.schema, self.codec, self.layouts()):
            raise self.objects.error(path, reason)

    def _column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        return self.objects.column(self._samples[name], start, stop)

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.num_samples:
            raise IndexError(f"samples {start}..{stop} of {self.num_samples}")


class _ViewParts(Mapping[str, NDArray[Any]]):
    """A view's part of each target array, read when the codec asks for it; all objects are hashed at once."""

    def __init__(self, objects: VerifiedObjects, arrays: Mapping[str, TargetArray], unit: int, view: int) -> None:
        self.objects, self.arrays, self.unit, self.view = objects, arrays, unit, view
        for array in arrays.values():
            objects.index(array.layout, array.object_path(unit))

    def __getitem__(self, name: str) -> NDArray[Any]:
        array = self.arrays[name]
        path = array.object_path(self.unit)
        return array.view_part(self.objects.chunks_of(array.layout, path, array.chunk_indices(self.view)))

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


def _reopen(objects: Objects, digest: str) -> Store:
    store = Store.open(objects)
    if store.manifest.digest != digest:
        raise CorruptStoreError(f"{store.name} was replaced by another store while it was in use: start again")
    return store
