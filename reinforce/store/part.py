"""A store, finished or not, as what it holds of its plan: the same questions to both, for merging and comparing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import CorruptStoreError, UnfinishedStoreError
from reinforce.store.canonical import parse_object, sha256_hex
from reinforce.store.fixed import fixed_paths, planned_layouts, wrong_metadata
from reinforce.store.layout import ArrayLayout
from reinforce.store.manifest import Manifest, read_manifest
from reinforce.store.marker import UnitMarker, check_rows, read_marker, unit_paths
from reinforce.store.objects import Objects
from reinforce.store.reader import Store
from reinforce.store.records import read_records, restored_marker
from reinforce.store.schema import MANIFEST, PLAN, PROBES
from reinforce.store.unfinished import UnfinishedStore
from reinforce.store.verified import hash_object
from reinforce.store.writer import decode_view


class StorePart:
    """Units are compared and checked by what their commit wrote: of a finished store its manifest and records say the
    same as the markers of an unfinished one."""

    def __init__(self, objects: Objects) -> None:
        """Raises MissingStoreError, CorruptStoreError, UnfinishedStoreError where not even the plan's objects are all
        there."""
        self.objects = objects
        self.begun = UnfinishedStore(objects)
        self.plan, self.schema = self.begun.plan, self.begun.schema
        try:
            self.codec = self.begun.codec()
            self.fixed = fixed_paths(objects, self.schema, self.codec)
        except FileNotFoundError:
            raise UnfinishedStoreError(
                f"{objects.name} was only just begun: type the 'reinforce build' that began it again, with --resume"
            ) from None
        self._finished = Store(objects, read_manifest(objects)) if objects.exists(MANIFEST) else None
        self._records = read_records(self._finished.objects, self.schema) if self._finished else []

    @property
    def name(self) -> str:
        return self.objects.name

    @property
    def manifest(self) -> Manifest | None:
        """None where the store is not finished."""
        return None if self._finished is None else self._finished.manifest

    def marker(self, unit: int) -> UnitMarker | None:
        """None where the unit is not done. Raises CorruptStoreError for a marker that is none of this plan's."""
        if self._finished is not None:
            return restored_marker(self._finished.objects, self.schema, self.codec, self._records[unit])
        marker = read_marker(self.objects, unit)
        if marker is not None:
            check_rows(self.schema, marker, self.name)
            if set(marker.objects) != set(unit_paths(self.schema, self.codec, unit)):
                raise CorruptStoreError(f"{self.name}: the marker of unit {unit} lists objects of another plan")
        return marker

    def markers(self) -> Iterator[UnitMarker | None]:
        """Of every unit in order. Raises as `marker`."""
        return (self.marker(unit) for unit in range(self.schema.num_units))

    def digests(self) -> dict[str, str]:
        """SHA-256 of every object by path: as the manifest says, or where there is none what the plan fixes (hashed
        now) and what markers say. Raises as `marker`."""
        if self.manifest is not None:
            return {path: digest.sha256 for path, digest in self.manifest.objects.items()}
        units = (marker.objects for marker in self.markers() if marker is not None)
        digests = {path: digest.sha256 for objects in units for path, digest in objects.items()}
        return digests | {path: hash_object(self.objects, path) for path in (PLAN, *self.fixed)}

    def contents(self, marker: UnitMarker) -> dict[str, bytes]:
        """A unit's objects, by path. Raises CorruptStoreError naming one that is not what its marker says."""
        return {path: self._checked(path, marker) for path in sorted(marker.objects)}

    def targets(self, marker: UnitMarker, contents: Mapping[str, bytes], view: int) -> NDArray[np.float32]:
        """(U, *item_shape) of one view of a unit whose `contents` were read. Raises CorruptStoreError."""
        try:
            return decode_view(self.schema, self.codec, marker.unit, contents, view)
        except ValueError as error:
            raise CorruptStoreError(f"{self.name}: unit {marker.unit}, view {view}: {error}") from error

    def check_metadata(self) -> None:
        """Raises CorruptStoreError where metadata are not what the plan says, or no JSON."""
        read = self.objects.get
        if PROBES in self.fixed:
            parse_object(read(PROBES), PROBES)
        key_bytes = ArrayLayout.parse("samples/key_bytes", read("samples/key_bytes/zarr.json"))
        layouts = planned_layouts(self.schema, self.codec, key_bytes.shape[0])
        for path, reason in wrong_metadata(read, self.schema, self.codec, layouts):
            raise CorruptStoreError(f"{self.name}: {path}: {reason}")

    def _checked(self, path: str, marker: UnitMarker) -> bytes:
        expected = marker.objects[path]
        try:
            if (size := self.objects.size(path)) != expected.num_bytes:
                raise CorruptStoreError(f"{self.name}: {path}: has {size} bytes, not {expected.num_bytes}")
            data = self.objects.get(path)
        except FileNotFoundError:
            raise CorruptStoreError(f"{self.name}: {path}: missing") from None
        if sha256_hex(data) != expected.sha256:
            raise CorruptStoreError(f"{self.name}: {path}: its SHA-256 is not the one that it was committed with")
        return data
