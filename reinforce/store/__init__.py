"""Plain Zarr v3 stores of targets: written unit by unit, verified on reading. Needs neither torch nor a teacher."""

from reinforce.licences import UNKNOWN, Licences
from reinforce.store.canonical import canonical_json
from reinforce.store.choose import Choice, CodecRequest, bytes_per_view, calibrate, check_codec
from reinforce.store.codecs import (
    CODECS,
    TargetCodec,
    codec_record,
    load_codec,
    named_codec,
)
from reinforce.store.differing import differing_members, member
from reinforce.store.fidelity import FidelityStats
from reinforce.store.finalize import finalize
from reinforce.store.grown import GrownUnits
from reinforce.store.manifest import Manifest, read_manifest
from reinforce.store.marker import SkippedRow, UnitMarker, claim_path, commit_unit, marker_path, read_marker
from reinforce.store.measures import CosineDistance, Divergence, Measure
from reinforce.store.objects import LocalObjects, ObjectExistsError, Objects
from reinforce.store.places import local_folder, open_objects
from reinforce.store.promise import EncodedUnit, Promise, encode_within
from reinforce.store.reader import Store
from reinforce.store.schema import MANIFEST, PLAN, PROBES, STATE_OK, STATE_PADDING, STATE_SKIPPED, Schema
from reinforce.store.shapes import (
    DENSE_LOGITS,
    EMBEDDINGS,
    FEATURES,
    GLOBAL_FEATURES,
    LOGITS,
    PATCH_FEATURES,
    TEXT_FEATURES,
    MapShape,
    RowShape,
    TargetShape,
)
from reinforce.store.targets import TargetReader
from reinforce.store.unfinished import UnfinishedStore
from reinforce.store.verify import Report, check_common, verify
from reinforce.store.writer import (
    SampleColumns,
    create_store,
    decode_unit,
    encode_unit,
    plan_objects,
    probe_objects,
    write_probes,
)

__all__ = [
    "CODECS",
    "DENSE_LOGITS",
    "EMBEDDINGS",
    "FEATURES",
    "GLOBAL_FEATURES",
    "LOGITS",
    "MANIFEST",
    "PATCH_FEATURES",
    "PLAN",
    "PROBES",
    "STATE_OK",
    "STATE_PADDING",
    "STATE_SKIPPED",
    "TEXT_FEATURES",
    "UNKNOWN",
    "Choice",
    "CodecRequest",
    "CosineDistance",
    "Divergence",
    "EncodedUnit",
    "FidelityStats",
    "GrownUnits",
    "Licences",
    "LocalObjects",
    "Manifest",
    "MapShape",
    "Measure",
    "ObjectExistsError",
    "Objects",
    "Promise",
    "Report",
    "RowShape",
    "SampleColumns",
    "Schema",
    "SkippedRow",
    "Store",
    "TargetCodec",
    "TargetReader",
    "TargetShape",
    "UnfinishedStore",
    "UnitMarker",
    "bytes_per_view",
    "calibrate",
    "canonical_json",
    "check_codec",
    "check_common",
    "claim_path",
    "codec_record",
    "commit_unit",
    "create_store",
    "decode_unit",
    "differing_members",
    "encode_unit",
    "encode_within",
    "finalize",
    "load_codec",
    "local_folder",
    "marker_path",
    "member",
    "named_codec",
    "open_objects",
    "plan_objects",
    "probe_objects",
    "read_manifest",
    "read_marker",
    "verify",
    "write_probes",
]
